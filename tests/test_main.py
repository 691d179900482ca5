"""The command line: help and lists without heavy imports, overrides, several experiments, dry runs, sub-commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import trainer
from convs.names import PILOT, TINY
from data.world import WORLD_SETS
from models import LEARNERS
from tests.support import ROOT, SIMPLE, contents, experiment, lethe, only_run, outcome

HEAVY = {"torch", "torchvision", "timm", "open_clip", "matplotlib", "scipy", "sklearn", "numpy", "PIL", "pydantic"}


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    monkeypatch.setattr(trainer.plots, "curves", lambda *_: None)


def fresh(*words) -> tuple[str, set[str]]:
    """What `main.py words …` prints in a process of its own, and which heavy packages it imported for that."""
    code = (
        "import sys; sys.argv = ['main.py', *sys.argv[1:]]\n"
        "import main\n"
        "try: main.main()\n"
        "except SystemExit: pass\n"
        "print('\\n'.join(['', 'imported:', *sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    shown, _, modules = done.stdout.rpartition("\nimported:\n")
    return shown, HEAVY & set(modules.split())


def test_help_imports_nothing_heavy():
    shown, imported = fresh("--help")
    assert not imported
    for word in ("--config", "--set", "--resume", "--smoke", "--device", "--list", "prepare"):
        assert word in shown


def test_list_names_everything_without_torch_and_timm():
    shown, imported = fresh("--list")
    assert not imported & {"torch", "torchvision", "timm", "open_clip"}
    listed = {line.split()[0] for line in shown.splitlines() if line.startswith("  ")}
    assert {*LEARNERS, *TINY, *PILOT, *WORLD_SETS} <= listed
    assert all(len(line.split()) > 1 for line in shown.splitlines() if line.startswith("  "))


def test_list_names_what_was_prepared(workplace, capsys):
    (workplace / "data/sets/mine").mkdir(parents=True)
    (workplace / "data/sets/mine/train.jsonl").write_text("")
    assert lethe("--list") == 0
    assert "mine" in [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]


def test_help_of_a_command_names_the_builders(workplace, capsys):
    with pytest.raises(SystemExit) as stop:
        lethe("prepare", "--help")
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "main.py prepare" in shown and "compcars" in shown and "--root" in shown


def test_command_line_wins_over_the_file(workplace):
    file = experiment(SIMPLE, prefix="file", device=["0"], scale=5.0)
    words = ("--set", "prefix=line", "--set", "scale=7", "--set", 'sessions=[{"learn": 3}]', "--device", "cpu")
    assert lethe("--config", file, *words) == 0
    folder = only_run()
    assert folder.name == "line_1993_tiny_vit"
    config = json.loads((folder / "config.json").read_text())
    assert (config["scale"], config["device"], config["sessions"]) == (7.0, "cpu", [{"learn": 3, "repeat": 1}])
    assert len(outcome(folder)[0][0]["classes"]) == 3


def test_several_experiments_run_one_after_another(workplace, capsys):
    files = [experiment(SIMPLE, f"{name}.json", prefix=name) for name in ("one", "two")]
    assert lethe("--config", *files, "--set", "scale=7") == 0
    folders = sorted(file.parent for file in Path("logs").rglob("summary.json"))
    assert [folder.name for folder in folders] == ["one_1993_tiny_vit", "two_1993_tiny_vit"]
    assert all(json.loads((folder / "config.json").read_text())["scale"] == 7 for folder in folders)
    shown = capsys.readouterr().err
    assert shown.index("running one.json") < shown.index("running two.json")
    for folder in folders:  # each log holds its own run only
        assert folder.with_name(folder.name + ".log").read_text().count("Learning on") == 1


def test_smoke_runs_a_published_experiment(workplace):
    published = ROOT / "exps" / "adapter_cub.json"
    assert lethe("--config", published, "--smoke", "--set", "weights=random", "--device", "cpu") == 0
    folder = only_run()
    assert folder.parts[:4] == ("logs", "smoke", "adapter", "toymini")
    config, given = (json.loads(file.read_text()) for file in (folder / "config.json", published))
    assert (config["dataset"], config["convnet_type"], config["seed"]) == ("toymini", "tiny_vit", given["seed"][:1])
    assert (config["init_lr"], config["optimizer"], config["ca"]) == (given["init_lr"], given["optimizer"], True)
    assert len(outcome(folder)[0]) == 3


def test_a_run_of_what_was_prepared(workplace, capsys):
    for shade, name in enumerate(("red_car", "blue_car", "green_car")):
        (Path("photos") / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (20, 20), (shade * 90, 10 * number, 40)).save(f"photos/{name}/{number}.png")
    assert lethe("prepare", "folder", "--root", "photos", "--name", "mine", "--test-fraction", "0.34") == 0
    assert "mine, all images decoded" in capsys.readouterr().out
    before = contents(Path("data/sets"))
    stream = [{"learn": 1}, {"learn": ["blue car"]}, {"learn": 1}]
    assert lethe("--config", experiment(SIMPLE, dataset="mine", sessions=stream)) == 0
    rows, _ = outcome(only_run())
    assert {name for row in rows for name in row["classes"]} == {"red car", "blue car", "green car"}
    assert rows[1]["classes"] == ["blue car"]
    assert [row["fine"]["count"] for row in rows] == [2, 4, 6]
    assert contents(Path("data/sets")) == before
