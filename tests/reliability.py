"""Runs that are killed and runs whose disk fails go on, and end as if nothing had happened: every case is checked.

python -m tests.reliability                     # 100 kills at random moments, then every fault of every kind
python -m tests.reliability --kills 5 --every 9 # a short version

The run learns two classes, is asked to forget one and learns another, so that checkpoints of every kind are written,
replaced, set aside and purged. It is a process of its own, forked from one that has imported everything. A case has
passed when the run then ends with the figures and, bit for bit, the tensors of one that nothing has touched, has read
no damaged checkpoint, and has left no file behind.
"""

import argparse
import errno
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import main
import models.adapter  # noqa: F401  before the fork, not after each
import trainer
from data.world import ensure_world
from tests.forgetting import ARROW, COMET, MEADOW, MIXED
from tests.support import assert_same_run, contents, log_of, only_run
from utils.checkpoint import read_tensors
from utils.errors import LetheError

EXPERIMENT = MIXED | {
    "img_size": 32,
    "sessions": [{"learn": [COMET, MEADOW]}, {"forget": {"classes": [MEADOW], "exemplars": 3}}, {"learn": [ARROW]}],
}


class Faults:
    """Strikes at one of the calls that a run makes to change the disk, counted from 1; at 0 it only counts.

    Of what is being written, half has been written by then.
    """

    def __init__(self, at: int, strike: Callable[[str], None]):
        self.at, self.strike, self.calls = at, strike, []

    def install(self) -> None:
        """In this process, for good."""
        for name, kind in (("fsync", "flush"), ("replace", "move"), ("unlink", "removal"), ("mkdir", "folder")):
            setattr(os, name, partial(self._struck, kind, getattr(os, name)))
        opening = Path.open

        def watched(file: Path, mode: str = "r", *args, **options):
            if "r" in mode:
                return opening(file, mode, *args, **options)
            self.pass_by("opening")
            return _Watched(opening(file, mode, *args, **options), self)

        Path.open = watched

    def pass_by(self, kind: str) -> None:
        self.calls.append(kind)
        if len(self.calls) == self.at:
            self.strike(kind)

    def _struck(self, kind: str, act: Callable, *args, **options):
        self.pass_by(kind)
        return act(*args, **options)


class _Watched:
    """A file open for writing."""

    def __init__(self, opened, faults: Faults):
        self._opened, self._faults = opened, faults

    def __getattr__(self, name: str):
        return getattr(self._opened, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._opened.close()

    def write(self, content) -> None:
        self._opened.write(content[: len(content) // 2])
        self._opened.flush()
        self._faults.pass_by("write")
        self._opened.write(content[len(content) // 2 :])


# kind of a call → what is wrong with the disk there
ERRORS = {
    "folder": errno.EACCES,
    "opening": errno.EROFS,
    "write": errno.ENOSPC,
    "flush": errno.EIO,
    "move": errno.ENOSPC,
    "removal": errno.EROFS,
}


def failed(kind: str) -> None:
    raise OSError(ERRORS[kind], os.strerror(ERRORS[kind]))


def killed(kind: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


STRIKES = {"an error": failed, "a kill": killed}


class Case:
    """One run in a folder of its own below `base`."""

    def __init__(self, base: Path, name: str):
        self.folder = base / name
        (self.folder / "data").mkdir(parents=True)
        (self.folder / "data" / "cache").symlink_to(base / "world")
        (self.folder / "experiment.json").write_text(json.dumps(EXPERIMENT), encoding="utf-8")

    @property
    def said(self) -> str:
        """What it has written to the terminal."""
        return (self.folder / "said.txt").read_text(encoding="utf-8")

    @property
    def run(self) -> Path:
        return self.folder / only_run(self.folder / "logs")

    def start(self, faults: Faults | None = None) -> int:
        """Start it or go on with it, in a process of its own; returns that process's id."""
        process = os.fork()
        if process:
            return process
        try:
            self._carry_out(faults)
        finally:
            os._exit(70)

    def _carry_out(self, faults: Faults | None) -> None:
        os.chdir(self.folder)
        said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(said, descriptor)
        if faults:
            faults.install()
        code = main.main(["--config", "experiment.json", "--resume"])
        if faults:
            os.write(os.open("calls.json", os.O_WRONLY | os.O_CREAT), json.dumps(faults.calls).encode())
        sys.stderr.flush()
        os._exit(code)

    def end(self, process: int) -> int:
        """Wait for its end; the exit code, or minus the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    def finish(self, whole: "Case") -> None:
        """Let it go on to its end, and compare that with the end of one that nothing has touched."""
        assert self.end(self.start()) == 0, self.said
        assert_same_run(self.run, whole.run)
        assert "damaged" not in self.said + log_of(self.run), self.said
        assert set(contents(self.folder / "logs")) == set(contents(whole.folder / "logs"))
        shutil.rmtree(self.folder)


def kills(base: Path, whole: Case, count: int, seconds: float, dice: random.Random) -> int:
    """Kill runs at random moments of their lives until `count` kills have struck; returns the number of runs."""
    runs, struck = 0, 0
    while struck < count:
        case, code = Case(base, f"killed-{runs}"), -signal.SIGKILL
        while code == -signal.SIGKILL and struck < count:
            process = case.start()
            time.sleep(dice.uniform(0, seconds))
            os.kill(process, signal.SIGKILL)
            code = case.end(process)
            struck += code == -signal.SIGKILL
        assert code in (0, -signal.SIGKILL), case.said
        case.finish(whole)
        runs += 1
    return runs


def faults(base: Path, whole: Case, every: int) -> tuple[Counter, list[str]]:
    """Strike at every n-th call that changes the disk, by an error and by a kill.

    Returns:
        How often, by way and kind of call; and what went wrong.
    """
    calls = json.loads((whole.folder / "calls.json").read_text())
    struck, wrong = Counter(), []
    for place, (way, strike) in enumerate(STRIKES.items()):
        for at in range(1 + place % every, len(calls) + 1, every):
            kind = calls[at - 1]
            case = Case(base, f"{way}-{at}".replace(" ", "-"))
            code = case.end(case.start(Faults(at, strike)))
            try:
                _check_fault(case, way, code, kind)
                case.finish(whole)
            except (AssertionError, LetheError, OSError) as error:
                wrong.append(f"{way} at call {at}, {kind}: {error}")
            struck[way, kind] += 1
    return struck, wrong


def _check_fault(case: Case, way: str, code: int, call: str) -> None:
    """It was killed, or ended in one line; what is there of checkpoints can be read."""
    if way == "a kill":
        assert code == -signal.SIGKILL, case.said
    elif code or call != "folder":  # one that is there already need not be made
        assert code == 2, (way, call, case.said)
        *_, last = case.said.splitlines()
        assert last.startswith("lethe: ") and "Traceback" not in case.said, case.said
        assert not list(case.folder.rglob("*.part")), call
    for file in case.folder.rglob("*.safetensors"):
        read_tensors(file)


def uninterrupted(base: Path) -> tuple[Case, float]:
    """A run that nothing touches, whose calls are counted, and the seconds it took."""
    case, started = Case(base, "whole"), time.monotonic()
    assert case.end(case.start(Faults(0, killed))) == 0, case.said
    return case, time.monotonic() - started


def prepare(base: Path) -> None:
    """What all runs share: the drawn world; and no figures, which take as long as a run."""
    ensure_world("toymini", base / "world")
    trainer.plots.curves = trainer.request_plots.requests = lambda *_: None


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def command(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="kills at random moments")
    parser.add_argument("--every", type=int, default=1, help="strike at every n-th call only")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as base:
        prepare(Path(base))
        whole, seconds = uninterrupted(Path(base))
        runs = kills(Path(base), whole, args.kills, seconds, random.Random(args.seed))
        tell(f"killed at {args.kills} random moments, in {runs} runs: all ended the same")
        struck, wrong = faults(Path(base), whole, args.every)
    for way in STRIKES:
        of_way = {kind: number for (other, kind), number in struck.items() if other == way}
        named = ", ".join(f"{kind} {number}" for kind, number in of_way.items())
        tell(f"{way} in {sum(of_way.values())} calls ({named})")
    tell("\n".join(["these did not end the same:", *wrong]) if wrong else "all ended the same")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(command())
