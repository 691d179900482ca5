"""How good a learner is on the test images of a session."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convs.clip import ClipBackbone
from convs.model import LEVELS
from data.sessions import ClassOrder, Session
from models.learner import Learner
from models.wording import ensemble_rows
from utils.errors import DivergenceError
from utils.metrics import accuracy, group_accuracy, topk_hits
from utils.passes import gather
from utils.results import LevelResult

TOP = 5


@dataclass(frozen=True)
class Scores:
    """One pass over the test images of all classes a session has seen.

    Attributes:
        labels: level → true labels, [N].
        logits: level → logits, [N, C]. Where the learner has no coarse rows, a parent scores as its best child.
        text: the same against the plain text features of the names; empty without a text tower.
        features: what the learner compares with its rows, [N, D].
    """

    labels: dict[str, np.ndarray]
    logits: dict[str, np.ndarray]
    text: dict[str, np.ndarray]
    features: np.ndarray


def score(learner: Learner, session: Session) -> Scores:
    """Encode every test image once.

    Raises:
        DivergenceError: a logit is not finite: the last step of training spoiled the weights.
    """
    model = learner.model
    text = ensemble_rows(model, session.order) if isinstance(model.backbone, ClipBackbone) else {}

    def compute(batch):
        output = learner.predict(batch["image"])
        worded = model.logits(output.features, text)
        return (
            {level: batch[level] for level in LEVELS}
            | {"features": output.features}
            | {f"logits.{level}": values for level, values in output.logits.items()}
            | {f"text.{level}": values for level, values in worded.items()}
        )

    outputs = gather(model, compute, session.stream("test"), device=model.device, title="evaluate")
    if not all(value.isfinite().all() for value in outputs.values()):
        raise DivergenceError(
            f"after session {session.index} the model's logits are no longer finite; lower the learning rate"
        )
    arrays = {name: value.numpy() for name, value in outputs.items()}
    labels, features = {level: arrays.pop(level) for level in LEVELS}, arrays.pop("features")
    logits, text = (_levels(arrays, source, session.order) for source in ("logits", "text"))
    return Scores(labels, logits, text, features)


def _levels(arrays: dict[str, np.ndarray], source: str, order: ClassOrder) -> dict[str, np.ndarray]:
    found = {level: arrays[f"{source}.{level}"] for level in LEVELS if f"{source}.{level}" in arrays}
    if found and "coarse" not in found and order.two_levels:
        found["coarse"] = parent_scores(found["fine"], order)
    return found


def evaluate(scores: Scores, session: Session, groups: Sequence[Sequence[int]]) -> dict[str, LevelResult]:
    """Accuracy over the classes alive, at every level of names; all classes seen are candidates.

    Args:
        scores: of the session.
        session: says which classes are alive.
        groups: fine labels of each learn session so far; an image belongs to its fine class's group at both levels.

    Returns:
        `fine` and, where the set has two levels, `coarse`.
    """
    alive = np.isin(scores.labels["fine"], session.alive)
    labels = {level: values[alive] for level, values in scores.labels.items()}
    new = session.classes if session.kind == "learn" else ()
    levels = LEVELS if session.order.two_levels else ("fine",)
    results = {}
    for level in levels:
        hits = [topk_hits(scores.logits[level][alive], labels[level], k) for k in (1, TOP)]
        results[level] = _level(*hits, labels["fine"], groups, new)
    return results


def parent_scores(fine: np.ndarray, order: ClassOrder) -> np.ndarray:
    """Coarse scores that follow from fine logits: a parent's is that of its best child.

    Args:
        fine: [N, C], the columns being the first C fine labels.
        order: names the parents.

    Returns:
        [N, P], the columns being the first P coarse labels, where P counts the parents of the C classes.
    """
    parents = np.array(order.parents[: fine.shape[1]])
    return np.stack([fine[:, parents == parent].max(1) for parent in range(parents.max() + 1)], axis=1)


def _level(top1: np.ndarray, top5: np.ndarray, fine: np.ndarray, groups, new: Sequence[int]) -> LevelResult:
    old = sorted({label for group in groups for label in group} - set(new))
    old_accuracy, new_accuracy = (group_accuracy(top1, fine, [some])[0] if some else None for some in (old, new))
    by_group = tuple(group_accuracy(top1, fine, groups))
    return LevelResult(accuracy(top1), accuracy(top5), by_group, old_accuracy, new_accuracy, len(top1))
