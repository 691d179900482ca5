"""`main.py audit`: the controls get their words, a table is left in the run, what cannot be audited is said."""

import json
from pathlib import Path

import pytest

import trainer
from tests.forgetting import FORGET, MIXED
from tests.support import at_work, experiment, lethe, only_run

PROMPTED = {"prompt_misspelt", "prompt_parent", "prompt_wordings", "retrieval_text", "retrieval_image"}


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """The folder of an audited run of the control."""
    base = tmp_path_factory.mktemp("audited")
    with at_work(base, tmp_path_factory), pytest.MonkeyPatch.context() as patch:
        for plots, name in ((trainer.plots, "curves"), (trainer.request_plots, "requests")):
            patch.setattr(plots, name, lambda *_: None)
        assert lethe("--config", experiment(FORGET, model_name="head_only")) == 0
        assert lethe("audit", only_run(), "--oracle", "random", "--device", "cpu") == 0
    return base / only_run(base / "logs")


def test_the_controls_get_their_words(audited):
    found = json.loads((audited / "audits.json").read_text())
    verdicts = {name: word.split(",")[0] for name, word in found["verdicts"].items()}
    assert verdicts == {"original": "not forgotten", "head_only": "hidden in the head", "oracle": "erased"}


def test_the_figures_tell_the_control_from_the_original_by_the_classifier_alone(audited):
    figures = json.loads((audited / "audits.json").read_text())["figures"]
    original, control, oracle = (figures[name] for name in ("original", "head_only", "oracle"))
    assert original.keys() == control.keys() == oracle.keys() and original.keys() >= PROMPTED
    assert (original["forget"], control["forget"]) == (100.0, 0.0) and control["forget_names"] == 100.0
    same = {name for name in original if name.startswith(("probe", "knn", "prototype", "prompt", "retrieval", "cka"))}
    assert len(same) > 10 and all(control[name] == pytest.approx(original[name]) for name in same)
    assert original["cka_gone"] == pytest.approx(1.0) and oracle["cka_gone"] < 0.9
    assert (oracle["gap"], oracle["tug_of_war"]) == (0.0, 1.0) and control["gap"] > 0
    assert all(0 <= value <= 100 for row in figures.values() for value in row.values() if value == value)


def test_the_table_has_a_row_a_figure_and_says_what_the_words_mean(audited):
    table = (audited / "audits.md").read_text()
    assert "|  | original | head_only | oracle |" in table and "| probe_few | " in table
    assert "| **verdict** | not forgotten | hidden in the head" in table and "- *suppressed*: " in table


def test_a_stream_that_learns_is_refused(refused):
    folder = Path("logs/run")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(MIXED))
    (folder / "summary.json").write_text("{}")
    assert "the stream has learn sessions" in refused("audit", folder)


def test_a_run_that_is_not_finished_is_refused(refused):
    folder = Path("logs/run")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(FORGET))
    assert "the run is not finished" in refused("audit", folder)


def test_no_run_at_all(refused):
    assert "nowhere" in refused("audit", "nowhere")
