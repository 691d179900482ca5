"""Test images as points of a plane, before and after a request: two numbers each, and no feature.

The plane is that of a principal component analysis of the original's features (Pearson 1901); which images are shown,
and that both models are seen in the original's plane, is ours.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

MOST = 100  # images of a role: enough to see where it went, few enough for a page
DIGITS = 4


@dataclass(frozen=True)
class Spot:
    """A test image on the map.

    Attributes:
        name: the class that it shows.
        before: where the original sees it.
        after: where the model after the request does.
    """

    name: str
    before: tuple[float, float]
    after: tuple[float, float]


class Plane:
    """The two directions in which features of unit length differ most; each points to where its largest weight does.

    Args:
        features: that it is fitted to, [N, D], N and D at least 1.
    """

    def __init__(self, features: np.ndarray):
        unit = _unit(features)
        self.middle = unit.mean(0)
        axes = np.linalg.svd(unit - self.middle, full_matrices=False)[2][:2]
        largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
        self.axes = np.zeros((2, unit.shape[1]))  # with a single image or dimension, there is no second direction
        self.axes[: len(axes)] = axes * np.sign(largest)

    def of(self, features: np.ndarray) -> np.ndarray:
        """Features [N, D] → points [N, 2]."""
        return (_unit(features) - self.middle) @ self.axes.T


def _unit(features: np.ndarray) -> np.ndarray:
    """Cosines are what classifies, so lengths do not count."""
    exact = features.astype(np.float64)
    return exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)


def shown(labels: np.ndarray, roles: Sequence[Collection[int]]) -> np.ndarray:
    """Which images are on the map: of each role's classes all, or `MOST` spread evenly over the classes.

    Args:
        labels: classes of the images, [N].
        roles: the classes of each role.

    Returns:
        Places in `labels`.
    """
    found = []
    for classes in roles:
        (own,) = np.isin(labels, list(classes)).nonzero()
        own = own[np.argsort(labels[own], kind="stable")]
        found.append(own[np.linspace(0, len(own), min(MOST, len(own)), endpoint=False).astype(int)])
    return np.concatenate(found)


def spots(names: Sequence[str], before: np.ndarray, after: np.ndarray) -> tuple[Spot, ...]:
    """Points [N, 2] of both models with the names of their classes, rounded to what can be seen."""
    pairs = [[tuple(round(x, DIGITS) for x in point) for point in side.tolist()] for side in (before, after)]
    return tuple(Spot(*row) for row in zip(names, *pairs, strict=True))
