"""What a request achieved: Quality, Utility and Q-U (Tan & Gong 2025, arXiv 2506.11253, section 4) and calibration.

A pair is (accuracy before, accuracy after) in percent. A figure that stood at 0 can neither fall nor be kept, so a pair
with nothing before does not count; nor does one with a figure missing.
"""

import math
from collections.abc import Iterable

import numpy as np

Pairs = Iterable[tuple[float, float]]


def quality(pairs: Pairs) -> float:
    """Mean share of what was to be forgotten that is gone: 100·(before − after)/before, in percent.

    100 where nothing is left, 0 where nothing changed, negative where accuracy rose; nan without a pair.

    Args:
        pairs: of the figures to forget; goal fine: forget-fine; goal coarse: forget-fine and forget-coarse.
    """
    return _mean([100 * (before - after) / before for before, after in _known(pairs)])


def utility(pairs: Pairs) -> float:
    """Mean share of what was to be kept that is left: 100·min(1, after/before), in percent; nan without a pair.

    A gain does not make up for a loss elsewhere.

    Args:
        pairs: of the figures to keep; goal fine: forget-coarse, retain-coarse and retain-fine; goal coarse: the last
            two.
    """
    return _mean([100 * min(1.0, after / before) for before, after in _known(pairs)])


def harmonic(q: float, u: float) -> float:
    """Q-U, the harmonic mean of Quality and Utility.

    Args:
        q: Quality in percent; where it is not positive, the learner forgot nothing and the mean is 0.
        u: Utility in percent.

    Returns:
        A percentage; 0 where either is 0, nan where either is missing.
    """
    if math.isnan(q) or math.isnan(u):
        return math.nan
    return 2 * q * u / (q + u) if q > 0 and u > 0 else 0.0


def calibration_error(confidence: np.ndarray, hits: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error in percent (Guo et al., ICML 2017, equation 3), over bins of equal width.

    Bin m holds the confidences in ((m − 1)/bins, m/bins], as in the paper; a confidence of 0 falls into the first.

    Args:
        confidence: [N], the probability of the class named, in [0, 1].
        hits: [N] bool, whether it is the true one.
        bins: at least 1.

    Returns:
        Σ_m |bin m|/N · |accuracy − mean confidence|; nan without images.

    Raises:
        ValueError: on wrong shapes, fewer than one bin, or a confidence outside [0, 1].
    """
    confidence, hits = np.asarray(confidence, dtype=np.float64), np.asarray(hits, dtype=bool)
    _check(confidence, hits, bins)
    if not hits.size:
        return math.nan
    edges = np.arange(1, bins) / bins  # the inner ones; those of [0, 1] itself would meet rounding errors
    place = np.searchsorted(edges, confidence, side="left")  # [N], equal to an edge: the bin below it
    gaps = np.bincount(place, weights=hits - confidence, minlength=bins)  # [bins], the bin's size times its gap
    return 100.0 * float(np.abs(gaps).sum()) / hits.size


def _check(confidence: np.ndarray, hits: np.ndarray, bins: int) -> None:
    if confidence.ndim != 1 or hits.shape != confidence.shape:
        raise ValueError(f"expected confidence [N] and hits [N], got {confidence.shape} and {hits.shape}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("a confidence lies outside [0, 1] or is not a number")


def _known(pairs: Pairs) -> list[tuple[float, float]]:
    return [(before, after) for before, after in pairs if before > 0 and math.isfinite(before + after)]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
