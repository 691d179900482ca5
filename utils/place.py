"""Where a run leaves its files, and what stands there already."""

import shutil
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from utils.config import Config, config_hash, load_config, log_stem, resolved
from utils.errors import CheckpointError, ConfigError
from utils.processes import by_the_first
from utils.run_folder import AUDIT_FIGURES, AUDIT_PAGE, CONFIG, HISTORY, REPORT, SUMMARY, finished
from utils.schema import NO_EFFECT


@dataclass(frozen=True)
class Place:
    """The log of a run and, beside it, the folder of the same stem."""

    folder: Path

    @property
    def log(self) -> Path:
        """The log, PyCIL's."""
        return self.folder.with_name(self.folder.name + ".log")

    @property
    def lock(self) -> Path:
        """There while a process is at work on the run."""
        return self.folder.with_name(self.folder.name + ".lock")

    @property
    def summary(self) -> Path:
        """The flat figures; while this file stands, the run counts as finished."""
        return self.folder / SUMMARY

    @property
    def checkpoint(self) -> Path:
        """What resuming needs."""
        return self.folder / "checkpoint"

    @property
    def history(self) -> Path:
        """Models as they were before each forget request, and its exemplars, where the config keeps them."""
        return self.folder / HISTORY

    @property
    def begun(self) -> bool:
        """Whether a run has been at work here."""
        return (self.folder / CONFIG).exists()

    @property
    def tracker(self) -> Path:
        """What an experiment tracker was told."""
        return self.folder / "tracker"

    @by_the_first
    def clear(self) -> None:
        """A new run starts here; the summary goes first: while it stands, the run counts as finished."""
        self.summary.unlink(missing_ok=True)
        for name in (AUDIT_PAGE, AUDIT_FIGURES, REPORT):  # of the model before
            (self.folder / name).unlink(missing_ok=True)
        _drop(self.tracker)
        _drop(self.history)

    @by_the_first
    def drop_history(self) -> None:
        """Let go of them."""
        _drop(self.history)

    def finished(self) -> dict | None:
        """The summary of a finished run, or None."""
        return finished(self.folder)


def _drop(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def find_place(config: Config, seed: int, resume: bool, taken: Container[Path] = ()) -> Place:
    """PyCIL's path; with the config's hash behind it where another config's run already stands there.

    Args:
        config: the experiment.
        seed: of the run.
        resume: whether a run is to go on.
        taken: folders in which runs of other configs are going to stand.

    Raises:
        CheckpointError: only another config's run is there to be resumed, or what stands there is of another version.
    """
    stem = Path(config.logs) / log_stem(config, seed)
    other = _config_at(stem)
    if stem not in taken and (other is None or config_hash(other) == config_hash(config)):
        return Place(stem)
    hashed = stem.with_name(f"{stem.name}_{config_hash(config)}")
    if resume and other is not None and _config_at(hashed) is None:
        theirs, ours = resolved(other), resolved(config)
        differing = [key for key in ours if key not in NO_EFFECT and theirs[key] != ours[key]]
        raise CheckpointError(
            f"{stem}: the run there has another config (differing: {', '.join(differing)}); "
            "resume with that config, or start anew without --resume"
        )
    return Place(hashed)


def _config_at(folder: Path) -> Config | None:
    file = folder / CONFIG
    try:
        return load_config(file).config if file.exists() else None
    except ConfigError as error:
        raise CheckpointError(
            f"{error}; that is not a config of this version: move {folder} away or use another prefix"
        ) from error
