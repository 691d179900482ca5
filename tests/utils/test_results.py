"""Log lines, tables and files of an invented run whose figures are worked out by hand."""

import ast
import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from utils import results as module
from utils.errors import WriteError
from utils.results import LevelResult, RunResults, SessionResult

NAN = math.nan


def level(top1, groups, old, new, count, top5=99.5):
    return LevelResult(top1=top1, top5=top5, groups=tuple(groups), old=old, new=new, count=count)


@pytest.fixture
def run() -> RunResults:
    """Learn three classes, learn one, forget one, on two levels."""
    fine = [
        level(90.0, [90.0], None, 90.0, 30),
        level(80.0, [78.0, 86.0], 78.0, 86.0, 40),
        level(70.0, [60.0, 87.5], 70.0, None, 30),
    ]
    coarse = [
        level(95.0, [95.0], None, 95.0, 30),
        level(90.0, [89.0, 93.0], 89.0, 93.0, 40),
        level(85.0, [84.0, 87.0], 85.0, None, 30),
    ]
    first = SessionResult(0, "learn", 0, 2, ("a", "b", "c"), fine[0], coarse[0], 1.5, 3)
    second = SessionResult(1, "learn", 3, 3, ("d|e",), fine[1], coarse[1], 2.0, 4)
    third = SessionResult(2, "forget", 1, 1, ("a",), fine[2], coarse[2], 0.1, 4, {"quality": 91.25})
    return RunResults([first, second, third])


@pytest.fixture
def plain() -> RunResults:
    """Two learn sessions of ten classes on one level, figures as a numpy evaluation leaves them."""
    first = level(np.float64(91.3), [np.float64(91.3)], None, np.float64(91.3), 1000, top5=np.float64(99.456))
    second = level(90.0, [88.0, 92.0], 88.0, 92.0, 2000)
    names = tuple(f"c{i}" for i in range(20))
    return RunResults(
        [
            SessionResult(0, "learn", 0, 9, names[:10], first, None, 3.0, 5),
            SessionResult(1, "learn", 10, 19, names[10:], second, None, 4.0, 5),
        ]
    )


def write(run, folder, **extra):
    summary = run.summary(12.5, 300.0, 0.0128) | extra
    module.write_tables(folder, run, summary, "adapter on toycars", "python main.py --config exps/quickstart.json")
    return summary


def test_lines_after_the_first_session_are_the_published_ones(plain):
    lines = module.session_lines(RunResults(plain.sessions[:1]))
    assert lines == [
        "No NME accuracy.",
        "CNN: {'total': 91.3, '00-09': 91.3, 'old': 0, 'new': 91.3}",
        "CNN top1 curve: [91.3]",
        "CNN top5 curve: [99.46]",
        "Average Accuracy (CNN): 91.3",
    ]


def test_lines_parse_as_the_published_ones_do(plain):
    text = "\n".join(module.session_lines(plain) + module.final_lines(plain))
    grouped = ast.literal_eval(re.search(r"^CNN: (\{.*\})$", text, re.M).group(1))
    assert grouped == {"total": 90.0, "00-09": 88.0, "10-19": 92.0, "old": 88.0, "new": 92.0}
    assert list(grouped) == ["total", "00-09", "10-19", "old", "new"]
    assert ast.literal_eval(re.search(r"^CNN top1 curve: (.*)$", text, re.M).group(1)) == [91.3, 90.0]
    assert ast.literal_eval(re.search(r"^CNN top5 curve: (.*)$", text, re.M).group(1)) == [99.46, 99.5]
    assert float(re.search(r"^Average Accuracy \(CNN\): (.*)$", text, re.M).group(1)) == pytest.approx(90.65)
    assert float(re.search(r"^Forgetting \(CNN\): (.*)$", text, re.M).group(1)) == pytest.approx(3.3)
    assert "Coarse" not in text and "np.float" not in text and "top5' counts" not in text


def test_the_matrix_in_the_log_is_transposed_like_theirs(plain):
    assert module.final_lines(plain) == [
        "Accuracy Matrix (CNN):",
        "[[ 91.30  88.00]",
        " [  0.00  92.00]]",
        "Forgetting (CNN): 3.3",
        "Backward Transfer (CNN): -3.3",
    ]


def test_a_group_of_one_class_and_the_coarse_lines_follow(run):
    lines = module.session_lines(RunResults(run.sessions[:2]))
    assert lines[1] == "CNN: {'total': 80.0, '00-02': 78.0, '03-03': 86.0, 'old': 78.0, 'new': 86.0}"
    assert lines[5:] == [
        "Coarse: {'total': 90.0, '00-02': 89.0, '03-03': 93.0, 'old': 89.0, 'new': 93.0}",
        "Coarse top1 curve: [95.0, 90.0]",
        "Average Accuracy (Coarse): 92.5",
    ]


def test_the_capped_top5_is_noted_once(run):
    notes = [
        [line for line in module.session_lines(RunResults(run.sessions[:n])) if "'top5'" in line] for n in (1, 2, 3)
    ]
    assert [len(found) for found in notes] == [1, 0, 0]
    assert "(here 3)" in notes[0][0]


def test_a_forget_session_has_no_new_classes(run):
    lines = module.session_lines(run)
    assert lines[1] == "CNN: {'total': 70.0, '00-02': 60.0, '03-03': 87.5, 'old': 70.0}"
    assert module.final_lines(run)[:4] == [
        "Accuracy Matrix (CNN):",
        "[[ 90.00  78.00  60.00]",
        " [  0.00  86.00  87.50]]",
        "Forgetting (CNN): 15.0",
    ]


def test_groups_stand_in_the_order_of_numbers():
    labels = ["00-89", "90-99", "100-109"]
    found = module._grouped(level(50.0, [1.0, 2.0, 3.0], 1.0, 3.0, 9), labels)
    assert list(found) == ["total", *labels, "old", "new"]


def test_a_group_without_images_is_left_out_of_the_line(run):
    odd = replace(run.sessions[1], fine=level(80.0, [NAN, 86.0], None, 86.0, 10))
    line = module.session_lines(RunResults([run.sessions[0], odd]))[1]
    assert line == "CNN: {'total': 80.0, '03-03': 86.0, 'old': 0, 'new': 86.0}"


def test_the_summary_by_hand(run):
    summary = run.summary(12.5, 300.0, 0.0128)
    known = binomtest(21, 30).proportion_ci(0.95, method="wilson")
    assert summary["accuracy_last"] == 70.0
    assert summary["accuracy_average"] == pytest.approx(80.0)
    assert summary["forgetting"] == pytest.approx((30 + 0) / 2)
    assert summary["bwt"] == pytest.approx((-30 + 1.5) / 2)
    assert summary["coarse_accuracy_last"] == 85.0
    assert summary["coarse_accuracy_average"] == pytest.approx(90.0)
    assert (summary["accuracy_last_low"], summary["accuracy_last_high"]) == pytest.approx(
        (100 * known.low, 100 * known.high), abs=1e-5
    )
    assert (summary["wall_s"], summary["peak_mb"], summary["tunable_ratio"]) == (12.5, 300.0, 0.0128)
    assert all(type(value) is float for value in summary.values())


def test_one_level_has_no_coarse_figures(plain):
    summary = plain.summary(1.0, 1.0, 1.0)
    assert not [name for name in summary if name.startswith("coarse")]
    assert plain.levels == ("fine",)
    assert all(math.isnan(value) for value in plain.curve("coarse"))


def test_a_run_without_sessions(tmp_path):
    assert module.final_lines(RunResults()) == []
    with pytest.raises(ValueError, match="without sessions"):
        RunResults().summary(0.0, 0.0, 0.0)


def test_json_keeps_every_bit(run, plain):
    odd = replace(run.sessions[0], seconds=0.1 + 0.2, fine=level(100 / 3, [200 / 7], None, math.pi, 3))
    for row in [*run.sessions, *plain.sessions, odd]:
        assert SessionResult.from_json(json.loads(json.dumps(row.to_json()))) == row


def test_json_has_no_nan(run):
    odd = replace(run.sessions[0], fine=level(NAN, [NAN, 5.0], None, None, 0), extra={"quality": NAN})
    text = json.dumps(odd.to_json(), allow_nan=False)
    back = SessionResult.from_json(json.loads(text))
    assert math.isnan(back.fine.top1) and math.isnan(back.fine.groups[0]) and math.isnan(back.extra["quality"])
    assert back.fine.groups[1] == 5.0 and back.fine.old is None


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
    assert "session's classes" not in module.table(found, found.summary(1.0, 1.0, 1.0), "t", "c")
    assert module.final_lines(found)[:2] == ["Accuracy Matrix (CNN):", "[]"]


def test_seeds_by_hand():
    runs = [
        (1993, {"accuracy_last": 90.0, "accuracy_last_low": 1.0, "forgetting": 2.0, "quality": 50.0}),
        (1996, {"accuracy_last": 92.0, "accuracy_last_low": 1.0, "forgetting": None}),
        (1997, {"accuracy_last": 97.0, "accuracy_last_low": 1.0, "forgetting": 4.0}),
    ]  # last: mean 93, deviations −3, −1, 4: std √(26/2) = 3.61; forgetting: mean 3, std √2
    assert module.seeds_table(runs).splitlines() == [
        "| figure | seed 1993 | seed 1996 | seed 1997 | mean ± std |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| last | 90.00 | 92.00 | 97.00 | 93.00 ± 3.61 |",
        "| forgetting | 2.00 | – | 4.00 | 3.00 ± 1.41 |",
        "| quality | 50.00 | – | – | 50.00 ± 0.00 |",
    ]


def test_the_seeds_table_of_one_seed(plain):
    table = module.seeds_table([(1, plain.summary(10.0, 20.0, 0.01))])
    assert "| last | 90.00 | 90.00 ± 0.00 |" in table and "| tunable share | 1 % | 1 % ± 0 % |" in table


def test_the_interval_needs_images():
    assert all(math.isnan(end) for end in level(NAN, [], None, None, 0).interval())
