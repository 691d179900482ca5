"""A finished run, read back from the folder it left."""

import json
from dataclasses import dataclass
from pathlib import Path

from utils.album import Exemplar, album_name, album_of
from utils.config import Config, load_config
from utils.errors import CheckpointError
from utils.results import RunResults, SessionResult

AUDIT_PAGE, AUDIT_FIGURES = "audits.md", "audits.json"
CONFIG = "config.json"
HISTORY = "history"
REPORT = "report.html"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class FinishedRun:
    """What a run left.

    Attributes:
        folder: where.
        config: what was run, with its one seed.
        results: the sessions.
        summary: the flat figures.
        environment: on what it was run; empty where that is not known.
        audits: the page of `main.py audit`; empty where the run has not been audited.
        albums: forget session → its exemplars, where the run kept its history.
    """

    folder: Path
    config: Config
    results: RunResults
    summary: dict
    environment: dict
    audits: str
    albums: dict[int, tuple[Exemplar, ...]]

    @property
    def title(self) -> str:
        """Learner and data, as in `table.md`."""
        return f"{self.config.model_name} on {self.config.dataset}"

    @property
    def about(self) -> str:
        """Backbone and seed."""
        return f"{self.config.convnet_type}, seed {self.config.seed[0]}"

    @property
    def pictures(self) -> list[Path]:
        """The figures it drew, by name."""
        return sorted(self.folder.glob("*.png"))


def read_run(folder: Path) -> FinishedRun:
    """Read a run.

    Raises:
        CheckpointError: the folder holds no run, none that is finished, or one whose files are damaged.
        ConfigError: its `config.json` is not one of this version.
    """
    config = config_of(folder)
    sessions = _read(folder / "metrics.jsonl", _sessions)
    summary = _read(folder / SUMMARY, _object)
    environment = _read(folder / "environment.json", _object) if (folder / "environment.json").is_file() else {}
    audits = _read(folder / AUDIT_PAGE, str) if (folder / AUDIT_PAGE).is_file() else ""
    return FinishedRun(folder, config, RunResults(sessions), summary, environment, audits, _albums(folder, sessions))


def _albums(folder: Path, sessions: list[SessionResult]) -> dict[int, tuple[Exemplar, ...]]:
    files = {row.index: folder / HISTORY / album_name(row.index) for row in sessions}
    return {index: _read(file, album_of) for index, file in files.items() if file.is_file()}


def config_of(folder: Path) -> Config:
    """The config of a finished run.

    Raises:
        CheckpointError: the folder holds no run, or none that is finished.
        ConfigError: its `config.json` is not one of this version.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder}: no run is here; give a folder that holds a config.json, such as logs/…/RUN")
    if not (folder / SUMMARY).is_file():
        raise CheckpointError(f"{folder}: the run is not finished; finish it with --resume first")
    return load_config(folder / CONFIG).config


def finished(folder: Path) -> dict | None:
    """The summary of a finished run, or None."""
    try:
        return _object((folder / SUMMARY).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None  # one that cannot be read is written anew


def _sessions(text: str) -> list[SessionResult]:
    if not text:
        raise ValueError("it is empty")
    # not splitlines(): a class's name may hold U+2028 and its like
    found = [SessionResult.from_json(json.loads(line)) for line in text.removesuffix("\n").split("\n")]
    if any(row.fine is None for row in found):
        raise ValueError("a session has no accuracies")
    return found


def _object(text: str) -> dict:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def _read(file: Path, parse):
    try:
        return parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: is missing; run the experiment again") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # what damaged or foreign JSON leads to
        raise CheckpointError(f"{file}: is damaged ({error}); run the experiment again") from error
