"""Experiment trackers: they are told the loss terms of every epoch and the figures of every session.

All of them keep what they are told in files; nothing leaves the machine unless the tracker's own environment variable
asks for it. The packages are imported when a run asks for one.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import ClassVar

from utils.errors import ConfigError
from utils.plain import dumps, finite
from utils.results import LEVELS, SessionResult

PROJECT = "lethe"


class Tracker:
    """What is told of a run; this one tells nobody."""

    def start(self, name: str, config: Mapping[str, object], resumed: bool = False) -> None:
        """A run begins, or goes on; what is told before that or after `end` is lost.

        Args:
            name: of the run, the same when it goes on.
            config: its settings, plain values.
            resumed: whether it goes on.
        """

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Figures by name, every one a finite number; steps only grow."""

    def end(self) -> None:
        """The run is over, or has failed."""


class _Packaged(Tracker):
    """A tracker of a package that may not be there.

    Args:
        folder: of the run's own files.
        shared: a folder for a tracker that has one store for all runs.

    Raises:
        ImportError: the package is not there.
    """

    package: ClassVar[str]

    def __init__(self, folder: Path, shared: Path):
        self.folder, self.module = folder, import_module(self.package)


class TensorBoard(_Packaged):
    """Event files; a run that goes on adds another one."""

    package = "torch.utils.tensorboard"

    def start(self, name: str, config: Mapping[str, object], resumed: bool = False) -> None:
        """Open a file, with the settings as its text."""
        self.writer = self.module.SummaryWriter(str(self.folder))
        self.writer.add_text("config", f"```json\n{dumps(config, indent=1)}\n```")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """A scalar each."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def end(self) -> None:
        """Close the file."""
        self.writer.close()


class _Runs(_Packaged, ABC):
    """A package whose `init` gives a run that has `log` and `finish`."""

    def start(self, name: str, config: Mapping[str, object], resumed: bool = False) -> None:
        """Begin a run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run = self.module.init(project=PROJECT, name=name, config=dict(config), **self._options(name, resumed))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """All of them at once."""
        self.run.log(dict(values), step=step)

    def end(self) -> None:
        """Finish the run."""
        self.run.finish()

    @abstractmethod
    def _options(self, name: str, resumed: bool) -> dict[str, object]:
        """What the package's `init` takes beside the project, the name and the settings."""


class Wandb(_Runs):
    """Weights & Biases, offline unless `WANDB_MODE` says otherwise; one that goes on is a further run of its group."""

    package = "wandb"

    def _options(self, name: str, resumed: bool) -> dict[str, object]:
        quiet = self.module.Settings(silent=True, console="off", disable_code=True, disable_git=True)
        mode = os.environ.get("WANDB_MODE", "offline")
        return {"group": name, "dir": str(self.folder), "mode": mode, "reinit": "create_new", "settings": quiet}


class SwanLab(_Runs):
    """SwanLab, offline unless `SWANLAB_MODE` says otherwise; one that goes on is a further run of its group."""

    package = "swanlab"

    def _options(self, name: str, resumed: bool) -> dict[str, object]:
        return {"group": name, "log_dir": str(self.folder), "mode": os.environ.get("SWANLAB_MODE", "offline")}


class Trackio(_Runs):
    """Trackio: one store for all runs, which its dashboard compares; one that goes on is the same run."""

    package = "trackio"

    def __init__(self, folder: Path, shared: Path):
        store = shared / "trackio"
        os.environ.setdefault("TRACKIO_DIR", str(store.resolve()))  # read once, when the package is imported
        super().__init__(store, shared)

    def _options(self, name: str, resumed: bool) -> dict[str, object]:
        meters = {"auto_log_gpu": False, "auto_log_cpu": False}
        return {"resume": "allow" if resumed else "never", "embed": False, **meters}


TRACKERS = {"tensorboard": TensorBoard, "wandb": Wandb, "swanlab": SwanLab, "trackio": Trackio}


def get_tracker(name: str | None, folder: Path, shared: Path) -> Tracker:
    """A tracker by its name, or the one that tells nobody.

    Args:
        name: one of `TRACKERS`, or None.
        folder: of the run's own files.
        shared: a folder for a tracker that has one store for all runs.

    Raises:
        ConfigError: its package is not installed.
    """
    if name is None:
        return Tracker()
    try:
        return TRACKERS[name](folder, shared)
    except ImportError as error:
        raise ConfigError(f"key 'tracker': '{name}' cannot be used ({error}); python -m pip install {name}") from error


def of_epoch(phase: str, terms: Mapping[str, float]) -> dict[str, float]:
    """An epoch's loss and its terms, named after the phase."""
    found = {f"{phase}/{name}": value for name, value in terms.items()}
    return found | {f"{phase}/total": sum(terms.values())}


def of_session(row: SessionResult) -> dict[str, float]:
    """The figures of a session's row that are known."""
    levels = {level: getattr(row, level) for level in LEVELS if getattr(row, level)}
    found = {f"session/{level}_{k}": getattr(result, k) for level, result in levels.items() for k in ("top1", "top5")}
    found |= {"session/seconds": row.seconds} | {f"session/{name}": value for name, value in row.extra.items()}
    found |= {f"request/{name}": value for name, value in row.request.after.items()} if row.request else {}
    return {name: value for name, value in found.items() if finite(value)}
