"""The pages written from the schema and the experiments are up to date, complete, and say what is true."""

import json
import re

import pytest

from tests.support import ROOT
from utils.config import json_schema, load_config
from utils.config_page import config_page
from utils.experiments_page import expectation, experiments_page
from utils.pages import NO_EXPERIMENTS, main
from utils.published import ALIASES, SHORTHANDS, UNUSED_KEYS
from utils.schema import Config

EXPERIMENTS = sorted(file for file in (ROOT / "exps").glob("*.json") if file.name not in NO_EXPERIMENTS)
RESULTS = (ROOT / "docs/results.md").read_text(encoding="utf-8")
NUMBER = r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\d)"


def rows(page: str) -> dict[str, list[str]]:
    """First cell → the others, of every line of a table."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in page.splitlines() if line.startswith("| ")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_they_are_up_to_date():
    assert (ROOT / "docs/configs.md").read_text(encoding="utf-8") == config_page(), "make pages"
    assert (ROOT / "exps/README.md").read_text(encoding="utf-8") == experiments_page(EXPERIMENTS), "make pages"


def test_one_command_writes_them_all(tmp_path):
    (tmp_path / "exps").mkdir()
    for name in ("quickstart.json", *NO_EXPERIMENTS):
        (tmp_path / "exps" / name).write_bytes((ROOT / "exps" / name).read_bytes())
    main([str(tmp_path / place) for place in ("docs/configs.md", "exps/schema.json", "exps/README.md")])
    assert json.loads((tmp_path / "exps/schema.json").read_text()) == json_schema()
    assert (tmp_path / "docs/configs.md").read_text() == config_page()
    assert (tmp_path / "exps/README.md").read_text().count("](quickstart.json)") == 1


def test_every_key_has_its_row():
    found = rows(config_page())
    for key, field in Config.model_fields.items():
        cells = found.get(f"`{key}`") or found[f"`{key}` *"]
        assert cells[2] == field.description.replace("|", "\\|") and cells[0]
    text = config_page()
    assert all(f"`{key}`" in text for key in {*ALIASES, *SHORTHANDS, *UNUSED_KEYS})


@pytest.mark.parametrize(
    "key, kind, default",
    [
        ("dataset", "text", "**needed**"),
        ("batch_size", "whole number ≥ 1", "`48`"),
        ("momentum", "0 ≤ number < 1", "`0.9`"),
        ("salun_share", "0 < number ≤ 1", "`0.1`"),
        ("forget_lr", "number > 0", "`1e-07`"),
        ("sigma", '`"auto"` or number > 0', "`4.0`"),
        ("init_cls", 'whole number ≥ 1 or `"all"` or null', "`null`"),
        ("crop_scale", "[0 < number ≤ 1, 0 < number ≤ 1]", "`[0.05, 1.0]`"),
        ("templates", "text or non-empty list of text", '`"plain"`'),
        ("ssca", "true or false", "`true`"),
        ("retain", '`"none"`, `"all"` or {"few": whole number ≥ 1} or {"ratio": 0 < number ≤ 1}', '`"none"`'),
    ],
)
def test_types_ranges_and_defaults(key, kind, default):
    assert rows(config_page())[f"`{key}`"][:2] == [kind, default]


def test_every_experiment_has_its_row():
    found = rows(experiments_page(EXPERIMENTS))
    assert {f"[{file.stem}]({file.name})" for file in EXPERIMENTS} == found.keys() - {"experiment", "---"}
    assert all(len(cells) == 5 and all(cells) for cells in found.values())


@pytest.mark.parametrize(
    "about, expected",
    [
        (["what"], ("not measured", "not measured", "–")),
        (["what; more", "python main.py --config a; b"], ("not measured", "not measured", "–")),
        (["w", "5 s; last 3 (docs/results.md)"], ("5 s", "last 3", "[results](../docs/results.md)")),
        (["w", "time not measured; published H: 3"], ("not measured", "H: 3", "published")),
        (["w", "5 s; two 3 -> 4"], ("5 s", "two 3 -> 4", "the experiment")),
        (["w", "40 minutes; score not measured"], ("40 minutes", "score not measured", "–")),
    ],
)
def test_expectations(about, expected):
    assert expectation(about) == expected


MEASURED = [file for file in EXPERIMENTS if "docs/results.md" in load_config(file).config.about[-1]]


@pytest.mark.parametrize("file", MEASURED, ids=lambda file: file.stem)
def test_a_score_that_names_the_results_stands_there(file):
    _, score, _ = expectation(load_config(file).config.about)
    known = [float(number) for number in re.findall(NUMBER, RESULTS)]
    for number in re.findall(NUMBER, score):
        places = len(number.partition(".")[2])
        assert any(abs(value - float(number)) <= 0.5 * 10**-places + 1e-9 for value in known), f"{number} of '{score}'"
