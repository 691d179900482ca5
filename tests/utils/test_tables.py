"""The files of invented runs, read back; the tables by hand."""

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import binomtest

from tests.utils.invented import level, mixed, stream
from utils import tables
from utils.errors import WriteError
from utils.results import SCORES, RunResults, SessionResult

NAN = math.nan


@pytest.fixture
def run() -> RunResults:
    """Learn three classes, learn one, forget one, on two levels."""
    return mixed()


def write(run, folder, **extra):
    summary = run.summary(12.5, 300.0, 0.0128) | extra
    tables.write_tables(folder, run, summary, "adapter on toycars", "python main.py --config exps/quickstart.json")
    return summary


def test_files_read_back(run, tmp_path):
    summary = write(run, tmp_path / "deep" / "run", quality=NAN)
    folder = tmp_path / "deep" / "run"
    assert sorted(path.name for path in folder.iterdir()) == [
        "metrics.jsonl",
        "sessions.csv",
        "summary.json",
        "table.md",
    ]
    read = [SessionResult.from_json(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert read == run.sessions
    assert json.loads((folder / "summary.json").read_text()) == summary | {"quality": None}
    with (folder / "sessions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["top1"]) for row in rows] == run.curve()
    assert [float(row["coarse_top1"]) for row in rows] == run.curve("coarse")
    assert [row["classes"] for row in rows] == ["a;b;c", "d|e", "a"]
    assert [row["quality"] for row in rows] == ["", "", "91.25"]
    assert (rows[0]["old"], rows[2]["new"], rows[1]["seconds"]) == ("", "", "2.0")


def test_a_second_writing_replaces_the_first(run, tmp_path):
    write(RunResults(run.sessions[:1]), tmp_path)
    write(run, tmp_path)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


def test_a_failed_write_leaves_the_old_file(run, tmp_path, monkeypatch):
    write(RunResults(run.sessions[:1]), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(WriteError, match="disk full"):
        write(run, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_markdown_page(run, tmp_path):
    write(run, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert text.startswith("# adapter on toycars\n\n```sh\npython main.py --config exps/quickstart.json\n```\n")
    assert "| 1 | learned 03-03 | d\\|e | 80.00 | 99.50 | 78.00 | 86.00 | 90.00 | 2.0 |" in text
    assert "| 2 | forgot 1 | a | 70.00 | 99.50 | 70.00 | – | 85.00 | 0.1 |" in text
    assert "| 0 | 90.00 | – |" in text and "| 2 (forget) | 60.00 | 87.50 |" in text
    assert "| last | 70.00 | 52.1 – 83.3 |" in text and "| tunable share | 1.28 % |  |" in text
    tables = re.findall(r"(?:^\|.*\|$\n?)+", text, re.M)
    for block in tables:  # as many cells in every row as in its head
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert len(tables) == 4


def test_a_page_of_requests_alone_has_no_matrix(run):
    only = replace(run.sessions[2], index=0, fine=level(70.0, [], 70.0, None, 30), coarse=None)
    found = RunResults([only])
    assert "session's classes" not in tables.table(found, found.summary(1.0, 1.0, 1.0), "t", "c")


def test_seeds_by_hand():
    runs = [
        (1993, {"accuracy_last": 90.0, "accuracy_last_low": 1.0, "forgetting": 2.0, "quality": 50.0}),
        (1996, {"accuracy_last": 92.0, "accuracy_last_low": 1.0, "forgetting": None}),
        (1997, {"accuracy_last": 97.0, "accuracy_last_low": 1.0, "forgetting": 4.0}),
    ]  # last: mean 93, deviations −3, −1, 4: std √(26/2) = 3.61; forgetting: mean 3, std √2
    assert tables.seeds_table(runs).splitlines() == [
        "| figure | seed 1993 | seed 1996 | seed 1997 | mean ± std |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| Quality | 50.00 | – | – | 50.00 ± 0.00 |",
        "| last | 90.00 | 92.00 | 97.00 | 93.00 ± 3.61 |",
        "| forgetting | 2.00 | – | 4.00 | 3.00 ± 1.41 |",
    ]


def test_the_seeds_table_of_one_seed(run):
    table = tables.seeds_table([(1, run.summary(10.0, 20.0, 0.01))])
    assert "| last | 70.00 | 70.00 ± 0.00 |" in table and "| tunable share | 1 % | 1 % ± 0 % |" in table


def test_seeds_of_requests_by_hand():
    first = {"qu_before": 0.0, "qu": 90.0, "forget_fine_before": 92.0, "forget_fine": 1.0, "forget_fine_low": 0.5}
    second = {"qu_before": 0.0, "qu": 80.0, "forget_fine_before": 96.0, "forget_fine": 3.0, "zero_shot.flags": 5.0}
    nothing = {"past_fine": NAN, "past_fine_before": None, "ece": 4.0, "ece_before": NAN, "forget_fine_rows": 2.0}
    assert tables.seeds_table([(1, first | nothing), (2, second | nothing)]).splitlines()[2:] == [
        "| forget fine | 92.00 → 1.00 | 96.00 → 3.00 | 94.00 ± 2.83 → 2.00 ± 1.41 |",
        "| Q-U | 90.00 | 80.00 | 85.00 ± 7.07 |",
        "| Zero-shot flags | – | 5.00 | 5.00 ± 0.00 |",
        "| ECE | 4.00 | 4.00 | 4.00 ± 0.00 |",
        "| forget fine, own rows | 2.00 | 2.00 | 2.00 ± 0.00 |",
    ]


def test_a_figure_whose_name_merely_ends_like_one_from_before():
    assert "| gone_before | 1.00 | 1.00 ± 0.00 |" in tables.seeds_table([(1, {"gone_before": 1.0})])


def rows_of(file: Path) -> list[dict]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_files_of_requests(tmp_path):
    run = stream("lflf", forget=3)
    write(run, tmp_path)
    first, second = rows_of(tmp_path / "requests.csv")
    asked = ";".join(run.sessions[1].classes)
    assert (first["session"], first["level"], first["classes"]) == ("1", "fine", asked)
    assert (first["forget_fine_before"], first["forget_fine"], first["zero_shot.toyflags"]) == ("92.7", "1.3", "61.3")
    assert (first["past_fine"], second["past_fine"], second["session"]) == ("", "3.0", "3")
    assert "quality" in first and not [name for name in SCORES if f"{name}_before" in first]
    found = rows_of(tmp_path / "classes.csv")
    assert len(found) == 2 * 48 and {row["session"] for row in found} == {"1", "3"}
    change = run.sessions[3].request.classes[5]
    row = next(row for row in found if row["session"] == "3" and row["name"] == change.name)
    assert [row[key] for key in ("parent", "role", "images")] == [change.parent, change.role, "20"]
    assert [float(row[key]) for key in ("before", "after", "change")] == [change.before, change.after, change.change]


def test_a_class_without_images_has_empty_cells(tmp_path):
    run = stream("f", forget=1, makes=1, models=2)
    request = run.sessions[0].request
    empty = replace(request.classes[1], images=0, before=NAN, after=NAN)
    run.sessions[0] = replace(run.sessions[0], request=replace(request, classes=(request.classes[0], empty)))
    write(run, tmp_path)
    assert [rows_of(tmp_path / "classes.csv")[1][key] for key in ("before", "after", "change")] == [""] * 3
    text = (tmp_path / "table.md").read_text()
    assert "Of what was to stay there are no test images." in text and "No retained class lost" not in text
    same = replace(request.classes[1], before=50.0, after=50.0)
    run.sessions[0] = replace(run.sessions[0], request=replace(request, classes=(request.classes[0], same)))
    write(run, tmp_path)
    assert "No retained class lost accuracy." in (tmp_path / "table.md").read_text()


def test_the_page_of_one_request():
    run = stream("f", forget=2, makes=2, models=3)
    text = tables.table(run, run.summary(1.0, 1.0, 1.0), "t", "c")
    assert "| 0 | forgot 2 (fine) | Veltro Arrow, Brandle Arrow |" in text
    assert "- session 0, level fine: Veltro Arrow, Brandle Arrow\n" in text
    assert "| figure | before | after |" in text and "past requests" not in text
    known = binomtest(1, 40).proportion_ci(0.95, method="wilson")  # 1.3 % of 40 images is half a one
    assert f"| forget fine | 92.70 | 1.30 ({100 * known.low:.1f} – {100 * known.high:.1f}) |" in text
    assert "| Quality | – | 98.60 |" in text and "| Zero-shot toyflags | 62.60 | 61.30 |" in text
    summary = text[text.index("## Summary") :]
    assert "| last | 90.00 |" in summary and "forget" not in summary.replace("forgetting", "") and "Q-U" not in summary


def test_the_page_of_several_requests():
    run = stream("lflf", forget=3)
    text = tables.table(run, run.summary(1.0, 1.0, 1.0), "t", "c")
    assert "| figure | session 1 before | session 1 after | session 3 before | session 3 after |" in text
    assert re.search(r"^\| past requests fine \| – \| – \| 3.00 \| 3.00 \(", text, re.M)
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_the_worst_retained_classes():
    run = stream("lf", forget=3)
    text = tables.table(run, run.summary(1.0, 1.0, 1.0), "t", "c")
    table = text[text.index("### Retained classes that lost most") : text.index("## Top-1")]
    lines = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    drops = sorted(c.change for c in run.sessions[1].request.classes if c.role in ("adjacent", "remote"))
    assert [float(line[-1].rstrip(" |")) for line in lines] == drops[:5]
    assert {line[2] for line in lines} <= {"adjacent", "remote"} and lines[0][3:5] == ["1", "20"]
