"""What several test files share: a small drawn data set, the embedded miniature, tiny models, a driver for learners."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from data.index import IndexedSet, Record, read_set, write_set
from models import LEARNERS

# inputs for the suite are the same ones every time; `--hypothesis-profile=thorough` looks for new ones
settings.register_profile(
    "suite",
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.register_profile("thorough", settings.get_profile("suite"), max_examples=600, derandomize=False)
settings.load_profile("suite")

PETS = (("dog", "beagle"), ("cat", "siamese"), ("dog", "poodle"), ("cat", "persian"), ("dog", "husky"))


@pytest.fixture(scope="session", autouse=True)
def single_precision():
    """`precision: auto` is fp32 on every machine, also where the processor multiplies bfloat16 faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.devices.CPUINFO", Path("no such file"))
        yield


@pytest.fixture
def learners_as_before():
    """What plugins add to the factory goes again."""
    before = dict(LEARNERS)
    yield
    LEARNERS.clear()
    LEARNERS.update(before)
    for name in [name for name in sys.modules if name.startswith("lethe_plugin_")]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def draw_set() -> Callable[..., IndexedSet]:
    """A function that writes a set of noisy 16 × 16 PNGs below a folder and reads its index.

    It takes the folder and optionally (coarse, fine) pairs, counts per split, and fine → count for single classes.
    """

    def draw(root: Path, classes=PETS, train: int = 5, test: int = 2, counts=None, aliases=None) -> IndexedSet:
        dice = np.random.default_rng(0)
        splits = {"train": [], "test": []}
        for split, usual in (("train", train), ("test", test)):
            for coarse, fine in classes:
                for number in range((counts or {}).get(fine, usual) if split == "train" else usual):
                    path = f"{coarse}-{fine}-{split}-{number}.png"
                    root.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(dice.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / path)
                    splits[split].append(Record(path, coarse, fine))
        write_set(root / "index", root, splits, aliases)
        return read_set("pets", root / "index")

    return draw


@pytest.fixture(scope="session")
def pets(draw_set, tmp_path_factory) -> IndexedSet:
    """Three dogs and two cats, mixed; five training and two test images each."""
    return draw_set(tmp_path_factory.mktemp("pets"))


@pytest.fixture(scope="session")
def toymini(tmp_path_factory) -> IndexedSet:
    """The embedded miniature, drawn into a cache of its own."""
    from data.registry import find_set

    folder = tmp_path_factory.mktemp("world")
    return find_set("toymini", folder / "sets", cache=folder / "cache")


@pytest.fixture(scope="session")
def tiny_sessions(toymini) -> Callable:
    """A function that cuts the miniature into learn sessions of so many classes, un-shuffled; images of 64 pixels."""
    from data.manager import DataManager
    from data.transforms import test_transform, train_transform
    from utils.requests import LearnRequest

    def cut(*counts: int, **grants: bool) -> list:
        look = (64, "bilinear")
        transforms = {"train": train_transform(*look, crop_scale=(0.3, 1.0)), "test": test_transform(*look, 1.0)}
        requests = [LearnRequest(classes=count) for count in counts]
        return DataManager(toymini, requests, shuffle=False, **transforms).sessions(**grants)

    return cut


@pytest.fixture
def tiny_model() -> Callable:
    """A function that builds a model over a random `tiny_vit` or `tiny_clip`, every time with the same weights."""
    import torch

    from convs.factory import build_backbone
    from convs.model import Model

    def build(name: str = "tiny_vit", seed: int = 0):
        torch.manual_seed(seed)
        return Model(build_backbone(name, "random"), templates=("a photo of a {}.", "my {}!"))

    return build


@pytest.fixture
def small_lit(monkeypatch) -> None:
    """Text towers of locked-image models at a size for tests."""
    monkeypatch.setattr(
        "convs.clip_models.LIT_TEXT", {"context_length": 16, "vocab_size": 49408, "width": 16, "layers": 1}
    )


@pytest.fixture
def recipe() -> Callable:
    """A function that makes a recipe: one epoch in one step unless said otherwise."""
    from utils.loop import Recipe

    return lambda **options: Recipe(**{"epochs": 1, "lr": 0.05, "batch_size": 64, **options})


@pytest.fixture
def train() -> Callable:
    """A function that takes a learner through a session and returns, per phase, its name and the parameters it moved.

    An optional `watch` is called with each phase before it is carried out.
    """
    import torch

    from utils.loop import fit
    from utils.seeds import seed_everything

    def follow(learner, session, watch=None) -> dict[str, set[str]]:
        moved = {}
        phases = learner.phases(session)
        for number in range(10):
            seed_everything("test", session.index, number)
            phase = next(phases, None)
            if phase is None:
                return moved
            before = {name: value.clone() for name, value in learner.model.state_dict().items()}
            if watch:
                watch(phase)
            fit(phase, seed=session.index)
            after = learner.model.state_dict()
            moved[phase.name] = {name for name in before if not torch.equal(before[name], after[name])}
        raise AssertionError("more than ten phases")

    return follow


@pytest.fixture
def workplace(tmp_path, tmp_path_factory):
    """A folder of its own to run experiments in, with the drawn world."""
    from tests.support import at_work

    with at_work(tmp_path, tmp_path_factory) as folder:
        yield folder


@pytest.fixture
def refused(workplace, capsys):
    """A function that expects the command line to be refused in one clear line and returns the reason."""

    from tests.support import lethe

    def run(*words) -> str:
        capsys.readouterr()
        assert lethe(*words) == 2
        out, err = capsys.readouterr()
        *before, last = err.removesuffix("\n").split("\n")
        assert last.startswith("lethe: ") and err.endswith("\n") and out == ""
        assert "Traceback" not in err and not any(line.startswith("lethe: ") for line in before)
        assert not list(Path().rglob("*.part"))
        return last.removeprefix("lethe: ")

    return run


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """A whole mixed run with its figures, and a copy of its folder right after each purge."""
    from tests.forgetting import MIXED, Purged
    from tests.support import at_work, experiment, lethe, only_run

    base = tmp_path_factory.mktemp("mixed")
    purged = Purged(base / "purged")
    with at_work(base / "work", tmp_path_factory), pytest.MonkeyPatch.context() as patch:
        purged.watch(patch)
        assert lethe("--config", experiment(MIXED)) == 0
    return base / "work" / only_run(base / "work" / "logs"), purged
