"""What a forget request did: forgotten and retained classes, both levels, near and far, before and after."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from convs.heads import cosines
from data.general import GeneralSet
from data.sessions import Session
from models.evaluation import Scores, score
from models.learner import Learner
from utils.answers import answers, said
from utils.feature_map import Plane, Spot, shown, spots
from utils.loop import Batch
from utils.metrics import accuracy, topk_hits
from utils.passes import gather
from utils.results import ClassChange, RequestResult
from utils.unlearning import calibration_error, harmonic, quality, utility

NEIGHBOURS = 3
Item = tuple[str, tuple[int, ...]]  # a level and fine classes


@dataclass(frozen=True)
class Parts:
    """The classes to retain, as fine labels.

    Attributes:
        adjacent: those under the parent of a forgotten class or, where it has no sibling left, nearest to it.
        remote: the others.
    """

    adjacent: tuple[int, ...]
    remote: tuple[int, ...]


@dataclass(frozen=True)
class Measured:
    """One model's figures on a request, in %.

    Attributes:
        figures: by name, as `utils.results` lists them.
        forgotten: what is to fall, in a fixed order.
        kept: what is to stay, in a fixed order.
        classes: fine label → its accuracy.
    """

    figures: dict[str, float]
    forgotten: list[float]
    kept: list[float]
    classes: dict[int, float]


def parts(session: Session, rows: Tensor) -> Parts:
    """Split the classes to retain into adjacent and remote ones.

    Args:
        session: the request.
        rows: fine rows of the original, [C, D]; cosines between them tell which classes are nearest.
    """
    parents, alive = session.order.parents, torch.tensor(session.alive, dtype=torch.long)
    near = cosines(rows, rows).cpu()
    adjacent: set[int] = set()
    for label in session.classes:
        siblings = {other for other in session.alive if parents[other] == parents[label]}
        nearest = alive[near[label, alive].topk(min(NEIGHBOURS, len(alive))).indices].tolist()
        adjacent |= siblings or set(nearest)
    return Parts(tuple(sorted(adjacent)), tuple(label for label in session.alive if label not in adjacent))


class Reading:
    """Accuracies of one model by level and classes, in %; nan where there are no images.

    Args:
        scores: of the model.
    """

    def __init__(self, scores: Scores):
        self.fine, self.levels = scores.labels["fine"], list(scores.logits)
        self.by_rows = {k: topk_hits(logits, scores.labels[k], 1) for k, logits in scores.logits.items()}
        self.by_text = {k: topk_hits(logits, scores.labels[k], 1) for k, logits in scores.text.items()}

    def images(self, classes: Collection[int]) -> np.ndarray:
        """Which images are of these fine classes, bool [N]."""
        return np.isin(self.fine, list(classes))

    def rows(self, level: str, classes: Collection[int]) -> float:
        """By the classifier's rows."""
        return accuracy(self.by_rows[level][self.images(classes)])

    def text(self, level: str, classes: Collection[int]) -> float:
        """By the plain text features of the names; nan without a text tower."""
        return accuracy(self.by_text[level][self.images(classes)]) if self.by_text else math.nan

    def larger(self, level: str, classes: Collection[int]) -> float:
        """By whichever of the two knows more: what is to be forgotten must be gone from both."""
        return float(np.fmax(self.rows(level, classes), self.text(level, classes)))


def measure(scores: Scores, session: Session, split: Parts, general: Mapping[str, float]) -> Measured:
    """The figures of one model on a request.

    A forgotten name is looked for twice, by the classifier's rows and by the plain text features of the names, and the
    larger accuracy counts. What is to stay is read from the rows.

    Args:
        scores: of the model.
        session: the request.
        split: the classes to retain.
        general: accuracy on each general set, %.

    Source: Tan & Gong, Knowledge-Tracing Unlearning, 2025, section 4; adjacent, remote and past classes are ours.
    """
    read = Reading(scores)
    gone, kept = _items(session, read.levels)
    forgotten = [read.larger(level, classes) for level, classes in gone]
    figures = {
        **{f"forget_{level}": _over_goals(read, session, level) for level in read.levels},
        **{f"retain_{level}": read.rows(level, session.alive) for level in read.levels},
        "adjacent_fine": read.rows("fine", split.adjacent),
        "remote_fine": read.rows("fine", split.remote),
        "past_fine": read.larger("fine", session.past) if session.past else math.nan,
        "zero_shot": sum(general.values()) / len(general) if general else math.nan,
        "ece": _calibration(scores.logits["fine"], read, session.alive),
        "forget_fine_rows": read.rows("fine", session.classes),
        "forget_fine_text": read.text("fine", session.classes),
        **{f"zero_shot.{name}": value for name, value in general.items()},
    }
    single = {label: read.larger if label in session.gone else read.rows for label in session.seen}
    by_class = {label: reader("fine", [label]) for label, reader in single.items()}
    return Measured(figures, forgotten, [read.rows(level, classes) for level, classes in kept], by_class)


@dataclass(frozen=True)
class Examined:
    """All that is asked of a model between two sessions.

    Attributes:
        scores: on the test images of the stream.
        general: accuracy on each general set, %.
    """

    scores: Scores
    general: dict[str, float]


def examine(learner: Learner, session: Session, general: Sequence[GeneralSet]) -> Examined:
    """Ask a model once; what it answers after one session it answers before the next.

    Raises:
        DivergenceError, WeightsError: see `score` and `general_accuracy`.
    """
    return Examined(score(learner, session), general_accuracy(learner, general))


class Judge:
    """Compares a request's original with the unlearned model.

    Args:
        session: the request.
        rows: the original's fine rows, [C, D].
        before: what the original answered.
        general: sets that have nothing to do with the stream.
    """

    def __init__(self, session: Session, rows: Tensor, before: Examined, general: Sequence[GeneralSet] = ()):
        self.session, self.general = session, general
        self.split = parts(session, rows)
        self.before, self.said_before = self._measure(before), self._said(before.scores)
        roles = (session.classes, self.split.adjacent, self.split.remote)
        self.shown = shown(before.scores.labels["fine"], roles)
        self.plane = Plane(before.scores.features[self.shown])
        self.points = self.plane.of(before.scores.features[self.shown])

    def _said(self, scores: Scores) -> Counter[tuple[int, int]]:
        return said(scores.labels["fine"], scores.logits["fine"], self.session.classes)

    def _measure(self, examined: Examined) -> Measured:
        return measure(examined.scores, self.session, self.split, examined.general)

    def verdict(self, examined: Examined) -> RequestResult:
        """The request's row of the tables, from what the model answers after the session."""
        counts = Counter(examined.scores.labels["fine"].tolist())
        after = self._measure(examined)
        sizes = {f"zero_shot.{item.name}": len(item.stream) for item in self.general}
        sizes |= {"zero_shot": sum(sizes.values())} if sizes else {}
        figures = [model.figures | _balance(self.before, model) for model in (self.before, after)]
        classes = _changes(self.session, self.split, counts, self.before.classes, after.classes)
        called = answers(self.said_before, self._said(examined.scores), self.session.order.fine)
        return RequestResult(self.session.level, *figures, classes, sizes, called, self._spots(examined.scores))

    def _spots(self, scores: Scores) -> tuple[Spot, ...]:
        names = [self.session.order.fine[label] for label in scores.labels["fine"][self.shown]]
        return spots(names, self.points, self.plane.of(scores.features[self.shown]))


def _changes(
    session: Session, split: Parts, counts: Mapping[int, int], before: Mapping[int, float], after: Mapping[int, float]
) -> tuple[ClassChange, ...]:
    role = dict.fromkeys(session.classes, "forget") | dict.fromkeys(session.past, "past")
    role |= dict.fromkeys(split.adjacent, "adjacent") | dict.fromkeys(split.remote, "remote")
    names, parents = session.order, session.order.parents
    return tuple(
        ClassChange(
            names.fine[label],
            names.coarse[parents[label]],
            role[label],
            counts[label],
            before[label],
            after[label],
            missing=label in session.missing,
        )
        for label in session.seen
    )


def _balance(before: Measured, model: Measured) -> dict[str, float]:
    forgot = quality(list(zip(before.forgotten, model.forgotten, strict=True)))
    kept = utility(list(zip(before.kept, model.kept, strict=True)))
    return {"quality": forgot, "utility": kept, "qu": harmonic(forgot, kept)}


def _items(session: Session, levels: Sequence[str]) -> tuple[list[Item], list[Item]]:
    """What Quality and what Utility average over: accuracies at a level of some classes.

    Goal `fine`: the name falls, its parent stays; goal `coarse`: both fall; a hybrid request pools the items of both.
    """
    fine, coarse = (_with_goal(session, goal) for goal in ("fine", "coarse"))
    gone = [("fine", fine), *((level, coarse) for level in levels)]
    kept = [("coarse", fine), *((level, session.alive) for level in levels)]
    return tuple([(level, some) for level, some in items if some and level in levels] for items in (gone, kept))


def _with_goal(session: Session, goal: str) -> tuple[int, ...]:
    return tuple(label for label, own in session.goals.items() if own == goal)


def _over_goals(read: Reading, session: Session, level: str) -> float:
    """Accuracy over all images of the request, each goal's read as it counts there."""
    fine, coarse = (_with_goal(session, goal) for goal in ("fine", "coarse"))
    falls = read.larger if level == "fine" else read.rows
    found = [(falls(level, fine), read.images(fine).sum()), (read.larger(level, coarse), read.images(coarse).sum())]
    return float(sum(value * count for value, count in found if count) / sum(count for _, count in found))


def _calibration(logits: np.ndarray, read: Reading, classes: Collection[int]) -> float:
    chosen = read.images(classes)
    probability = softmax(logits[chosen].astype(np.float64), axis=1)
    return calibration_error(probability.max(1), read.by_rows["fine"][chosen]) if chosen.any() else math.nan


def general_accuracy(learner: Learner, sets: Sequence[GeneralSet]) -> dict[str, float]:
    """Accuracy on sets that have nothing to do with the stream, by what the backbone itself says of their names.

    Args:
        learner: its features are judged.
        sets: the general sets.

    Returns:
        Name of the set → %.

    Raises:
        WeightsError: the backbone has neither a text tower nor rows for the names.
    """
    return {item.name: _general_accuracy(learner, item) for item in sets}


@torch.no_grad()
def _general_accuracy(learner: Learner, item: GeneralSet) -> float:
    model = learner.model
    rows = {"fine": model.known_rows("fine", item.names)}

    def compute(batch: Batch) -> dict[str, Tensor]:
        features = learner.predict(batch["image"]).features
        return {"logits": model.logits(features, rows)["fine"], "fine": batch["fine"]}

    found = gather(model, compute, item.stream, device=model.device, title=item.name)
    return accuracy(topk_hits(found["logits"].numpy(), found["fine"].numpy(), 1))
