"""Pages of audits from invented figures: seeds, columns, what is flagged, what is not known."""

import json
import math
from pathlib import Path

import pytest

from audits.relearning import STEPS
from audits.runs import AuditedRun, has_audits, leave
from audits.table import page, pages
from utils.config import Config

SESSIONS = [{"forget": ["a"]}]
ORIGINAL, CONTROL = {"forget": 96.0, "mia_loss_auc": 0.5}, {"forget": 0.0, "mia_loss_auc": 0.5}


def audited(model: str, seed: int, own: dict, words: dict | None = None, setting=("s",), **settings) -> AuditedRun:
    base = {"dataset": "toymini", "convnet_type": "tiny_clip", "sessions": SESSIONS}
    config = Config(**base | {"model_name": model, "seed": (seed,)} | settings)
    folder = Path(f"{model}_{seed}_{len(settings)}")
    figures = {"original": ORIGINAL, "head_only": CONTROL, model: own}
    in_order = {name: figures[name] for name in ("original", model, "head_only")}
    return AuditedRun(folder, config, setting, in_order, words or {})


def cells(text: str) -> dict[str, list[str]]:
    """Of the one table in a text: what stands first in a row → the other cells."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_one_run_has_a_column_a_model():
    text = pages([audited("ga", 1, {"forget": 1.26, "mia_loss_auc": 0.456})])
    assert text == page(audited("ga", 1, {"forget": 1.26, "mia_loss_auc": 0.456}))
    assert text.startswith("# Audits of ga on toymini, tiny_clip, seed 1\n")
    found = cells(text)
    assert found[""] == ["original", "ga", "head_only"] and "verdict" not in text
    assert found["forget"] == ["96.0", "1.3", "0.0"] and found["mia_loss_auc"] == ["0.50", "0.46", "0.50"]


def test_seeds_are_averaged_and_what_they_share_stands_alone():
    text = pages([audited("ga", 1, {"forget": 2.0}), audited("ga", 3, {"forget": 4.0})])
    assert cells(text)["forget"] == ["96.0", "3.0 ± 1.4", "0.0"]  # √2, by n − 1
    assert "- ga: seeds 1, 3" in text and text.count("| original |") == 1


def test_learners_stand_side_by_side_in_the_order_they_were_given():
    runs = [audited("npo", 1, {"forget": 5.0}), audited("ga", 1, {"forget": 2.0}), audited("npo", 2, {"forget": 7.0})]
    found = cells(pages(runs))
    assert found[""] == ["original", "npo", "ga", "head_only"]
    assert found["forget"] == ["96.0", "6.0 ± 1.4", "2.0", "0.0"]


def test_the_control_as_a_learner_is_the_control():
    found = cells(pages([audited("head_only", 1, {"forget": 0.5}), audited("ga", 1, {"forget": 2.0})]))
    assert (found[""], found["forget"]) == (["original", "head_only", "ga"], ["96.0", "0.5", "2.0"])


def test_settings_of_one_learner_are_told_apart_and_a_twin_does_not_count():
    runs = [audited("ga", 1, {"forget": 2.0}), audited("ga", 1, {"forget": 3.0}, forget_lr=0.5)]
    twin = audited("ga", 1, {"forget": 9.0}, prefix="p", about="x")
    text = pages([*runs, twin])
    assert cells(text)["forget"] == ["96.0", "2.0", "3.0", "0.0"] and "forget_lr 0.5" in text
    assert f"- not counted, the same experiment and seed as another run: {twin.folder}" in text


def test_other_references_make_another_table():
    text = pages([audited("ga", 1, {"forget": 2.0}), audited("ga", 2, {"forget": 3.0}, setting=("t",))])
    assert text.count("# Audits of ga on toymini") == 2


def test_what_did_not_come_back_and_what_is_not_known():
    slow = [{"relearn_retained_90": value, "mia_loss_tar": math.nan} for value in (math.inf, 8.0, math.inf)]
    text = pages([audited("ga", seed, figures) for seed, figures in enumerate(slow)])
    found = cells(text)
    assert found["relearn_retained_90"] == ["", f"> {STEPS} steps (2 of 3)", ""]
    assert found["mia_loss_tar"] == ["", "–", ""] and f"- *> {STEPS} steps*: " in text
    assert cells(page(audited("ga", 0, slow[0])))["relearn_retained_90"] == ["", f"> {STEPS} steps", ""]


@pytest.mark.parametrize(("value", "flagged"), [(0.34, True), (0.36, False), (0.7, False)])
def test_an_attack_far_below_chance_is_flagged(value, flagged):
    text = page(audited("ga", 1, {"mia_entropy_auc": value, "forget": 0.1}))
    assert cells(text)["mia_entropy_auc"][1] == f"{value:.2f}{' ↓' if flagged else ''}"
    assert ("- *↓*: below 0.35" in text) == flagged and "0.1 ↓" not in text


def test_verdicts_are_counted_over_seeds():
    words = [{"original": "not forgotten", "ga": word} for word in ("suppressed", "erased", "suppressed")]
    text = pages([audited("ga", seed, {"forget": 1.0}, some) for seed, some in enumerate(words)])
    assert cells(text)["**verdict**"] == ["not forgotten", "suppressed (2); erased (1)", ""]
    assert "- *suppressed*: " in text


def test_figures_are_left_as_json_that_every_reader_takes(tmp_path):
    item = audited("ga", 1, {"forget": 1.0, "mia_loss_tar": math.nan, "relearn_retained_50": math.inf})
    item = AuditedRun(tmp_path, item.config, item.setting, item.figures, {"ga": "erased"})
    leave(item, ["accuracy"], "the page")
    content = json.loads((tmp_path / "audits.json").read_text(), parse_constant=pytest.fail)
    assert content["figures"]["ga"] == {"forget": 1.0, "mia_loss_tar": None, "relearn_retained_50": None}
    assert (content["audits"], content["verdicts"]) == (["accuracy"], {"ga": "erased"})
    assert (tmp_path / "audits.md").read_text() == "the page"
    assert has_audits(tmp_path, ["accuracy"]) and not has_audits(tmp_path, ["accuracy", "probe"])
    leave(item, ["accuracy", "probe"], "two")
    leave(item, ["probe"], "one of them")
    assert (tmp_path / "audits.md").read_text() == "two" and has_audits(tmp_path, ["accuracy", "probe"])
    leave(item, ["probe", "prompts"], "others")
    assert (tmp_path / "audits.md").read_text() == "others"


@pytest.mark.parametrize("content", ["{", "[]", "5", '{"figures": {}}', '{"audits": 5}'])
def test_figures_of_another_version_do_not_count(tmp_path, content):
    (tmp_path / "audits.json").write_text(content)
    assert not has_audits(tmp_path, ["accuracy"]) and has_audits(tmp_path / "nowhere", [])
