"""How good a learner is on the test images of a session."""

from collections.abc import Sequence

import numpy as np

from data.sessions import ClassOrder, Session
from models.learner import Learner
from utils.errors import DivergenceError
from utils.loop import gather
from utils.metrics import accuracy, group_accuracy, topk_hits
from utils.results import LevelResult

TOP = 5


def evaluate(learner: Learner, session: Session, groups: Sequence[Sequence[int]]) -> dict[str, LevelResult]:
    """Accuracy over all classes seen, at every level of names.

    Args:
        learner: predicts over all classes seen.
        session: grants the test images.
        groups: fine labels of each learn session so far; an image belongs to its fine class's group at both levels.

    Returns:
        `fine` and, where the set has two levels, `coarse`. A learner without coarse rows names the parent of the fine
        class it names.
    """
    logits = learner_logits(learner, session)
    labels = {level: logits.pop(level) for level in ("fine", "coarse")}
    fine = logits["logits.fine"]
    result = {"fine": _level(topk_hits(fine, labels["fine"], 1), topk_hits(fine, labels["fine"], TOP), labels, groups)}
    if session.order.two_levels:
        coarse = logits.get("logits.coarse", parent_scores(fine, session.order))
        hits = [topk_hits(coarse, labels["coarse"], k) for k in (1, TOP)]
        result["coarse"] = _level(*hits, labels, groups)
    return result


def learner_logits(learner: Learner, session: Session) -> dict[str, np.ndarray]:
    """Labels `fine`, `coarse` [N] and logits `logits.<level>` [N, C] of every test image, each encoded once.

    Raises:
        DivergenceError: a logit is not finite: the last step of training spoiled the weights.
    """

    def compute(batch):
        logits = learner.predict(batch["image"]).logits
        return {f"logits.{k}": v for k, v in logits.items()} | {k: batch[k] for k in ("fine", "coarse")}

    device = learner.model.device
    outputs = gather(learner.model, compute, session.stream("test"), device=device, title="evaluate")
    if not all(value.isfinite().all() for value in outputs.values()):
        raise DivergenceError(
            f"after session {session.index} the model's logits are no longer finite; lower the learning rate"
        )
    return {name: value.numpy() for name, value in outputs.items()}


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


def _level(top1: np.ndarray, top5: np.ndarray, labels: dict[str, np.ndarray], groups) -> LevelResult:
    by_group = group_accuracy(top1, labels["fine"], groups)
    old = [label for group in groups[:-1] for label in group]
    old_accuracy = group_accuracy(top1, labels["fine"], [old])[0] if old else None
    return LevelResult(accuracy(top1), accuracy(top5), tuple(by_group), old_accuracy, by_group[-1], len(top1))
