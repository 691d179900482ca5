"""How alike two representations of the same images are."""

import numpy as np


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """‖Yᵀ·X‖_F² / (‖Xᵀ·X‖_F · ‖Yᵀ·Y‖_F) of centred features, 0…1; 1 for a rotation or a scaling, nan without spread.

    Args:
        one: X, [N, D].
        other: Y, [N, E], of the same images.

    Raises:
        ValueError: on different numbers of images.

    Source: Kornblith et al., Similarity of Neural Network Representations Revisited, ICML 2019, section 3.
    """
    one, other = _checked(one, other)
    one, other = one - one.mean(0), other - other.mean(0)
    sizes = np.linalg.norm(one.T @ one) * np.linalg.norm(other.T @ other)
    return float(np.linalg.norm(other.T @ one) ** 2 / sizes) if sizes else float("nan")


def neighbour_overlap(one: np.ndarray, other: np.ndarray, count: int = 10) -> float:
    """The share of an image's nearest neighbours in one representation that are so in the other, the mean, 0…1.

    Args:
        one: [N, D], of unit length.
        other: [N, E], of unit length, of the same images.
        count: neighbours of each image; at most N − 1 are there.

    Raises:
        ValueError: on different numbers of images, or less than two.
    """
    one, other = _checked(one, other)
    if len(one) < 2:
        raise ValueError("a single image has no neighbours")
    count = min(count, len(one) - 1)
    near = [_neighbours(features, count) for features in (one, other)]
    return float(np.mean([len(np.intersect1d(a, b)) / count for a, b in zip(*near, strict=True)]))


def _neighbours(features: np.ndarray, count: int) -> np.ndarray:
    cosines = features @ features.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :count]


def _checked(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if one.ndim != 2 or other.ndim != 2 or len(one) != len(other):
        raise ValueError(f"expected features [N, D] and [N, E] of the same images, got {one.shape} and {other.shape}")
    return one, other
