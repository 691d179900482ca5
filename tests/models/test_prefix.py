"""What is frozen is computed once: the same figures, draws and weights as when it is computed every time."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import trainer
from convs.clip import ClipBackbone
from convs.ensemble import Ensemble
from convs.vit import VitBackbone
from models.prefix import compute_prefix
from tests.forgetting import FIVE, FORGET, MEADOW, MIXED
from tests.models.requests import cut, forget, shipped
from tests.support import ADAPTER, experiment, lethe, log_of, only_run, outcome, without

REQUEST = {"classes": [MEADOW], "exemplars": 4, "retain": {"few": 2}}
REPLAY = without(ADAPTER, "init_cls", "increment", "weights") | {
    "model_name": "gs_lora",
    "exclude": FIVE,
    "sessions": [{"forget": REQUEST}, {"forget": REQUEST | {"classes": 1}}],
    "forget_epochs": 2,
    "forget_lr": 1e-3,
    "forget_batch_size": 3,
}
# Adam makes much of the last digits of small gradients
SMOOTH = {"optimizer": "sgd", "init_lr": 0.01, "forget_optimizer": "sgd", "forget_lr": 0.01}
RUNS = {
    "adapters of a CLIP": FORGET | {"tune_blocks": 1},
    "LoRA of a CLIP": FORGET | {"tune": "lora", "tune_blocks": 2},
    "both towers": without(FORGET, "tune") | {"model_name": "adapter", "adapter_towers": "both", "tune_blocks": 2},
    "LoRA, images joined in a step": REPLAY | {"tune_blocks": 2},
    "learning and forgetting": MIXED | {"tune_blocks": 3},
}


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    monkeypatch.setattr(trainer.plots, "curves", lambda *_: None)
    monkeypatch.setattr(trainer.request_plots, "requests", lambda *_: None)


@pytest.fixture
def whole(monkeypatch) -> list[int]:
    """How many images each pass through a whole tower encoded."""
    seen: list[int] = []
    for kind in (ClipBackbone, VitBackbone):
        embed = kind.embed

        def watched(self, images, embed=embed):
            seen.append(len(images))
            return embed(self, images)

        monkeypatch.setattr(kind, "embed", watched)
    return seen


def numbers(value) -> list[float]:
    """All numbers in a JSON value, in their order."""
    if isinstance(value, dict | list):
        return [number for part in (value.values() if isinstance(value, dict) else value) for number in numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_the_same_without(name, workplace, whole):
    draws, counts = [], []
    for logs, room in (("once", 4.0), ("always", 0.0)):
        assert lethe("--config", experiment(RUNS[name] | SMOOTH, logs=logs, cache_gb=room)) == 0
        draws.append(torch.get_rng_state())
        counts.append(sum(whole))
        whole.clear()
    once, always = (only_run(Path(logs)) for logs in ("once", "always"))
    assert torch.equal(*draws)
    found = [numbers(list(outcome(folder))) for folder in (once, always)]
    assert found[0] == pytest.approx(found[1], rel=1e-5, abs=1e-6, nan_ok=True) and len(found[0]) > 20
    tensors = [load_file(folder / "checkpoint/session.safetensors") for folder in (once, always)]
    for key, value in tensors[1].items():
        torch.testing.assert_close(tensors[0][key], value, rtol=1e-4, atol=1e-6)
    learned = name == "learning and forgetting"
    assert counts[0] < counts[1] and (counts[0] > 0) == learned
    part = f"{4 - RUNS[name]['tune_blocks']} of 4 blocks are frozen"
    assert re.search(rf"{part}: computed once for \d+ images, \d+\.\d MB", log_of(once))
    assert re.search(rf"{part}: computed every time for \d+ images", log_of(always))


@pytest.fixture
def knowing_one(toymini):
    """A CLIP of which the last block takes adapters, everything frozen, and a request with retained images."""
    model = shipped("tiny_clip")
    model.backbone.requires_grad_(False)
    model.backbone.tune_blocks = 1
    request = forget("Ostara Meadow", exemplars=3, retain={"few": 2})
    return model, cut(toymini, request).sessions()[0]


def first_image(session, stream: str) -> torch.Tensor:
    return next(session.stream(stream).batches(1, 0))["image"]


def test_tokens_stand_in_the_place_of_images_and_go_with_the_weights(knowing_one):
    model, session = knowing_one
    backbone = model.backbone
    with torch.no_grad():
        expected = {name: backbone(first_image(session, name)) for name in ("plain", "retain_plain", "test")}
        compute_prefix(model, session, ())
        for name, features in expected.items():
            tokens = first_image(session, name)
            assert tokens.shape == (1, 65, 128)
            torch.testing.assert_close(backbone(tokens), features, rtol=1e-5, atol=1e-5)
        backbone.blocks[0].ln_1.weight.mul_(2)
    assert first_image(session, "plain").shape == (1, 3, 64, 64)


def test_a_purge_takes_the_tokens_of_what_was_forgotten(knowing_one):
    model, session = knowing_one
    compute_prefix(model, session, ())
    images = session.stream("plain").images
    size, item = images.used, session.stream("plain").items.tolist()
    session.purge()
    assert images.lacking(item) == item and size - images.used >= len(item) * 65 * 128 * 4
    kept = session.stream("retain_plain").items.tolist()
    assert images.lacking(kept) == []


def test_exemplars_and_retained_images_are_of_one_kind(knowing_one):
    """A step may join them: where the memory does not suffice for both, neither is replaced."""
    model, session = knowing_one
    images = session.stream("plain").images
    images.limit = 4 * 65 * 128 * 4  # of the 3 exemplars, and of 14 retained images
    compute_prefix(model, session, ())
    assert all(first_image(session, name).shape == (1, 3, 64, 64) for name in ("plain", "retain_plain"))
    assert first_image(session, "test").shape == (1, 65, 128)


@pytest.mark.parametrize(("room", "computed"), [(2000, True), (15, True), (5, False)])
def test_a_session_computes_the_same_whatever_came_before(toymini, room, computed):
    """The six exemplars of the second request have room, if what the first one showed is not in their way."""
    requests = forget("Ostara Meadow", exemplars=1, retain={"few": 2}), forget("Veltro Arrow", exemplars=6)
    found = []
    for begun in (0, 1):
        model = shipped("tiny_clip")
        model.backbone.requires_grad_(False)
        model.backbone.tune_blocks = 1
        first, second = cut(toymini, *requests).sessions()
        first.stream("plain").images.limit = room * 65 * 128 * 4
        for session in (first, second)[begun:]:
            compute_prefix(model, session, ())
            found.append([next(session.stream(name).batches(64, 0))["image"] for name in ("plain", "test")])
            session.purge()
    before, whole, resumed = found
    assert len(before[0]) == 1 and [len(images) for images in whole] == [6, len(before[1])]
    assert [images.dim() == 3 for images in whole] == [computed, True]
    assert all(map(torch.equal, whole, resumed))


def test_a_tower_that_learns_is_left_alone(knowing_one):
    model, session = knowing_one
    model.backbone.blocks[1].ln_1.weight.requires_grad_(True)
    compute_prefix(model, session, ())
    assert first_image(session, "plain").shape == (1, 3, 64, 64)


def test_another_tower_gets_images(knowing_one):
    model, session = knowing_one
    compute_prefix(model, session, ())
    model.backbone = Ensemble([model.backbone])
    assert first_image(session, "test").shape == (1, 3, 64, 64)


def test_more_blocks_than_there_are(refused):
    said = refused("--config", experiment(FORGET, tune_blocks=9))
    assert said == "key 'tune_blocks': 'tiny_clip' has 4 blocks, not 9"
