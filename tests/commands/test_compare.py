"""`main.py compare` over invented folders of runs: the table, what is missing, the formats, the errors."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.browser import Browser
from tests.support import lethe

BASE = {"dataset": "toycars", "convnet_type": "tiny_vit", "init_cls": 2, "increment": 1}
FOUND = {"adapter": {1: 80.0, 2: 84.0, 3: 85.0}, "ga": {1: 70.0, 2: 71.0}, "<b>": {1: 60.0, 2: 66.0, 3: 60.0}}


def put(folder: Path, figures: dict | None, **keys) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(BASE | keys))
    if figures is not None:
        (folder / "summary.json").write_text(json.dumps(figures))
    return folder


@pytest.fixture
def logs(tmp_path, monkeypatch) -> Path:
    """Three learners, of which one lacks a seed, another has a cut run, and one has a config of another time."""
    monkeypatch.chdir(tmp_path)
    for name, seeds in FOUND.items():
        for seed, value in seeds.items():
            folder = tmp_path / "logs" / name.strip("<>") / str(seed)
            put(folder, {"accuracy_average": value, "wall_s": value / 10}, model_name=name, seed=seed)
    put(tmp_path / "logs" / "cut", None, model_name="ga", seed=3)
    put(tmp_path / "logs" / "old", {"qu": 1.0}, model_name="ga", retired_key=3)
    return Path("logs")


def test_the_table_by_hand(logs, capsys):
    assert lethe("compare", logs) == 0
    shown = capsys.readouterr().out
    # adapter − <b>: 20, 18, 25; mean 21, deviation √13, t = 21 / √(13/3) = 10.088, two degrees of freedom
    assert shown.split("\n")[:7] == [
        "## toycars: 2 classes, then 1 each",
        "",
        "| model_name | dataset | seeds | average | p |",
        "| --- | --- | ---: | ---: | ---: |",
        "| <b> | toycars | 3 | 62.00 ± 3.46 | 0.0097 |",
        "| adapter | toycars | 3 | **83.00 ± 2.65** | – |",
        "| ga | toycars | 2 | 70.50 ± 0.71 | – |",
    ]
    assert "- unfinished: ga, toycars, seed 3 (logs/cut)" in shown
    assert "- unreadable: logs/old/config.json:1: unknown key 'retired_key'" in shown


def test_a_seed_that_nobody_began_is_missing(logs, capsys):
    (logs / "cut" / "config.json").unlink()
    lethe("compare", logs)
    assert "- missing: ga, toycars, seed 3" in capsys.readouterr().out


def test_the_same_whatever_way_the_folders_are_given(logs, capsys):
    outputs = []
    for folders in ([logs], [logs / "ga", logs / "adapter", logs], [logs / "."]):
        lethe("compare", *folders)
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] == outputs[2]


def test_html_is_escaped_and_whole(logs, capsys):
    lethe("compare", logs, "--format", "html", "--metric", "wall_s")
    shown = capsys.readouterr().out
    assert ">&lt;b&gt;</th>" in shown and "<b>" not in shown
    assert '<td class="figure"><strong>6.2 ± 0.3</strong></td>' in shown  # seconds: less is better
    assert shown.startswith("<!doctype html>") and shown.endswith("</html>\n") and "{{" not in shown


def test_a_browser_shows_the_page_on_a_phone(logs, capsys, tmp_path):
    long = "a_learner_of_a_name_that_never_ends_" * 4
    put(logs / "long", {"accuracy_average": 90.0}, model_name=long, seed=1)
    lethe("compare", logs, "--format", "html")
    page = tmp_path / "page.html"
    page.write_text(capsys.readouterr().out, encoding="utf-8")
    fares = Browser(tmp_path).fares(page, 390)
    assert fares["inner"] == fares["scroll"] == 390 and not fares["fetched"]


def test_csv_has_every_digit(logs, capsys):
    lethe("compare", logs, "--format", "csv", "--metric", "accuracy_average,wall_s", "--group", "model_name")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["model_name"], row["metric"]) for row in rows[:4]] == [
        ("<b>", "accuracy_average"),
        ("adapter", "accuracy_average"),
        ("ga", "accuracy_average"),
        ("<b>", "wall_s"),
    ]
    assert (float(rows[2]["mean"]), float(rows[2]["std"])) == (70.5, pytest.approx(0.5**0.5, rel=1e-15))
    assert [row["best"] for row in rows] == ["0", "1", "0", "1", "0", "0"]


def test_latex_has_its_comments_and_bold(logs, capsys):
    lethe("compare", logs, "--format", "latex", "--group", "model_name")
    shown = capsys.readouterr().out
    assert r"adapter & 3 & \textbf{83.00 $\pm$ 2.65} & -- \\" in shown and "\n% unfinished: ga, seed 3" in shown


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("logs", "--metric", "accuracy_averag"), "no finished run has a figure 'accuracy_averag'; did you mean"),
        (("logs", "--group", "model"), "--group: no key 'model'; did you mean"),
        (("log",), "log: no such folder; did you mean 'logs'?"),
        (("logs/old",), "logs/old: no run is here (a folder with a config.json); unreadable: "),
    ],
)
def test_mistakes_end_in_one_line(logs, capsys, words, reason):
    assert lethe("compare", *words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("lethe: ") and reason in err and err.count("\n") == 1
