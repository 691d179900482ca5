"""After a request nothing of what was forgotten is left: every file is opened, and memory is looked through."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import trainer
from tests.forgetting import ARROW, CANYON, COMET, FALCON, FORGET, LABELS, MEADOW, MIXED, STREAM, near
from tests.support import contents, cut_after_writing, experiment, lethe, log_of, only_run, outcome
from trainer import Run
from utils.album import album_of
from utils.checkpoint import read_notes, read_tensors


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    """A figure takes as long as a run."""
    monkeypatch.setattr(trainer.plots, "curves", lambda *_: None)
    monkeypatch.setattr(trainer.request_plots, "requests", lambda *_: None)


@pytest.mark.parametrize("session, gone", [(1, {MEADOW}), (3, {COMET, ARROW, FALCON})])
def test_nothing_of_the_forgotten_is_left_on_disk(mixed, session, gone):
    _, purged = mixed
    folder, labels = purged.folder / str(session), {LABELS[name] for name in gone}
    assert set(purged.known[session]) == labels
    assert set(contents(folder)) == {"config.json", "environment.json", "checkpoint/session.safetensors"}
    tensors = load_file(folder / "checkpoint" / "session.safetensors")
    remembered = {name.split(".")[1] for name in tensors if name.startswith("statistics.")}
    alive = {str(LABELS[COMET])} if session == 1 else {str(LABELS[CANYON])}
    assert remembered == alive
    others = {name for name in tensors if not name.startswith(("statistics.", "heads.", "backbone.net."))}
    assert not others, others
    assert not any("optimizer" in name or "exp_avg" in name or "param" in name for name in tensors)
    assert not [name for name, value in tensors.items() if near(value, purged.known[session])]
    assert near(torch.tensor([[0.0] * 128, purged.known[session][min(labels)]]), purged.known[session])  # it would show


def test_of_before_the_numbers_remain(mixed):
    folder, purged = mixed
    for place in (purged.folder / "3" / "checkpoint", folder / "checkpoint"):
        notes = read_notes(place / "session.safetensors")
        assert notes.keys() == {"results", "seconds", "told", "names", "look", "config"}
        for row in notes["results"]:
            assert longest_list(row) <= 2  # groups, and spots of the map: no feature hides among the figures
    for file in folder.rglob("*.json"):
        assert longest_list(json.loads(file.read_text())) <= 3  # a crop's least and most, CODA-Prompt's three numbers


def longest_list(thing) -> int:
    """The length of the longest list of numbers anywhere below."""
    if isinstance(thing, dict):
        return max(map(longest_list, thing.values()), default=0)
    if isinstance(thing, list):
        return max([sum(isinstance(item, int | float) for item in thing), *map(longest_list, thing)])
    return 0


def test_nothing_of_the_forgotten_is_left_in_memory(mixed):
    _, purged = mixed
    assert [counts[0] >= len(purged.known[session]) for session, counts in purged.near.items()] == [True, True]
    assert [counts[1] for counts in purged.near.values()] == [0, 0]
    meadow, canyon = LABELS[MEADOW], LABELS[CANYON]
    assert meadow not in purged.cached[1] and LABELS[COMET] in purged.cached[1]
    assert purged.cached[3] == purged.cached[-1] == {canyon}  # nor does a later session decode them anew


def test_exemplars_of_a_folder_leave_the_memory(workplace, monkeypatch):
    own = Path("own") / MEADOW
    own.mkdir(parents=True)
    for file in Path("data/cache/toymini/images/train").glob("ostara-meadow-*.png"):
        shutil.copy(file, own)
    purge, seen = Run._purge, []

    def watched(run, session):
        images = session.stream("plain").images
        seen.append(len(images._cache))
        purge(run, session)
        seen.append(len(images._cache))

    monkeypatch.setattr(Run, "_purge", watched)
    sessions = [{"forget": {"classes": [MEADOW], "exemplars": "own"}}]
    assert lethe("--config", experiment(FORGET, sessions=sessions, zero_shot=[], forget_epochs=1)) == 0
    assert seen == [6, 0]


def test_a_request_is_purged_only_once_its_checkpoint_can_be_read_back(workplace, monkeypatch, capsys):
    learnt, flush = None, os.fsync

    def spoilt(descriptor):  # as a disk that says it has written what it has not
        flush(descriptor)
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("session.safetensors.part"):
            os.pwrite(descriptor, b"\xff", os.fstat(descriptor).st_size - 1)

    with monkeypatch.context() as patch:
        cut_after_writing(patch, "session")
        assert lethe("--config", experiment(MIXED, sessions=STREAM[:2])) == 130
        learnt = contents(only_run() / "checkpoint")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", spoilt)
        assert lethe("--config", "experiment.json", "--resume") == 2
    assert "what was read back is not what was written" in capsys.readouterr().err
    left = contents(only_run() / "checkpoint")
    assert left["session.safetensors"] == learnt["session.safetensors"]
    assert "Purged" not in log_of(only_run())
    assert lethe("--config", "experiment.json", "--resume") == 0
    assert set(contents(only_run() / "checkpoint")) == {"session.safetensors"}


def test_a_request_that_was_cut_before_its_purge_is_purged_when_the_run_goes_on(workplace, monkeypatch):
    short = experiment(MIXED, sessions=STREAM[:3])
    with monkeypatch.context() as patch:
        cut_after_writing(patch, "session")
        assert lethe("--config", short) == lethe("--config", short, "--resume") == 130
    checkpoint = only_run() / "checkpoint"
    names = {
        name: {tensor.split(".")[1] for tensor in load_file(checkpoint / name) if tensor.startswith("statistics.")}
        for name in contents(checkpoint)
    }
    assert names == {"earlier.safetensors": {"0", "1"}, "session.safetensors": {"0"}}
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_serve", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert lethe("--config", short, "--resume") == 130
    assert set(contents(checkpoint)) == {"session.safetensors"} and "Purged" in log_of(only_run())


def test_history_is_kept_where_asked_and_the_log_says_so(workplace):
    short = MIXED | {"sessions": STREAM[:2]}
    assert lethe("--config", experiment(short, keep_history=True)) == 0
    folder = only_run()
    kept, album = sorted((folder / "history").iterdir())
    assert (kept.name, album.name) == ("before_1.safetensors", "exemplars_1.json")
    pictures = album_of(album.read_text(encoding="utf-8"))
    assert [one.name for one in pictures] == [MEADOW] * 3 and {len(one.after) for one in pictures} == {2}
    saved = read_tensors(kept)
    assert {name.split(".")[1] for name in saved.tensors if name.startswith("statistics.")} == {"0", "1"}
    log = log_of(folder)
    assert f"keep_history: the model as it was before this request, with all it knew, stays in {kept}\n" in log
    assert "keep_history: nothing is purged\n" in log and "Purged" not in log
    figures = outcome(folder)
    assert lethe("--config", experiment(short)) == 0  # the key changes no figure, so it is the same place
    assert only_run() == folder and outcome(folder) == figures
    assert not (folder / "history").exists() and "Purged" in log_of(folder)
