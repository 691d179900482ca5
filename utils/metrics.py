"""Pure metrics over numpy arrays (METHODS section 6). Every accuracy is a percentage in a plain float.

Groups are the real learn sessions of a run, whatever their sizes: the PyCIL/PILOT toolboxes cut the classes into groups
of ten, lose a last group of one class and stop at `topk=5` where there are fewer than five classes.
An accuracy matrix is a list of rows, row t holding the accuracies after session t, entry g that of the g-th group. Rows
may differ in length: a forget session adds no group. `None` or nan stands for a group without a figure.
"""

import math
from collections.abc import Sequence

import numpy as np

Matrix = Sequence[Sequence[float | None]]


def topk_hits(logits: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether the true class is among the k highest logits.

    Equal logits rank by column, the smaller first, as a stable sort would place them.

    Args:
        logits: [N, C], finite.
        labels: [N], column indices.
        k: at least 1; where it exceeds C, every image is a hit.

    Returns:
        [N] bool.

    Raises:
        ValueError: on wrong shapes, a label that is no column, k < 1, or a logit that is not finite.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    _check_logits(logits, labels, k)
    own = np.take_along_axis(logits, labels[:, None], axis=1)  # [N, 1]
    before = np.arange(logits.shape[1]) < labels[:, None]  # [N, C]
    rank = ((logits > own) | ((logits == own) & before)).sum(axis=1)  # [N]
    return rank < k


def _check_logits(logits: np.ndarray, labels: np.ndarray, k: int) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"expected logits [N, C] and labels [N], got {logits.shape} and {labels.shape}")
    if labels.size and not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if labels.size and not (labels.min() >= 0 and labels.max() < logits.shape[1]):
        raise ValueError(f"a label lies outside the {logits.shape[1]} columns: {labels.min()} … {labels.max()}")
    if not np.isfinite(logits).all():
        raise ValueError(f"{int((~np.isfinite(logits)).sum())} of the logits are not finite")


def accuracy(hits: np.ndarray) -> float:
    """Percentage of true entries; nan where there are none.

    Args:
        hits: [N] bool.
    """
    hits = np.asarray(hits, dtype=bool)
    return 100.0 * int(hits.sum()) / hits.size if hits.size else math.nan


def group_accuracy(hits: np.ndarray, labels: np.ndarray, groups: Sequence[Sequence[int]]) -> list[float]:
    """Accuracy over the images of each group of classes; nan for a group without images.

    Args:
        hits: [N] bool.
        labels: [N] class ids.
        groups: the class ids of each group; a group of one class counts like any other.

    Raises:
        ValueError: where hits and labels differ in length.
    """
    hits, labels = np.asarray(hits, dtype=bool), np.asarray(labels)
    if hits.shape != labels.shape:
        raise ValueError(f"hits {hits.shape} and labels {labels.shape} differ in shape")
    return [accuracy(hits[np.isin(labels, list(group))]) for group in groups]


def average_accuracy(curve: Sequence[float]) -> float:
    """Ā, the mean of the accuracies after each session; sessions without a figure do not count.

    Args:
        curve: one accuracy a session.
    """
    known = [float(value) for value in curve if _known(value)]
    return math.fsum(known) / len(known) if known else math.nan


def last_accuracy(curve: Sequence[float]) -> float:
    """A_last, the accuracy after the last session.

    Args:
        curve: one accuracy a session.

    Raises:
        ValueError: for an empty curve.
    """
    if not curve:
        raise ValueError("an empty curve has no last accuracy")
    return float(curve[-1])


def forgetting(matrix: Matrix) -> float:
    """Mean over the old groups of (best accuracy so far, the last included) − (last accuracy).

    Old is a group that stood before the last session; 0.0 where there is none, as after a single session. A group that
    has no accuracy at the end (all its classes were asked to be forgotten) does not count.

    Args:
        matrix: the accuracy matrix.
    """
    return _mean([max(values) - values[-1] for values in _old_groups(matrix)])


def backward_transfer(matrix: Matrix) -> float:
    """BWT: mean over the old groups of (last accuracy) − (accuracy right after the group was learnt).

    Which groups count is said in `forgetting`; 0.0 where none does.

    Args:
        matrix: the accuracy matrix.
    """
    return _mean([values[-1] - values[0] for values in _old_groups(matrix)])


def wilson_interval(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion (J. Am. Stat. Assoc. 22, 1927), in percent.

    Args:
        hits: successes.
        n: trials; without any the interval is (0, 100).
        z: standard normal quantile; the default gives 95 %.

    Raises:
        ValueError: unless 0 ≤ hits ≤ n.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"hits must lie in 0 … n, got {hits} of {n}")
    if n == 0:
        return 0.0, 100.0
    share, spread = hits / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    # At the two ends the bound is exact; the sum above misses it by a rounding error.
    low = 0.0 if hits == 0 else centre - half
    high = 1.0 if hits == n else centre + half
    return 100 * low, 100 * high


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n − 1); the deviation of one value is 0.

    Args:
        values: at least one.

    Raises:
        ValueError: for no values.
    """
    if not len(values):
        raise ValueError("no values to average")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, 0.0
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _old_groups(matrix: Matrix) -> list[list[float]]:
    """The accuracies over time, first to last, of every old group that has one at the end."""
    if len(matrix) < 2:
        return []
    width = max(len(row) for row in matrix[:-1])
    columns = [[row[g] for row in matrix if len(row) > g] for g in range(min(width, len(matrix[-1])))]
    return [[float(value) for value in column if _known(value)] for column in columns if _known(column[-1])]


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0
