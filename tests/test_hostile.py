"""Files and names from strangers: nothing in them is run, and odd ones are taken as they are or named in one line."""

import csv
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.index import Record, write_set
from tests.support import ADAPTER, SIMPLE, contents, experiment, lethe, log_of, only_run, without

# pickles


class Bomb:
    """What a malicious pickle does when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


def pickled(thing, file) -> None:
    Path(file).write_bytes(pickle.dumps(thing, 2))


WRITERS = pytest.mark.parametrize("write", [torch.save, pickled])


def is_live(file: Path, write) -> bool:
    """Whether a reader that trusts it would have run it."""
    if write is torch.save:
        torch.load(file, weights_only=False)
    else:
        pickle.loads(file.read_bytes())
    return Path("exploded").is_dir()


@WRITERS
def test_a_pickle_as_weights_is_not_run(refused, write):
    write({"net.cls_token": torch.zeros(1), "bomb": Bomb()}, "weights.pt")
    line = refused("--config", experiment(SIMPLE, weights="weights.pt"))
    assert line.startswith("weights.pt: not a file of plain tensors")
    assert not Path("exploded").exists() and not Path("logs").exists()
    assert is_live(Path("weights.pt"), write)


@WRITERS
@pytest.mark.parametrize("name", ["session", "phase_0"])
def test_a_pickle_as_checkpoint_is_not_run(workplace, monkeypatch, capsys, write, name):
    assert lethe("--config", experiment(SIMPLE)) == 0
    (only_run() / "summary.json").unlink()
    file = only_run() / "checkpoint" / f"{name}.safetensors"
    write({"x": Bomb()}, file)
    planted = file.read_bytes()
    code = lethe("--config", "experiment.json", "--resume")
    assert f"{file}: the checkpoint is damaged" in capsys.readouterr().err
    assert code == (2 if name == "session" else 0) and not Path("exploded").exists()  # a phase can be done without
    Path("live.pt").write_bytes(planted)
    assert is_live(Path("live.pt"), write)


@WRITERS
@pytest.mark.parametrize("name", ["0.png", "index/train.jsonl", "index/set.json"])
def test_a_pickle_as_data_is_not_run(refused, draw_set, write, name):
    draw_set(Path("data/sets/pets"))
    for file in Path("data/sets/pets/index").iterdir():
        file.rename(Path("data/sets/pets") / file.name)
    about = Path("data/sets/pets/set.json")
    about.write_text('{"root": "."}')
    file = Path("data/sets/pets") / {"0.png": "dog-beagle-train-0.png"}.get(name, Path(name).name)
    write({"x": Bomb()}, file)
    assert str(file) in refused("--config", experiment(SIMPLE, dataset="pets", sessions=[{"learn": 5}]))
    assert not Path("exploded").exists() and is_live(file, write)


# names

ODD = [
    "a/b\\c|d",
    "quo\"te's; comma,",
    "two\r\nlines\u2028three",
    "🙂 emoji",
    "שלום مرحبا",
    "$\\frac{1}$ <b>&amp;",
    "\\|",
    "..",
]


def test_odd_names_survive_from_the_index_to_the_tables(workplace, monkeypatch):
    records = {"train": [], "test": []}
    dice = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for place, name in enumerate(ODD * count):
            path = f"{split} 🙂\n{place}.png"
            Path("images").mkdir(exist_ok=True)
            Image.fromarray(dice.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(Path("images", path))
            records[split].append(Record(path, f"make of\n{name}", name))
    write_set(Path("data/sets/odd"), Path("images"), records)
    sessions = [{"learn": 6}, {"forget": [ODD[2]]}, {"learn": 2}]
    odd = without(ADAPTER, "init_cls", "increment", "exclude") | {"dataset": "odd", "sessions": sessions}
    odd |= {"shuffle": False, "init_epochs": 1, "inc_epochs": 1, "ca_epochs": 1, "forget_epochs": 1, "prefix": "a/../b"}
    assert lethe("--config", experiment(odd)) == 0
    folder = only_run()
    assert folder.name == "a-..-b_1993_tiny_vit" and {"curves.png", "requests.png"} < set(contents(folder))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [row["classes"] for row in rows] == [ODD[:6], [ODD[2]], ODD[6:]]
    with (folder / "classes.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["name"] for row in found] == ODD[:6]
    assert [row["parent"] for row in found] == [f"make of\n{name}" for name in ODD[:6]]
    with (folder / "sessions.csv").open(encoding="utf-8", newline="") as file:
        assert [row["classes"] for row in csv.DictReader(file)] == [";".join(row["classes"]) for row in rows]
    page = (folder / "table.md").read_text(encoding="utf-8")
    for block in re.findall(r"(?:^\|.*\|$\n?)+", page, re.M):  # as many cells in every row as in its head
        lines = [re.sub(r"\\.", "", line) for line in block.split("\n") if line]
        assert len({line.count("|") for line in lines}) == 1, block
    assert "- session 1, level fine: two lines three\n" in page
    log = log_of(folder)
    assert all(re.match(r"\d{4}-\d\d-\d\d ", line) for line in log.splitlines())
    assert lethe("report", folder) == 0
    assert "Class order: a/b\\c|d, quo\"te's; comma,, two lines three, 🙂 emoji, שלום مرحبا, " in log


# disks


def test_a_log_that_cannot_be_written_ends_the_run_in_one_line(refused):
    assert lethe("--config", experiment(SIMPLE)) == 0
    log = only_run().with_name(only_run().name + ".log")
    before = contents(only_run() / "checkpoint")
    (only_run() / "summary.json").unlink()
    log.unlink()
    log.symlink_to("/dev/full")
    line = refused("--config", "experiment.json", "--resume")
    assert line == f"{log.absolute()}: the log cannot be written (No space left on device)"
    assert contents(only_run() / "checkpoint") == before
