"""The pages in docs/ say what is so: links lead somewhere, tables are complete, marked blocks run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from models import LEARNERS
from tests.support import ROOT, SIMPLE, experiment, lethe, log_of, only_run, outcome
from utils.published import ALIASES, SHORTHANDS
from utils.schema import Config

PAGES = sorted((ROOT / "docs").glob("*.md"))
# a block's first line: its language, and what is to be done with it: the name of a file it is, or `run`
BLOCK = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.M | re.S)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(what to do, text) of every block that is marked."""
    return [(mark, text) for _, mark, text in BLOCK.findall(page.read_text(encoding="utf-8")) if mark]


RUNNABLE = [page for page in PAGES if any(mark == "run" for mark, _ in blocks(page))]


@pytest.fixture
def shell(workplace):
    """A function that runs a script in a folder where `python main.py` is at hand, and the drawn world."""
    for name in ("main.py", "exps"):
        (workplace / name).symlink_to(ROOT / name)
    (workplace / "bin").mkdir()
    (workplace / "bin/python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (workplace / "bin/python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{workplace / 'bin'}:{os.environ['PATH']}", "PYTHON": sys.executable}

    def run(script: str) -> str:
        words = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.stem)
def test_marked_blocks_run(page, shell):
    for mark, text in blocks(page):
        if mark == "run":
            shell(text)
        else:
            Path(mark).write_text(text, encoding="utf-8")


def test_there_are_blocks_to_run():
    assert {page.stem for page in RUNNABLE} >= {"own_data", "own_method", "pilot"}


def test_a_newcomer_gets_to_a_report(shell, workplace):
    shown = shell(f"bash {shlex.quote(str(ROOT / 'docs/newcomer.sh'))} {shlex.quote(str(workplace))}")
    assert f"the report is {workplace}/report.html" in shown
    assert "tomato" in (workplace / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "exps/README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(((?!https?:)[^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link.replace("\\", "")).exists(), link


def test_every_learner_has_its_row_and_its_file():
    text = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    rows = {
        row[0].split("`")[1]: row
        for row in (line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| `"))
    }
    assert rows.keys() == {*LEARNERS, "model_name"}
    for name, row in rows.items():
        assert all(cell.strip() for cell in row), name
    for name, (module, _, _) in LEARNERS.items():
        shown = re.search(r"\(\.\./(models/\w+)\.py\)", rows[name][-1])[1].replace("/", ".")
        assert module == shown or shown == "models.unlearn_losses", f"{name} is in {module}"


def test_pilots_keys_are_mapped():
    text = (ROOT / "docs/pilot.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in text for key in {*ALIASES, *SHORTHANDS})
    same = next(line for line in text.splitlines() if line.endswith("| the same |") and "`init_cls`" in line)
    assert set(re.findall(r"`(\w+)`", same)) <= Config.model_fields.keys()


PUBLISHED = {  # as PILOT's trainer writes them and scripts around it read them
    "arguments": r"^\S+ \S+ \[trainer\.py\] => (\w+): (.*)$",
    "session": r"=> Learning on (\d+)-(\d+)$",
    "epoch": r"=> Task (\d+), Epoch (\d+)/(\d+) => Loss ([\d.]+)",
    "grouped": r"=> CNN: (\{'total': .*\})$",
    "top1": r"=> CNN top1 curve: \[([\d., ]+)\]$",
    "top5": r"=> CNN top5 curve: \[([\d., ]+)\]$",
    "average": r"=> Average Accuracy \(CNN\): ([\d.]+)",
    "forgetting": r"=> Forgetting \(CNN\): ([\d.]+)$",
}


def test_a_reader_of_pilots_logs_reads_ours(workplace):
    settings = SIMPLE | {"model_name": "finetune", "sessions": [{"learn": 1}, {"learn": 2}], "init_epochs": 1}
    assert lethe("--config", experiment(settings, inc_epochs=2, batch_size=64)) == 0
    text = log_of(only_run())
    found = {name: re.findall(pattern, text, re.M) for name, pattern in PUBLISHED.items()}
    rows, summary = outcome(only_run())
    assert found["session"] == [("0", "1"), ("1", "3")]
    assert [row[:3] for row in found["epoch"]] == [("0", "1", "1"), ("1", "1", "2"), ("1", "2", "2")]
    groups = [eval(text) for text in found["grouped"]]
    assert [list(group) for group in groups] == [
        ["total", "00-00", "old", "new"],
        ["total", "00-00", "01-02", "old", "new"],
    ]
    curve = [float(value) for value in found["top1"][-1].split(",")]
    assert curve == [round(row["fine"]["top1"], 2) for row in rows] == [group["total"] for group in groups]
    assert len(found["top5"]) == len(found["average"]) == 2
    assert float(found["average"][-1]) == round(summary["accuracy_average"], 2)
    assert [float(value) for value in found["forgetting"]] == [round(summary["forgetting"], 2)]
    assert dict(found["arguments"])["model_name"] == "finetune"
