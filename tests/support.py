"""What the tests of whole runs share: a folder to run in, a small experiment, the drawn world, comparisons."""

import hashlib
import io
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import main
from data.world import ensure_world
from utils.checkpoint import RunCheckpoint

ROOT = Path(__file__).resolve().parents[1]
LOG = logging.getLogger("lethe")
# without these, toymini has four classes: in sessions of two, one and one a run takes a second
ABSENT = [
    "Brandle Summit",
    "Brandle Anchor",
    "Brandle Otter",
    "Corvane Orchard",
    "Corvane Bolt",
    "Corvane Raven",
    "Veltro Arrow",
    "Veltro Harbor",
]
ADAPTER = {
    "dataset": "toymini",
    "model_name": "adapter",
    "convnet_type": "tiny_vit",
    "weights": "random",
    "device": "cpu",
    "precision": "fp32",  # in every process, also where a processor multiplies bfloat16 faster
    "exclude": ABSENT,
    "init_cls": 2,
    "increment": 1,
    "init_epochs": 2,
    "inc_epochs": 2,
    "ca_epochs": 2,
    "ca_samples": 4,
    "batch_size": 8,
    "optimizer": "adamw",
    "init_lr": 0.003,
    "ffn_num": 8,
    "coarse_weight": 0.5,
    "sigma": "auto",
    "ridge": "auto",
    "workers": 0,
    "checkpoint_every": 1,
}
# no training, one session: what a run leaves, in a quarter of a second
SIMPLE = {key: ADAPTER[key] for key in ("dataset", "convnet_type", "weights", "device", "workers")} | {
    "model_name": "simplecil",
    "sessions": [{"learn": 2}],
}
# of processes that work together on this machine: they meet on the loopback, whatever its own name resolves to, and one
# that is aborted says where it stood
TOGETHER = {
    "GLOO_SOCKET_IFNAME": next(name for _, name in socket.if_nameindex() if name.startswith("lo")),
    "PYTHONFAULTHANDLER": "1",
}


class Terminal(io.StringIO):
    """A stream that progress bars take for a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def at_work(folder: Path, factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Work in a folder where `toymini` is drawn; afterwards the directory and the log's handlers are what they were."""
    cache = factory.getbasetemp() / "world"
    ensure_world("toymini", cache)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    if not (folder / "data" / "cache").exists():
        (folder / "data" / "cache").symlink_to(cache)
    before = (list(LOG.handlers), LOG.level, LOG.propagate)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        try:
            yield folder
        finally:
            LOG.handlers[:], LOG.propagate = before[0], before[2]
            LOG.setLevel(before[1])


def experiment(settings: dict, name: str = "experiment.json", **changes) -> Path:
    """Write an experiment into the current directory."""
    file = Path(name)
    file.write_text(json.dumps(settings | changes), encoding="utf-8")
    return file


def lethe(*words) -> int:
    """`python main.py words …` in this process."""
    return main.main([str(word) for word in words])


def only_run(logs: Path = Path("logs")) -> Path:
    """The folder of the one run below `logs`."""
    (config,) = logs.rglob("config.json")
    return config.parent


def contents(folder: Path) -> dict[str, str]:
    """Relative path → digest, of every file below a folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def log_of(folder: Path) -> str:
    """The log of a run, by its folder."""
    return folder.with_name(folder.name + ".log").read_text(encoding="utf-8")


def cut_after_writing(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    """Interrupt a run right after every file of its checkpoint, or those of some kinds (`phase`, `session`)."""

    def cut(write):
        def written(*args, **options):
            write(*args, **options)
            raise KeyboardInterrupt

        return written

    for kind in kinds or ("phase", "session"):
        monkeypatch.setattr(RunCheckpoint, f"save_{kind}", cut(getattr(RunCheckpoint, f"save_{kind}")))


def outcome(folder: Path) -> tuple[list[dict], dict]:
    """What a run measured, without times and memory: the rows of `metrics.jsonl`, and `summary.json`."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return [without(row, "seconds") for row in rows], without(summary, "wall_s", "peak_mb")


def without(row: dict, *keys: str) -> dict:
    return {key: value for key, value in row.items() if key not in keys}


def assert_same_run(one: Path, other: Path) -> None:
    """Two runs ended with equal figures and, bit for bit, equal tensors."""
    assert outcome(one) == outcome(other)
    tensors = [load_file(folder / "checkpoint" / "session.safetensors") for folder in (one, other)]
    assert set(tensors[0]) == set(tensors[1])
    differing = [name for name, value in tensors[0].items() if not torch.equal(value, tensors[1][name])]
    assert not differing, differing


def command_line(*words) -> tuple[list[str], dict[str, str]]:
    """The words and the environment of a process of its own; its threads are this process's."""
    threads = str(torch.get_num_threads())
    return (
        [sys.executable, str(ROOT / "main.py"), *map(str, words)],
        {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
    )
