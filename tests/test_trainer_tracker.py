"""What a run tells its tracker: every epoch's terms, every session's figures, each once, also after a cut."""

import re
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import trainer
from tests.forgetting import MIXED, STREAM
from tests.support import ADAPTER, SIMPLE, assert_same_run, cut_after_writing, experiment, lethe, log_of, only_run

SHORT = MIXED | {"sessions": STREAM[:2]}


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    """A figure takes as long as a run."""
    monkeypatch.setattr(trainer.plots, "curves", lambda *_: None)
    monkeypatch.setattr(trainer.request_plots, "requests", lambda *_: None)


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    """Name → (step, value) of every scalar in a run's event files, each once."""
    read = EventAccumulator(str(folder / "tracker"), size_guidance={"scalars": 0})
    read.Reload()
    return {tag: sorted({(e.step, e.value) for e in read.Scalars(tag)}) for tag in read.Tags()["scalars"]}


def test_the_tracker_is_told_what_the_log_says(workplace):
    assert lethe("--config", experiment(SHORT, tracker="tensorboard")) == 0
    folder = only_run()
    found = scalars(folder)
    epochs = re.findall(r"Task (\d), Epoch .* => Loss ([\d.]+) \((\w+): (.*)\)$", log_of(folder), re.M)
    said = {
        (f"{phase}/{term}", value)
        for *_, phase, terms in epochs
        for term, value in re.findall(r"(\w+) (-?[\d.]+)", terms)
    }
    said |= {(f"{phase}/total", loss) for _, loss, phase, _ in epochs}
    told = {
        (name, f"{value:.3f}")
        for name, pairs in found.items()
        for _, value in pairs
        if name.split("/")[0] not in ("session", "request")
    }
    assert said == told and len(said) > 4
    steps = [step for step, _ in found["session"]]
    assert steps == list(range(1, len(epochs) + 3))  # every epoch, and both sessions
    after = {name: pairs[-1][1] for name, pairs in found.items()}
    top1 = re.findall(r"CNN top1 curve: \[(.*)\]", log_of(folder))[-1].split(", ")
    assert [round(value, 2) for _, value in found["session/fine_top1"]] == [float(value) for value in top1]
    assert f"Quality {round(after['request/quality'], 2)}" in log_of(folder)


def test_a_run_that_was_cut_tells_the_same(workplace, monkeypatch):
    assert lethe("--config", experiment(SHORT, tracker="tensorboard", logs="whole")) == 0
    with monkeypatch.context() as patch:
        cut_after_writing(patch)
        words = ("--config", experiment(SHORT, tracker="tensorboard"))
        codes = [lethe(*words), *(lethe(*words, "--resume") for _ in range(20))]
    assert codes[-1] == 0 and codes.index(0) > 5
    whole, cut = (only_run(workplace / logs) for logs in ("whole", "logs"))
    assert_same_run(whole, cut)
    one, other = (without_seconds(scalars(folder)) for folder in (whole, cut))
    assert one == other


def without_seconds(found: dict) -> dict:
    return {name: pairs for name, pairs in found.items() if name != "session/seconds"}


def test_a_tracker_changes_no_figure_and_a_new_run_begins_anew(workplace):
    assert lethe("--config", experiment(ADAPTER, logs="quiet")) == 0
    assert lethe("--config", experiment(ADAPTER, tracker="tensorboard")) == 0
    folder = only_run()
    assert_same_run(only_run(workplace / "quiet"), folder)
    assert not (only_run(workplace / "quiet") / "tracker").exists()
    (file,) = (folder / "tracker").iterdir()
    assert lethe("--config", "experiment.json") == 0
    assert [other != file for other in (folder / "tracker").iterdir()] == [True]


def test_a_missing_package_is_said_before_anything_is_done(workplace, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "python -m pip install wandb" in refused("--config", experiment(SIMPLE, tracker="WandB"))
    assert "tensorboard" in refused("--config", experiment(SIMPLE, tracker="mlflow"))
    assert not (workplace / "logs").exists()


def test_a_tracker_is_closed_when_a_run_fails(workplace, monkeypatch):
    ends = []
    monkeypatch.setattr("utils.tracker.TensorBoard.end", lambda self: ends.append(self.writer.close()))
    assert lethe("--config", experiment(ADAPTER, tracker="tensorboard", max_loss=1e-9)) == 2
    assert len(ends) == 1
