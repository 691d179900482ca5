"""Runs that forget: what they leave, what cannot be asked, and that a run that was cut ends as if it had not been."""

import csv
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import trainer
from tests.forgetting import ARROW, CANYON, COMET, FALCON, FIVE, FORGET, LABELS, MEADOW, MIXED, STREAM
from tests.support import (
    SIMPLE,
    assert_same_run,
    at_work,
    contents,
    cut_after_writing,
    experiment,
    lethe,
    log_of,
    only_run,
    outcome,
    without,
)
from utils.checkpoint import write_tensors

FIGURES = ("forget_fine", "forget_coarse", "retain_fine", "retain_coarse", "adjacent_fine", "remote_fine")
FIGURES += ("quality", "utility", "qu", "zero_shot")


@pytest.fixture(scope="session")
def unlearned(tmp_path_factory):
    """The folder of a run that only forgets."""
    base = tmp_path_factory.mktemp("unlearned")
    with at_work(base, tmp_path_factory):
        assert lethe("--config", experiment(FORGET)) == 0
    return base / only_run(base / "logs")


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    """A figure takes as long as a run; those of the two whole runs are enough."""
    monkeypatch.setattr(trainer.plots, "curves", lambda *_: None)
    monkeypatch.setattr(trainer.request_plots, "requests", lambda *_: None)


def rows_of(file: Path) -> list[dict]:
    with file.open(encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


# a run that only forgets


def test_a_clip_that_was_never_taught_forgets(unlearned):
    folder = unlearned
    left = {"requests.csv", "classes.csv", "requests.png", "curves.png", "table.md", "summary.json"}
    assert left <= set(contents(folder)) and (folder / "requests.png").read_bytes().startswith(b"\x89PNG")
    ((row,), summary) = outcome(folder)
    assert (row["kind"], row["first"], row["last"], row["classes"]) == ("forget", 5, 5, [MEADOW])
    assert {name for figure in FIGURES for name in (figure, f"{figure}_before")} <= set(summary)
    for name in FIGURES:
        assert isinstance(summary[name], float) and isinstance(summary[f"{name}_before"], float)
    assert summary["forget_fine_before"] == 100.0 and summary["zero_shot_before"] > 80  # the shipped weights know it
    assert summary["forget_fine"] < 100 and summary["zero_shot.toymini"] == summary["zero_shot"]
    assert summary["accuracy_last"] == row["fine"]["top1"] == summary["retain_fine"]  # over the four alive
    assert row["fine"]["count"] == 16 and row["fine"]["groups"] == []
    (line,) = rows_of(folder / "requests.csv")
    assert (line["session"], line["level"], line["classes"]) == ("0", "fine", MEADOW)
    assert float(line["forget_fine"]) == summary["forget_fine"]
    assert float(line["forget_fine_before"]) == summary["forget_fine_before"]
    assert [(row["name"], row["role"]) for row in rows_of(folder / "classes.csv")] == [
        (ARROW, "remote"),
        (COMET, "remote"),
        (MEADOW, "forget"),
        (FALCON, "adjacent"),
        (CANYON, "adjacent"),
    ]
    log = log_of(folder)
    assert f"Forgetting (fine): {MEADOW}\n" in log and "Request (fine): forget_fine 100.0 -> " in log
    assert "Accuracy Matrix" not in log and "Learning on" not in log
    assert "## Requests" in (folder / "table.md").read_text()


def test_the_same_request_again_ends_the_same(unlearned, workplace):
    assert lethe("--config", experiment(FORGET)) == 0
    assert_same_run(only_run(), unlearned)


def test_everything_is_forgotten(workplace):
    changes = {"sessions": [{"forget": 5}], "model_name": "head_only", "zero_shot": []}
    assert lethe("--config", experiment(without(FORGET, "tune"), **changes)) == 0
    ((row,), summary) = outcome(only_run())
    assert row["fine"]["count"] == 0 and row["fine"]["top1"] is None
    assert summary["forget_fine_rows"] == 0 and summary["retain_fine"] is None


# a mixed stream


def test_what_a_mixed_stream_leaves(mixed):
    folder, _ = mixed
    assert {"requests.csv", "classes.csv", "requests.png", "curves.png"} <= set(contents(folder))
    assert {path.name for path in (folder / "checkpoint").iterdir()} == {"session.safetensors"}
    rows, summary = outcome(folder)
    assert [row["kind"] for row in rows] == ["learn", "forget", "learn", "forget"]
    assert [row["fine"]["count"] for row in rows] == [8, 4, 16, 4]  # four images of every class alive
    assert [len(row["fine"]["groups"]) for row in rows] == [1, 1, 2, 2]
    assert rows[3]["fine"]["groups"][0] is None  # nothing of the first session is alive
    assert [row["request"]["level"] if row["request"] else None for row in rows] == [None, "fine", None, "hybrid"]
    requests = rows_of(folder / "requests.csv")
    assert [(row["session"], row["level"]) for row in requests] == [("1", "fine"), ("3", "hybrid")]
    roles = {(row["session"], row["name"]): row["role"] for row in rows_of(folder / "classes.csv")}
    assert roles == {
        ("1", COMET): "adjacent",  # Ostara has no other child: the nearest rows are
        ("1", MEADOW): "forget",
        ("3", COMET): "forget",
        ("3", MEADOW): "past",
        ("3", ARROW): "forget",
        ("3", FALCON): "forget",
        ("3", CANYON): "adjacent",
    }
    last = {name for name in FIGURES if name not in ("zero_shot", "remote_fine")}
    assert all(summary[name] is not None and summary[f"{name}_before"] is not None for name in last)
    assert summary["forget_fine"] == float(requests[1]["forget_fine"])
    assert summary["past_fine"] is not None


def test_the_log_of_a_mixed_stream(mixed):
    log = log_of(mixed[0])
    asked = [
        line.split(" => ")[1] for line in log.splitlines() if "=> Forgetting (fine): O" in line or "(hybrid): V" in line
    ]
    assert asked == [f"Forgetting (fine): {MEADOW}", f"Forgetting (hybrid): Veltro, {FALCON}"]
    assert log.count("Learning on ") == 2 and log.count("Purged: statistics, earlier checkpoints") == 2
    assert "Learning on 0-2\n" in log and "Learning on 2-5\n" in log
    assert f"Class order: {', '.join(LABELS)}\n" in log


# resuming


def test_a_mixed_stream_cut_at_every_checkpoint_ends_the_same(mixed, workplace, monkeypatch):
    cut_after_writing(monkeypatch)
    codes = [lethe("--config", experiment(MIXED), "--resume")]
    while codes[-1] == 130 and len(codes) < 30:
        codes.append(lethe("--config", "experiment.json", "--resume"))
    # learn: the ends of its phases (one, later two) and its own; forget: besides, one epoch of its first phase
    assert codes == [130] * (2 + 4 + 3 + 4) + [0]
    assert_same_run(only_run(), mixed[0])


def test_phases_of_a_purged_session_do_not_outlive_the_next_start(workplace, monkeypatch):
    with monkeypatch.context() as patch:
        cut_after_writing(patch)
        for _ in range(2 + 4):  # up to the end of the first request
            assert lethe("--config", experiment(MIXED), "--resume") == 130
        left = only_run() / "checkpoint" / "phase_5.safetensors"
        write_tensors(left, {"param.0": torch.ones(1)}, {"session": 1})  # as if killed before it was dropped
        assert lethe("--config", "experiment.json", "--resume") == 130
    assert {file.name for file in left.parent.iterdir()} == {"session.safetensors", "phase_0.safetensors"}


# learning again


def test_a_forgotten_class_is_learned_again(workplace):
    again = [*STREAM[:2], {"learn": [MEADOW, ARROW]}, {"forget": [MEADOW]}, {"learn": [MEADOW]}]
    assert lethe("--config", experiment(MIXED, sessions=again, init_epochs=3, inc_epochs=6, forget_epochs=1)) == 0
    folder = only_run()
    rows, _ = outcome(folder)
    assert [row["fine"]["count"] for row in rows] == [8, 4, 12, 8, 12]
    assert [[value is not None for value in row["fine"]["groups"]] for row in rows] == [
        [True],
        [True],
        [True, True],
        [True, True],
        [True, True, True],
    ]
    assert rows[2]["fine"]["groups"][1] > 0 and rows[4]["fine"]["new"] > 0  # it is there again
    tensors = load_file(folder / "checkpoint" / "session.safetensors")
    assert {name.split(".")[1] for name in tensors if name.startswith("statistics.")} == {"0", "1", "2"}
    assert sum(len(value) for name, value in tensors.items() if name.startswith("heads.fine")) == 3  # no second row
    log = log_of(folder)
    assert "Learning on 1-3\n" in log and log.count(f"Learning again: {MEADOW}\n") == 2
    past = [row["role"] for row in rows_of(folder / "classes.csv") if row["name"] == MEADOW]
    assert past == ["forget", "forget"]


# other models, other sets


CLIP = MIXED | {"convnet_type": "tiny_clip", "known": "rest", "templates": ["{}", "a {}."]}
CLIP |= {"coarse_weight": 0.0}  # coarse rows are there nevertheless, and new parents need theirs
MAKES = [{"forget": [MEADOW]}, {"learn": [ARROW]}, {"forget": {"classes": ["Veltro"], "level": "coarse"}}]


def test_a_clip_learns_beside_what_it_knows(workplace, monkeypatch):
    settings = CLIP | {"sessions": MAKES, "exclude": [*FIVE, COMET], "forget_epochs": 1, "zero_shot": ["toymini"]}
    asked, examine = [], trainer.examine
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "examine", lambda *args: asked.append(args[1].index) or examine(*args))
        assert lethe("--config", experiment(settings, logs="whole")) == 0
    assert asked == [0, 0, 1, 2]  # the model before a request is the one that the session before it left
    rows, summary = outcome(only_run(Path("whole")))
    assert [row["fine"]["count"] for row in rows] == [8, 12, 8]
    assert [row["first"] for row in rows] == [3, 3, 4]  # the three that are known have the first labels
    assert summary["forget_coarse_before"] is not None and summary["forget_fine_text"] is not None
    cut_after_writing(monkeypatch, "session")
    assert [lethe("--config", experiment(settings), "--resume") for _ in range(4)] == [130, 130, 130, 0]
    assert_same_run(only_run(), only_run(Path("whole")))


@pytest.mark.parametrize("model_name", ["adapter", "relabeling"])
def test_a_set_of_one_level(workplace, draw_set, model_name):
    drawn = draw_set(Path("data/plain"), [(name, name) for name in "abcd"])
    shutil.copytree(drawn.folder, "data/sets/plain")
    (Path("data/sets/plain") / "set.json").write_text(json.dumps({"root": str(Path("data/plain").resolve())}))
    plain = {"dataset": "plain", "exclude": [], "sessions": [{"forget": ["c"]}], "weights": "random", "zero_shot": []}
    assert lethe("--config", experiment(FORGET, **plain, model_name=model_name, forget_epochs=1)) == 0
    ((row,), summary) = outcome(only_run())
    assert row["coarse"] is None and not any("coarse" in name for name in summary)
    assert summary["forget_fine"] is not None and row["fine"]["count"] == 6
    assert sorted(row["role"] for row in rows_of(only_run() / "classes.csv")) == ["adjacent"] * 3 + ["forget"]


# what cannot be asked


@pytest.fixture
def never_started(refused):
    """A function that expects an experiment to be refused before anything is written, and returns the reason."""

    def run(settings: dict, **changes) -> str:
        line = refused("--config", experiment(settings, **changes))
        assert not Path("logs").exists()
        return line

    return run


@pytest.mark.parametrize(
    "sessions, line",
    [
        (
            [{"forget": ["Ostara Medow"]}],
            "session 0 asks to forget 'Ostara Medow', but 'toymini' has no such class; did you mean 'Ostara Meadow'",
        ),
        (
            [{"forget": {"classes": ["Ostar"], "level": "coarse"}}],
            "session 0 asks to forget 'Ostar', but 'toymini' has no such coarse class; did you mean 'Ostara'?",
        ),
        (
            [{"forget": [MEADOW]}, {"forget": [FALCON, MEADOW]}],
            f"session 1 asks to forget '{MEADOW}', which session 0 has made the model forget already; drop it there",
        ),
        (
            [{"learn": [COMET]}, {"forget": [MEADOW]}],
            f"session 1 asks to forget '{MEADOW}', which is not known by then; learn it in an earlier session",
        ),
        (
            [{"learn": [COMET]}, {"learn": [COMET]}],
            f"session 1 asks to learn '{COMET}', which is known already, since session 0; drop it there, or forget it",
        ),
        (
            [{"learn": 2}, {"forget": 3}],
            "session 1 asks to forget 3 fine classes, but only 2 are known by then; ask for fewer",
        ),
    ],
)
def test_requests_that_make_no_sense(never_started, sessions, line):
    assert never_started(FORGET, model_name="adapter", sessions=sessions).startswith(line)


def test_a_baseline_of_unlearning_teaches_nothing(never_started):
    line = never_started(FORGET, sessions=[{"learn": [COMET]}, {"forget": [COMET]}])
    assert line.startswith(
        "key 'sessions': session 0 asks to learn, which learner 'hinge' cannot do; it serves: forget"
    )


def test_the_only_class_has_no_rival(never_started):
    line = never_started(FORGET, model_name="adapter", sessions=[{"learn": [COMET]}, {"forget": [COMET]}])
    assert line.startswith(f"key 'sessions': session 1 asks to forget '{COMET}', the only fine class known by then")


VIT = FORGET | {"convnet_type": "tiny_vit", "zero_shot": []}


def test_a_vit_of_random_weights_knows_no_class(never_started):
    line = never_started(VIT, weights="random")
    assert line == (
        f"the weights know no fine class '{ARROW}'; teach it in a learn session first, or choose an image–text model"
    )


def test_a_vit_of_random_weights_knows_no_general_set(never_started):
    line = never_started(MIXED, zero_shot=["toymini"])
    assert line.startswith(f"key 'zero_shot': 'toymini' cannot be measured; the weights know no fine class '{ARROW}'")
    assert never_started(MIXED, zero_shot=["toymni"]).startswith("key 'zero_shot': no set 'toymni' in data/sets/")
    assert never_started(MIXED, zero_shot=["food101"]).startswith("key 'zero_shot': 'food101' is not in data/sets/ yet")


def test_a_vit_is_asked_by_the_rows_of_its_weights(workplace):
    assert lethe("--config", experiment(VIT, zero_shot=["toymini"], forget_epochs=1)) == 0
    _, summary = outcome(only_run())
    assert summary["zero_shot_before"] > 80 and summary["forget_fine_before"] == 100.0
    assert summary["zero_shot"] is not None and summary["forget_fine_text"] is None  # there is no text tower


def test_settings_are_chosen_on_images_held_out_of_training(workplace):
    assert lethe("--config", experiment(SIMPLE, validation=0.5)) == 0
    (row,) = outcome(only_run())[0]
    assert row["fine"]["count"] == 2 * 3  # half of the six training images of each class
    assert math.isfinite(row["fine"]["top1"])
