"""What images of some classes are called: the rows of a confusion matrix, only the cells that hold something."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Answer:
    """A cell before and after a forget session.

    Attributes:
        name: the class that the images show.
        said: the class that they are called.
        before: so many test images are called so by the model before the session.
        after: the same after it.
    """

    name: str
    said: str
    before: int
    after: int


def said(labels: np.ndarray, logits: np.ndarray, classes: Collection[int]) -> Counter[tuple[int, int]]:
    """How often images of each class are called what: (class, highest column) → images.

    Args:
        labels: true classes, [N].
        logits: [N, C].
        classes: those asked about.
    """
    asked = np.isin(labels, list(classes))
    return Counter(zip(labels[asked].tolist(), logits[asked].argmax(1).tolist(), strict=True))


def answers(before: Counter, after: Counter, names: Sequence[str]) -> tuple[Answer, ...]:
    """Both countings side by side, class by class, the commonest answer after the session first.

    Args:
        before: as `said` gives it.
        after: the same of the later model.
        names: of the classes.
    """
    cells = sorted(before.keys() | after.keys(), key=lambda cell: (cell[0], -after[cell], -before[cell], cell[1]))
    return tuple(Answer(names[true], names[other], before[true, other], after[true, other]) for true, other in cells)
