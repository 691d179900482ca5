"""`main.py audit`, and audits that a run ends with: words, tables, what is computed once, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import audits.runs
import trainer
from audits import relearning
from data.decoding import PixelFolder
from data.registry import find_set
from tests.audits.test_table import cells
from tests.forgetting import FORGET, MEADOW, MIXED
from tests.support import at_work, experiment, lethe, only_run, without
from utils.config import Config, config_hash

PROMPTED = {"misspelt", "parent", "alias", "templates", "paraphrases"}
QUICK = ("--only", "accuracy", "prompts", "--device", "cpu")
# no text tower, several requests, retained images
LORA = without(FORGET, "tune", "templates") | {
    "model_name": "gs_lora_pp",
    "convnet_type": "tiny_vit",
    "zero_shot": [],
    "forget_epochs": 1,
    "sessions": [
        {"forget": {"classes": [name], "exemplars": 2, "retain": {"few": 2}}} for name in (MEADOW, "Veltro Comet")
    ],
}


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Runs without their figures, which nothing here looks at."""
    for plots, name in ((trainer.plots, "curves"), (trainer.request_plots, "requests")):
        monkeypatch.setattr(plots, name, lambda *_: None)
    monkeypatch.setattr(trainer.group_plots, "heat_map", lambda *_: None)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """The folder of an audited run of the control."""
    base = tmp_path_factory.mktemp("audited")
    with at_work(base, tmp_path_factory), pytest.MonkeyPatch.context() as patch:
        for plots, name in ((trainer.plots, "curves"), (trainer.request_plots, "requests")):
            patch.setattr(plots, name, lambda *_: None)
        patch.setattr(relearning, "RECIPE", replace(relearning.RECIPE, epochs=2))
        assert lethe("--config", experiment(FORGET, model_name="head_only")) == 0
        assert lethe("audit", only_run(), "--oracle", "random", "--device", "cpu") == 0
    return base / only_run(base / "logs")


def figures_of(folder: Path) -> dict[str, dict[str, float | None]]:
    return json.loads((folder / "audits.json").read_text(encoding="utf-8"))["figures"]


def test_the_controls_get_their_words(audited):
    found = json.loads((audited / "audits.json").read_text())
    verdicts = {name: word.split(",")[0] for name, word in found["verdicts"].items()}
    assert verdicts == {"original": "not forgotten", "head_only": "hidden in the head", "oracle": "erased"}


def test_the_figures_tell_the_control_from_the_original_by_the_classifier_alone(audited):
    original, control, oracle = (figures_of(audited)[name] for name in ("original", "head_only", "oracle"))
    assert original.keys() == control.keys() == oracle.keys()
    assert original.keys() >= {f"prompt_{kind}" for kind in PROMPTED} | {"retrieval_text", "retrieval_image"}
    assert (original["forget"], control["forget"]) == (100.0, 0.0) and control["forget_names"] == 100.0
    same = {name for name in original if name.startswith(("probe", "knn", "prototype", "prompt", "retrieval", "cka"))}
    assert len(same) > 10 and all(control[name] == pytest.approx(original[name]) for name in same)
    assert original["cka_gone"] == pytest.approx(1.0) and oracle["cka_gone"] < 0.9
    assert (oracle["gap"], oracle["tug_of_war"]) == (0.0, 1.0) and control["gap"] > 0
    known = {name: value for row in (original, control, oracle) for name, value in row.items() if value is not None}
    assert all(0 <= value <= 100 for name, value in known.items() if not name.endswith("_images"))


def test_retained_images_do_not_bring_back_what_the_head_hides(audited):
    original, control = (figures_of(audited)[name] for name in ("original", "head_only"))
    assert {original[name] for name in original if name.startswith("relearn")} == {0.0}
    assert control["relearn_retained_50"] is None and control["relearn_exemplars_50"] != 0.0


def test_the_table_has_a_row_a_figure_and_says_what_the_words_mean(audited):
    table = (audited / "audits.md").read_text()
    assert cells(table)[""] == ["original", "head_only", "oracle"] and "| probe_few | " in table
    assert "| **verdict** | not forgotten | hidden in the head" in table and "- *suppressed*: " in table


def test_seeds_and_learners_of_one_request_share_a_table_and_its_references(workplace, monkeypatch, capsys):
    looked, collect = [], audits.runs.collect
    monkeypatch.setattr(
        audits.runs, "collect", lambda learner, *rest: (looked.append(learner), collect(learner, *rest))[1]
    )
    assert lethe("--config", experiment(FORGET, model_name="head_only", seed=[1, 2])) == 0
    assert lethe("--config", experiment(FORGET, model_name="hinge", seed=[1, 2], forget_epochs=1)) == 0
    folders = sorted(file.parent for file in Path("logs").rglob("config.json"))
    capsys.readouterr()
    assert lethe("audit", *folders, "--out", "tables/audits.md", *QUICK) == 0
    text = capsys.readouterr().out
    assert Path("tables/audits.md").read_text() == text
    assert cells(text)[""] == ["original", "head_only", "hinge"] and cells(text)["forget"][0] == "100.0"
    assert "- hinge: seeds 1, 2" in text and "- head_only: seeds 1, 2" in text
    assert len(looked) == 2 + 4  # the original and the control, and every run's own model
    for folder in folders:
        assert figures_of(folder).keys() == {"original", "head_only", folder.parents[3].name}


def test_a_vit_that_served_several_requests_is_audited_without_prompts(workplace):
    assert lethe("--config", experiment(LORA, seed=1)) == 0
    assert lethe("audit", only_run(), "--only", "accuracy", "prompts", "probe", "--device", "cpu") == 0
    figures = figures_of(only_run())
    assert figures.keys() == {"original", "gs_lora_pp", "head_only"}
    assert figures["head_only"]["forget"] == 0.0  # both requests count
    assert figures["gs_lora_pp"].keys() == {"forget", "retain", "probe_full", "knn_full", "probe_few", "knn_few"}


# audits that a run ends with


def test_a_run_ends_with_its_audits_once(workplace, monkeypatch):
    config = experiment(FORGET, model_name="head_only", audit=["accuracy", "prompts"], oracle_weights="random")
    assert lethe("--config", config) == 0
    folder = only_run()
    assert figures_of(folder).keys() == {"original", "head_only", "oracle"}
    assert "prompt_misspelt" in (folder / "audits.md").read_text()
    monkeypatch.setattr(audits.runs.Auditor, "audit", lambda *_: pytest.fail("audited again"))
    assert lethe("--config", config, "--resume") == 0


def test_an_audit_puts_nothing_into_the_folder_of_decoded_images(workplace):
    asked = {"cache_dir": "pixels", "cache_gb": 0, "audit": ["accuracy"], "model_name": "head_only"}
    assert lethe("--config", experiment(FORGET | asked)) == 0
    toymini = find_set("toymini", Path("data/sets"))
    files = [toymini.file("train", at) for at, record in enumerate(toymini.splits["train"]) if record.fine == MEADOW]
    folder = PixelFolder(Path("pixels"), 1.0)
    assert figures_of(only_run())["original"]["forget"] > 0 and list(Path("pixels").glob("*/*.npy"))
    assert not any(folder.holds(file, None) for file in files)


def test_a_run_that_was_cut_before_its_audits_is_audited_when_it_is_resumed(workplace):
    assert lethe("--config", experiment(FORGET, model_name="head_only")) == 0
    assert not (only_run() / "audits.json").exists()
    assert lethe("--config", experiment(FORGET, model_name="head_only", audit=["accuracy"]), "--resume") == 0
    assert figures_of(only_run())["head_only"].keys() == {"forget", "retain", "forget_names"}


@pytest.mark.parametrize(
    ("settings", "changes", "reason"),
    [
        (FORGET, {"audit": ["probes"]}, "key 'audit': no audit 'probes'; did you mean 'probe'"),
        (MIXED, {"audit": ["probe"]}, "key 'audit': the stream has learn sessions"),
        (FORGET, {"audit": ["probe", "probe"]}, "audit"),
    ],
)
def test_audits_that_cannot_be_carried_out_are_refused_before_the_run(refused, settings, changes, reason):
    assert reason in refused("--config", experiment(settings, **changes))
    assert not Path("logs").exists()


def test_audits_change_no_hash():
    assert config_hash(Config(**FORGET)) == config_hash(Config(**FORGET, audit=["probe"]))


# what is refused


def left(settings: dict) -> Path:
    """The folder of a run that looks finished."""
    folder = Path("logs/run")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "summary.json").write_text("{}")
    return folder


def test_a_stream_that_learns_is_refused(refused):
    assert "logs/run: the stream has learn sessions" in refused("audit", left(MIXED))


def test_a_run_that_is_not_finished_is_refused(refused):
    (left(FORGET) / "summary.json").unlink()
    assert "the run is not finished" in refused("audit", "logs/run")


def test_no_run_at_all(refused):
    assert "nowhere" in refused("audit", "nowhere")
