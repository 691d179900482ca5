"""What a run measured: rows, their JSON, the log lines and the flat summary; `utils/tables.py` writes the files.

The log lines are those of PyCIL and LAMDA-PILOT (`trainer.py`), so that what reads their logs reads ours; groups are
the real learn sessions, labelled by their class range and sorted as numbers, and figures are plain Python floats.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from utils import metrics
from utils.answers import Answer
from utils.feature_map import Spot
from utils.plain import finite, number, plain

LEVELS = {"fine": "CNN", "coarse": "Coarse"}  # the level and its name in the log
# a request's figures in reading order and what readers call them; that of one general set is named "zero_shot.food101"
REQUEST_FIGURES = {
    "forget_fine": "forget fine",
    "forget_coarse": "forget coarse",
    "retain_fine": "retain fine",
    "retain_coarse": "retain coarse",
    "adjacent_fine": "adjacent fine",
    "remote_fine": "remote fine",
    "past_fine": "past requests fine",
    "quality": "Quality",
    "utility": "Utility",
    "qu": "Q-U",
    "zero_shot": "Zero-shot",
    "ece": "ECE",
    "forget_fine_rows": "forget fine, own rows",
    "forget_fine_text": "forget fine, plain text rows",
}
SCORES = {"quality": 0.0, "utility": 100.0, "qu": 0.0}  # they compare after with before; here of a model left as it was
ROLES = {
    "forget": "Forgotten classes",
    "adjacent": "Adjacent classes",
    "remote": "Remote classes",
    "past": "Classes of past requests",
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
        return _interval(self.top1, self.count)


@dataclass(frozen=True)
class ClassChange:
    """What a request did to one class.

    Attributes:
        name: of the class.
        parent: its coarse class; its own name in a data set of one level.
        role: "forget" (asked to be forgotten), "adjacent" (kept, but close to a forgotten class), "remote" (kept) or
            "past" (forgotten by an earlier request).
        images: test images of the class.
        before: fine top-1 before the session, in percent.
        after: the same after it.
        missing: whether the request showed no image of it, although it showed some of other classes to keep.
    """

    name: str
    parent: str
    role: str
    images: int
    before: float
    after: float
    missing: bool = False

    @property
    def stays(self) -> bool:
        """Whether the model is to know the class after the request."""
        return self.role in ("adjacent", "remote")

    @property
    def change(self) -> float:
        """Accuracy gained, in points; negative where some was lost."""
        return self.after - self.before


@dataclass(frozen=True)
class RequestResult:
    """What a forget session did: figures by name (see `REQUEST_FIGURES`), in percent, and every class.

    Attributes:
        level: "fine", "coarse" or "hybrid".
        before: the figures before the session; a figure that compares the two needs none.
        after: the figures after it.
        classes: the classes seen so far.
        counts: test images behind a figure, where they are not those of the classes (the general sets).
        answers: what the images of the forgotten classes are called, by the classifier's rows.
        spots: test images on the map of features, the forgotten classes first, then adjacent, then remote ones.
    """

    level: str
    before: dict[str, float]
    after: dict[str, float]
    classes: tuple[ClassChange, ...]
    counts: dict[str, int] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()
    spots: tuple[Spot, ...] = ()

    @property
    def figures(self) -> list[str]:
        """The names of the figures in reading order."""
        places = {name: place for place, name in enumerate(REQUEST_FIGURES)}
        return sorted(
            self.after | self.before, key=lambda name: (places.get(name.split(".")[0], len(places)), "." in name)
        )

    @property
    def measured(self) -> list[str]:
        """Those of them that are known before or after the session."""
        sides = (self.after, self.before)
        return [name for name in self.figures if any(finite(side.get(name)) for side in sides)]

    @property
    def roles(self) -> dict[str, str]:
        """Class → its role."""
        return {change.name: change.role for change in self.classes}

    def of_role(self, *roles: str) -> list[ClassChange]:
        """The classes of some roles, those that lost most first."""
        found = [change for change in self.classes if change.role in roles]
        return sorted(found, key=lambda change: change.change if finite(change.change) else math.inf)

    def count(self, figure: str) -> int:
        """Test images behind an accuracy; 0 where that is not known."""
        role = figure.split("_")[0]
        roles = ("adjacent", "remote") if role == "retain" else (role,)
        return self.counts.get(figure, sum(change.images for change in self.of_role(*roles)))

    def interval(self, figure: str) -> tuple[float, float]:
        """Wilson's 95 % interval of an accuracy after the session; (nan, nan) where the number of images is unknown."""
        return _interval(self.after.get(figure, math.nan), self.count(figure))

    @classmethod
    def from_json(cls, row: Mapping) -> "RequestResult":
        """The request as `json` reads what `SessionResult.to_json` wrote; None becomes nan again."""
        sides = {side: {name: number(value) for name, value in row[side].items()} for side in ("before", "after")}
        floats = ("before", "after")
        classes = [ClassChange(**{**change, **{s: number(change[s]) for s in floats}}) for change in row["classes"]]
        answers = tuple(Answer(**cell) for cell in row.get("answers", ()))
        spots = tuple(Spot(spot["name"], tuple(spot["before"]), tuple(spot["after"])) for spot in row.get("spots", ()))
        return cls(**{**row, **sides, "classes": tuple(classes), "answers": answers, "spots": spots})


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
        request: what a forget session did; None after a learn session.
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
    request: RequestResult | None = None

    @property
    def label(self) -> str:
        """The class range as the toolboxes print it, e.g. "00-19"."""
        return f"{self.first:02d}-{self.last:02d}"

    def to_json(self) -> dict:
        """A dict that `json` writes as it is; floats keep every bit, a figure that is not finite becomes None."""
        return plain(asdict(self))

    @classmethod
    def from_json(cls, row: Mapping) -> "SessionResult":
        """The session that `to_json` wrote; None among groups and extras becomes nan again.

        Args:
            row: the dict as json read it.
        """
        levels = {name: _level(row[name]) for name in LEVELS}
        extra = {name: number(value) for name, value in row["extra"].items()}
        request = RequestResult.from_json(row["request"]) if row.get("request") else None
        return cls(**{**row, **levels, "classes": tuple(row["classes"]), "extra": extra, "request": request})


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

    @property
    def forgets(self) -> list[SessionResult]:
        """The forget sessions that were measured as requests."""
        return [row for row in self.sessions if row.request]

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

        After forget sessions it also has the figures of the last one, each with what it was before as `…_before`, and
        the further figures of that session.

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
        if self.forgets:
            figures |= _request_summary(self.forgets[-1].request) | self.forgets[-1].extra
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


def _request_summary(request: RequestResult) -> dict[str, float]:
    found = {}
    for name in request.figures:
        found[f"{name}_before"] = request.before.get(name, SCORES.get(name, math.nan))
        found[name] = request.after.get(name, math.nan)
        bounds = zip(("low", "high"), request.interval(name), strict=True)
        found |= {f"{name}_{end}": value for end, value in bounds if finite(value)}
    return found


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
    return lines + (_request_lines(latest.request) if latest.request else [])


def _request_lines(request: RequestResult) -> list[str]:
    """The accuracies, then the scores, then the classes, role by role."""
    scores = [name for name in request.measured if name in SCORES or name.split(".")[0] == "zero_shot"]
    shown = [_moved(name, request) for name in request.measured if name not in scores]
    headed = [_moved(name, request, REQUEST_FIGURES.get(name, name)) for name in scores]
    lines = [f"Request ({request.level}): {', '.join(shown)}", *([", ".join(headed)] if headed else [])]
    return lines + [f"{title}: {_classes(request, role)}" for role, title in ROLES.items() if request.of_role(role)]


def _moved(name: str, request: RequestResult, title: str = "") -> str:
    """A figure before and after; one that compares the two stands alone."""
    sides = [side.get(name, math.nan) for side in (request.before, request.after)]
    return f"{title or name} {_arrow(*sides) if name not in SCORES else _shown(sides[1])}"


def _classes(request: RequestResult, role: str) -> str:
    """Every class that was to be forgotten; of those that were to stay, the ones that moved."""
    changes = request.of_role(role)
    moved = [change for change in changes if role in ("forget", "past") or (finite(change.change) and change.change)]
    shown = [f"{change.name} {_arrow(change.before, change.after)}" for change in moved]
    unseen = sum(not change.images for change in changes if change not in moved)
    left = len(changes) - len(moved) - unseen
    counts = {"unchanged": left, "without test images": unseen}
    return ", ".join(shown + [f"{count} {what}" for what, count in counts.items() if count])


def _arrow(before: float, after: float) -> str:
    return f"{_shown(before)} -> {_shown(after)}"


def _shown(value: float) -> str:
    return f"{round(float(value), 2)}" if finite(value) else "–"


def final_lines(results: RunResults) -> list[str]:
    """The log lines at the end of a run: accuracy matrix (a row a group, a column a session), forgetting, BWT."""
    lines = []
    for level in results.levels if results.group_labels else ():  # nothing was learnt: there is no matrix
        name, matrix = LEVELS[level], results.matrix(level)
        lines += [f"Accuracy Matrix ({name}):", *_matrix_lines(matrix)]
        lines.append(f"Forgetting ({name}): {round(metrics.forgetting(matrix), 2)}")
        lines.append(f"Backward Transfer ({name}): {round(metrics.backward_transfer(matrix), 2)}")
    return lines


def _grouped(result: LevelResult, labels: Sequence[str]) -> dict[str, float]:
    """The toolboxes' dict: total, the groups, old (0 where there is none, as theirs), new.

    A stream that learns nothing has the total alone.
    """
    known = {label: value for label, value in zip(labels, result.groups, strict=False) if finite(value)}
    pairs = {"total": result.top1}
    pairs |= {label: known[label] for label in sorted(known, key=lambda text: [int(end) for end in text.split("-")])}
    pairs |= {"old": result.old if finite(result.old) else 0} if labels else {}
    pairs |= {"new": result.new} if finite(result.new) else {}
    return {name: round(float(value), 2) if value else 0 for name, value in pairs.items()}


def _rounded(curve: Iterable[float]) -> list[float]:
    return [round(float(value), 2) for value in curve]  # a numpy float would print as np.float64(…)


def _matrix_lines(matrix: Sequence[Sequence[float]]) -> list[str]:
    """The transposed matrix as numpy prints one; as in the toolboxes 0 stands where a group has no figure."""
    width = max(map(len, matrix), default=0)
    cells = [[f"{row[g] if g < len(row) and finite(row[g]) else 0:6.2f}" for row in matrix] for g in range(width)]
    rows = [" [" + " ".join(row) + "]" for row in cells]
    return ["[" + rows[0][1:], *rows[1:-1], rows[-1] + "]"] if len(rows) > 1 else ["[" + "".join(rows).strip() + "]"]


def _interval(accuracy: float, images: int) -> tuple[float, float]:
    if not images or not finite(accuracy):
        return math.nan, math.nan
    return metrics.wilson_interval(round(accuracy / 100 * images), images)


def _level(row: Mapping | None) -> LevelResult | None:
    if row is None:
        return None
    figures = {name: number(row[name]) for name in ("top1", "top5")}
    return LevelResult(**{**row, **figures, "groups": tuple(number(value) for value in row["groups"])})
