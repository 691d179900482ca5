"""Trackers: what they are told arrives, in the form that their packages take it in."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.utils.invented import mixed, stream
from utils.errors import ConfigError
from utils.tracker import TRACKERS, Tracker, get_tracker, of_epoch, of_session

CONFIG = {"dataset": "toycars", "sessions": [{"learn": 1}], "weights": None}


class Fake:
    """A package as wandb, swanlab and trackio are: `init` gives a run with `log` and `finish`; it notes every call."""

    Settings = staticmethod(lambda **given: given)

    def __init__(self, *takes: str):
        self.takes, self.inits, self.logs, self.finished = set(takes), [], [], 0

    def init(self, project, name=None, config=None, **given):
        assert given.keys() <= self.takes
        self.inits.append({"project": project, "name": name, "config": config, **given})
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, data, step=None):
        self.logs.append((step, data))

    def finish(self):
        self.finished += 1


def told(name: str, folder: Path, resumed: bool = False) -> None:
    """Tell a tracker of two steps."""
    tracker = get_tracker(name, folder / "run", folder)
    tracker.start("adapter/toycars/1", CONFIG, resumed)
    tracker.log(1, {"session": 0, "adapt/ce": 0.5})
    tracker.log(2, {"session": 0, "adapt/ce": 0.25})
    tracker.end()


@pytest.fixture
def fake(monkeypatch):
    """A function that puts a fake package, with the options its `init` takes, where the real one would be."""

    def put(name: str, *takes: str) -> Fake:
        module = Fake(*takes)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    for variable in ("WANDB_MODE", "SWANLAB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TRACKIO_DIR", "")  # so that what a test sets is undone
    monkeypatch.delenv("TRACKIO_DIR")
    return put


def check(module: Fake, **expected) -> None:
    """One run, two steps, one end; and what `init` was given."""
    ((given,), logs) = module.inits, module.logs
    assert (given["project"], given["name"], given["config"]) == ("lethe", "adapter/toycars/1", CONFIG)
    assert {name: given[name] for name in expected} == expected
    assert logs == [(1, {"session": 0, "adapt/ce": 0.5}), (2, {"session": 0, "adapt/ce": 0.25})]
    assert module.finished == 1


def test_tensorboards_files_hold_every_figure(tmp_path):
    told("tensorboard", tmp_path)
    told("tensorboard", tmp_path, resumed=True)
    assert len(list((tmp_path / "run").iterdir())) == 2
    read = EventAccumulator(str(tmp_path / "run"))
    read.Reload()
    assert set(read.Tags()["scalars"]) == {"session", "adapt/ce"}
    assert {(event.step, event.value) for event in read.Scalars("adapt/ce")} == {(1, 0.5), (2, 0.25)}
    assert '"dataset": "toycars"' in read.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()


def test_wandb_is_offline_and_below_the_runs_folder(fake, tmp_path, monkeypatch):
    takes = ("group", "dir", "mode", "reinit", "settings")
    module = fake("wandb", *takes)
    told("wandb", tmp_path)
    check(module, mode="offline", dir=str(tmp_path / "run"), group="adapter/toycars/1")
    assert (tmp_path / "run").is_dir()  # wandb takes another place where its folder is not there
    monkeypatch.setenv("WANDB_MODE", "online")
    module = fake("wandb", *takes)
    told("wandb", tmp_path, resumed=True)
    check(module, mode="online")


def test_swanlab_is_offline_and_below_the_runs_folder(fake, tmp_path, monkeypatch):
    module = fake("swanlab", "group", "log_dir", "mode")
    told("swanlab", tmp_path)
    check(module, mode="offline", log_dir=str(tmp_path / "run"), group="adapter/toycars/1")
    monkeypatch.setenv("SWANLAB_MODE", "local")
    module = fake("swanlab", "group", "log_dir", "mode")
    told("swanlab", tmp_path)
    check(module, mode="local")


@pytest.mark.parametrize(("resumed", "word"), [(False, "never"), (True, "allow")])
def test_trackio_has_one_store_and_goes_on_in_the_same_run(fake, tmp_path, resumed, word):
    module = fake("trackio", "resume", "embed", "auto_log_gpu", "auto_log_cpu")
    told("trackio", tmp_path, resumed)
    check(module, resume=word)
    assert os.environ["TRACKIO_DIR"] == str(tmp_path / "trackio") and (tmp_path / "trackio").is_dir()


def test_trackios_store_stays_where_its_own_variable_says(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", "elsewhere")
    fake("trackio", "resume", "embed", "auto_log_gpu", "auto_log_cpu")
    told("trackio", tmp_path)
    assert os.environ["TRACKIO_DIR"] == "elsewhere"


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_one_line_that_names_the_command(name, tmp_path, monkeypatch):
    for module in [key for key in sys.modules if key.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    monkeypatch.setenv("TRACKIO_DIR", "elsewhere")
    with pytest.raises(ConfigError) as caught:
        get_tracker(name, tmp_path / "run", tmp_path)
    assert f"key 'tracker': '{name}'" in str(caught.value) and f"python -m pip install {name}" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_without_a_tracker_nobody_is_told(tmp_path):
    tracker = get_tracker(None, tmp_path / "run", tmp_path)
    tracker.start("name", CONFIG)
    tracker.log(1, {"a": 1.0})
    tracker.end()
    assert type(tracker) is Tracker and not list(tmp_path.iterdir())


def test_an_epochs_terms_and_their_sum():
    assert of_epoch("adapt", {"ce": 0.5, "coarse": 0.25}) == {
        "adapt/ce": 0.5,
        "adapt/coarse": 0.25,
        "adapt/total": 0.75,
    }


def test_a_sessions_figures_that_are_known():
    learnt, _, plain = mixed().sessions
    assert of_session(replace(learnt, coarse=None)) == {
        "session/fine_top1": 90.0,
        "session/fine_top5": 99.5,
        "session/seconds": 1.5,
    }
    assert of_session(plain)["session/quality"] == 91.25 and of_session(plain)["session/coarse_top1"] == 85.0
    asked = of_session(stream("f").sessions[0])
    assert asked["request/qu"] == 98.73 and "request/past_fine" not in asked  # there was none: nan
