"""What a run measured: rows → log lines, csv, jsonl, markdown and the flat summary.

The log lines are those of PyCIL and LAMDA-PILOT (`trainer.py`), so that what reads their logs reads ours; groups are
the real learn sessions, labelled by their class range and sorted as numbers, and figures are plain Python floats.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from utils import metrics
from utils.atomic import write_text

LEVELS = {"fine": "CNN", "coarse": "Coarse"}  # the level and its name in the log
HEADINGS = {
    "accuracy_last": "last",
    "accuracy_average": "average",
    "top5_last": "top-5 last",
    "forgetting": "forgetting",
    "bwt": "BWT",
    "coarse_accuracy_last": "coarse last",
    "coarse_accuracy_average": "coarse average",
    "coarse_top5_last": "coarse top-5 last",
    "coarse_forgetting": "coarse forgetting",
    "coarse_bwt": "coarse BWT",
    "wall_s": "seconds",
    "peak_mb": "peak MB",
    "tunable_ratio": "tunable share",
}


@dataclass(frozen=True)
class LevelResult:
    """The test accuracies (%) at one level after one session.

    Attributes:
        top1: over all test images of the classes alive.
        top5: the same for the k best, see `SessionResult.k`.
        groups: top-1 of each learn session's classes, in the order they were learnt; nan where a group has no images.
        old: top-1 over the classes of earlier sessions, None where there are none.
        new: top-1 over the classes of this session, None where there are none.
        count: test images.
    """

    top1: float
    top5: float
    groups: tuple[float, ...]
    old: float | None
    new: float | None
    count: int

    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of top-1, in percent; (nan, nan) without test images."""
        if not self.count:
            return math.nan, math.nan
        return metrics.wilson_interval(round(self.top1 / 100 * self.count), self.count)


@dataclass(frozen=True)
class SessionResult:
    """Everything measured after one session.

    Attributes:
        index: the session's number, from 0.
        kind: "learn" or "forget".
        first: label of the first class learnt (forget session: the number of classes).
        last: label of the last class learnt, inclusive (forget session: the number of classes).
        classes: names of the classes learnt or forgotten.
        fine: accuracies on the fine labels.
        coarse: accuracies on the coarse labels, None for a data set of one level.
        seconds: wall time of the session.
        k: what "top5" really counts: 5, or the number of classes where there are fewer.
        extra: further figures by name.
    """

    index: int
    kind: str
    first: int
    last: int
    classes: tuple[str, ...]
    fine: LevelResult
    coarse: LevelResult | None
    seconds: float
    k: int
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The class range as the toolboxes print it, e.g. "00-19"."""
        return f"{self.first:02d}-{self.last:02d}"

    def to_json(self) -> dict:
        """A dict that `json` writes as it is; floats keep every bit, a figure that is not finite becomes None."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, row: Mapping) -> "SessionResult":
        """The session that `to_json` wrote; None among groups and extras becomes nan again.

        Args:
            row: the dict as json read it.
        """
        levels = {name: _level(row[name]) for name in LEVELS}
        extra = {name: _number(value) for name, value in row["extra"].items()}
        return cls(**{**row, **levels, "classes": tuple(row["classes"]), "extra": extra})


@dataclass
class RunResults:
    """The sessions of one run so far, in order; `level` is "fine" or "coarse" throughout."""

    sessions: list[SessionResult] = field(default_factory=list)

    @property
    def levels(self) -> tuple[str, ...]:
        """("fine",) or ("fine", "coarse")."""
        return tuple(level for level in LEVELS if any(getattr(row, level) for row in self.sessions))

    @property
    def group_labels(self) -> list[str]:
        """The class range of each group of the accuracy matrix."""
        return [row.label for row in self.sessions if row.kind == "learn"]

    def curve(self, level: str = "fine", which: str = "top1") -> list[float]:
        """One accuracy a session, `which` being "top1" or "top5"; nan where the session lacks the level."""
        found = [getattr(row, level) for row in self.sessions]
        return [getattr(result, which) if result else math.nan for result in found]

    def matrix(self, level: str = "fine") -> list[list[float]]:
        """The accuracy matrix, see `utils/metrics.py`."""
        found = [getattr(row, level) for row in self.sessions]
        return [list(result.groups) if result else [] for result in found]

    def average(self, level: str = "fine") -> float:
        """Ā over the sessions so far."""
        return metrics.average_accuracy(self.curve(level))

    def summary(self, wall_s: float, peak_mb: float, tunable_ratio: float) -> dict[str, float]:
        """The run in one flat dict; the coarse figures carry the prefix `coarse_`.

        Args:
            wall_s: wall time of the run in seconds.
            peak_mb: peak memory in MB.
            tunable_ratio: trainable parameters over all parameters.

        Raises:
            ValueError: where no session has been measured.
        """
        if not self.sessions:
            raise ValueError("a run without sessions has no summary")
        figures = self._level_summary("fine", "")
        if "coarse" in self.levels:
            figures |= self._level_summary("coarse", "coarse_")
        return figures | {"wall_s": wall_s, "peak_mb": peak_mb, "tunable_ratio": tunable_ratio}

    def _level_summary(self, level: str, prefix: str) -> dict[str, float]:
        last = getattr(self.sessions[-1], level)
        low, high = last.interval() if last else (math.nan, math.nan)
        return {
            f"{prefix}accuracy_last": metrics.last_accuracy(self.curve(level)),
            f"{prefix}accuracy_last_low": low,
            f"{prefix}accuracy_last_high": high,
            f"{prefix}accuracy_average": self.average(level),
            f"{prefix}top5_last": metrics.last_accuracy(self.curve(level, "top5")),
            f"{prefix}forgetting": metrics.forgetting(self.matrix(level)),
            f"{prefix}bwt": metrics.backward_transfer(self.matrix(level)),
        }


def session_lines(results: RunResults) -> list[str]:
    """The log lines after the latest session, in the toolboxes' words; the coarse level's follow."""
    latest = results.sessions[-1]
    lines = ["No NME accuracy."]
    if latest.k < 5 and all(row.k >= 5 for row in results.sessions[:-1]):
        lines.append(f"With fewer than 5 classes 'top5' counts as many as there are (here {latest.k}).")
    for level in results.levels:
        if getattr(latest, level) is None:
            continue
        name = LEVELS[level]
        lines.append(f"{name}: {_grouped(getattr(latest, level), results.group_labels)}")
        lines.append(f"{name} top1 curve: {_rounded(results.curve(level))}")
        if level == "fine":
            lines.append(f"{name} top5 curve: {_rounded(results.curve(level, 'top5'))}")
        lines.append(f"Average Accuracy ({name}): {round(results.average(level), 2)}")
    return lines


def final_lines(results: RunResults) -> list[str]:
    """The log lines at the end of a run: accuracy matrix (a row a group, a column a session), forgetting, BWT."""
    lines = []
    for level in results.levels:
        name, matrix = LEVELS[level], results.matrix(level)
        lines += [f"Accuracy Matrix ({name}):", *_matrix_lines(matrix)]
        lines.append(f"Forgetting ({name}): {round(metrics.forgetting(matrix), 2)}")
        lines.append(f"Backward Transfer ({name}): {round(metrics.backward_transfer(matrix), 2)}")
    return lines


def write_tables(folder: Path, results: RunResults, summary: Mapping, title: str, command: str) -> None:
    """Writes `sessions.csv`, `metrics.jsonl`, `table.md` and `summary.json`, each in one atomic step.

    Args:
        folder: made where it is missing.
        results: at least one session.
        summary: flat, as `RunResults.summary` gives it, with or without further figures.
        title: what was run, one line.
        command: the command line that runs it again.
    """
    rows = [row.to_json() for row in results.sessions]
    write_text(folder / "sessions.csv", _csv(results))
    write_text(folder / "metrics.jsonl", "".join(_dumps(row) + "\n" for row in rows))
    write_text(folder / "table.md", table(results, summary, title, command))
    write_text(folder / "summary.json", _dumps(_plain(dict(summary)), indent=2) + "\n")


def table(results: RunResults, summary: Mapping, title: str, command: str) -> str:
    """`table.md`: what was run, a row a session, the accuracy matrix, the summary; arguments as in `write_tables`."""
    parts = [f"# {title}", f"```sh\n{command}\n```", _sessions_table(results)]
    for level in results.levels:
        heading = f"## Top-1 (%) of each session's classes, {level} labels"
        parts += [heading, _matrix_table(results, level)] if any(results.matrix(level)) else []
    return "\n\n".join([*parts, "## Summary", _summary_table(summary)]) + "\n"


def seeds_table(runs: Sequence[tuple[int, Mapping]]) -> str:
    """A markdown table: a row a figure, a column a seed, then mean ± sample standard deviation.

    Args:
        runs: (seed, summary) pairs, at least one; a figure that some summary lacks is averaged over the others.
    """
    rows = []
    for name in (name for name in _ordered(key for _, summary in runs for key in summary) if not _bound(name)):
        values = [summary.get(name) for _, summary in runs]
        rows.append([HEADINGS.get(name, name), *(_figure(name, value) for value in values), _spread(name, values)])
    return _markdown(["figure", *(f"seed {seed}" for seed, _ in runs), "mean ± std"], rows) + "\n"


def _spread(name: str, values: Iterable[float | None]) -> str:
    known = [value for value in values if _finite(value)]
    if not known:
        return "–"
    mean, std = metrics.mean_std(known)
    return f"{_figure(name, mean)} ± {_figure(name, std)}"


def _sessions_table(results: RunResults) -> str:
    coarse = "coarse" in results.levels
    top5 = "top-5" if all(row.k >= 5 for row in results.sessions) else "top-5*"
    header = ["session", "learned / forgot", "classes", "fine top-1", top5, "old", "new"]
    rows = [_session_cells(row, coarse) for row in results.sessions]
    text = _markdown([*header, *(["coarse"] if coarse else []), "seconds"], rows, texts=3)
    return text if top5 == "top-5" else f"{text}\n\n\\* all classes count where there are fewer than five."


def _session_cells(row: SessionResult, coarse: bool) -> list[str]:
    did = f"learned {row.label}" if row.kind == "learn" else f"forgot {len(row.classes)}"
    shown = ", ".join(row.classes[:3]) + (f" … ({len(row.classes)})" if len(row.classes) > 3 else "")
    figures = [row.fine.top1, row.fine.top5, row.fine.old, row.fine.new]
    figures += [row.coarse.top1 if row.coarse else None] if coarse else []
    return [str(row.index), did, shown, *(_percent(value) for value in figures), f"{row.seconds:.1f}"]


def _matrix_table(results: RunResults, level: str) -> str:
    matrix, labels = results.matrix(level), results.group_labels
    width = max(len(row) for row in matrix)
    names = labels if len(labels) == width else [str(g) for g in range(width)]
    padded = [[*row, *[None] * (width - len(row))] for row in matrix]
    rows = [
        [f"{session.index}{' (forget)' if session.kind == 'forget' else ''}", *(_percent(value) for value in row)]
        for session, row in zip(results.sessions, padded, strict=True)
    ]
    return _markdown(["after session", *names], rows)


def _summary_table(summary: Mapping) -> str:
    rows = []
    for name in (name for name in _ordered(summary) if not _bound(name)):
        low, high = summary.get(f"{name}_low"), summary.get(f"{name}_high")
        interval = f"{low:.1f} – {high:.1f}" if _finite(low) and _finite(high) else ""
        rows.append([HEADINGS.get(name, name), _figure(name, summary[name]), interval])
    return _markdown(["figure", "value", "95 % interval"], rows)


def _ordered(names: Iterable[str]) -> list[str]:
    """Known figures in reading order, then the others as they came, each once."""
    names = dict.fromkeys(names)
    return [name for name in HEADINGS if name in names] + [name for name in names if name not in HEADINGS]


def _bound(name: str) -> bool:
    return name.endswith(("_low", "_high"))


def _figure(name: str, value: object) -> str:
    if name == "tunable_ratio" and _finite(value):
        return f"{100 * value:.3g} %"
    if name in ("wall_s", "peak_mb") and _finite(value):
        return f"{value:.1f}"
    return _percent(value) if isinstance(value, float | None) else str(value)


def _percent(value: float | None) -> str:
    return f"{value:.2f}" if _finite(value) else "–"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    lines = [header, ["---"] * texts + ["---:"] * (len(header) - texts), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _csv(results: RunResults) -> str:
    extras = list(dict.fromkeys(name for row in results.sessions for name in row.extra))
    rows = [_csv_row(row, extras) for row in results.sessions]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _csv_row(row: SessionResult, extras: Sequence[str]) -> dict:
    plain = row.to_json()
    cells = {"session": row.index, "kind": row.kind, "first": row.first, "last": row.last}
    cells |= {"classes": ";".join(row.classes), "k": row.k, "images": row.fine.count}
    for level in LEVELS:
        prefix = "" if level == "fine" else "coarse_"
        found = plain[level] or {}
        cells |= {f"{prefix}{name}": found.get(name) for name in ("top1", "top5", "old", "new")}
    return cells | {"seconds": row.seconds} | {name: plain["extra"].get(name) for name in extras}


def _grouped(result: LevelResult, labels: Sequence[str]) -> dict[str, float]:
    """The toolboxes' dict: total, the groups, old (0 where there is none, as theirs), new."""
    known = {label: value for label, value in zip(labels, result.groups, strict=False) if _finite(value)}
    pairs = {"total": result.top1}
    pairs |= {label: known[label] for label in sorted(known, key=lambda text: [int(end) for end in text.split("-")])}
    pairs |= {"old": result.old if _finite(result.old) else 0}
    pairs |= {"new": result.new} if _finite(result.new) else {}
    return {name: round(float(value), 2) if value else 0 for name, value in pairs.items()}


def _rounded(curve: Iterable[float]) -> list[float]:
    return [round(float(value), 2) for value in curve]  # a numpy float would print as np.float64(…)


def _matrix_lines(matrix: Sequence[Sequence[float]]) -> list[str]:
    """The transposed matrix as numpy prints one; as in the toolboxes 0 stands where a group has no figure."""
    width = max(map(len, matrix), default=0)
    cells = [[f"{row[g] if g < len(row) and _finite(row[g]) else 0:6.2f}" for row in matrix] for g in range(width)]
    rows = [" [" + " ".join(row) + "]" for row in cells]
    return ["[" + rows[0][1:], *rows[1:-1], rows[-1] + "]"] if len(rows) > 1 else ["[" + "".join(rows).strip() + "]"]


def _finite(value: object) -> bool:
    return isinstance(value, float | int) and math.isfinite(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _level(row: Mapping | None) -> LevelResult | None:
    if row is None:
        return None
    figures = {name: _number(row[name]) for name in ("top1", "top5")}
    return LevelResult(**{**row, **figures, "groups": tuple(_number(value) for value in row["groups"])})


def _plain(value: object) -> object:
    """The same with tuples as lists, numpy's numbers as Python's, and None for what is not finite."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _dumps(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
