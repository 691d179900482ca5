"""Pure metrics of verification: are two images of the same class? Over pairs with a score [N] and the truth [N].

A pair is accepted where its score reaches a threshold. TAR, true acceptance rate: share of the same pairs accepted;
FAR, false acceptance rate: share of the others. Shares are percentages, as in `utils.metrics`; the area under the curve
lies in 0…1.
"""

import math

import numpy as np

FARS = (1e-1, 1e-2, 1e-3)
FOLDS = 10


def verification(scores: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """All figures by name: `verification_accuracy`, `verification_auc`, `tar_at_far_1e-1` and so on for `FARS`.

    Args:
        scores: [N], higher for pairs that look alike.
        same: [N] bool.

    Raises:
        ValueError: see `roc`.
    """
    figures = {"verification_accuracy": fold_accuracy(scores, same), "verification_auc": auc(scores, same)}
    return figures | {f"tar_at_far_1e{math.log10(far):.0f}": tar_at_far(scores, same, far) for far in FARS}


def roc(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FAR and TAR at every threshold, ascending, from (0, 0) to (1, 1); here as shares of 1, for the figure.

    Args:
        scores: [N].
        same: [N] bool.

    Returns:
        (far, tar), each [T].

    Raises:
        ValueError: wrong shapes, a score that is not finite, or only one kind of pairs.
    """
    from sklearn.metrics import roc_curve

    scores, same = _checked(scores, same)
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    return far, tar


def auc(scores: np.ndarray, same: np.ndarray) -> float:
    """Area under the curve: how often a same pair scores above another, ties counted half. See `roc`."""
    from sklearn.metrics import roc_auc_score

    scores, same = _checked(scores, same)
    return float(roc_auc_score(same, scores))


def tar_at_far(scores: np.ndarray, same: np.ndarray, far: float) -> float:
    """The highest TAR, in percent, of a threshold whose FAR is at most `far`; nothing is interpolated.

    It is nan with fewer than 1/far pairs that are not the same: so small a rate cannot be seen in them.

    Args:
        scores: [N].
        same: [N] bool.
        far: the rate allowed, 0 < far ≤ 1.

    Raises:
        ValueError: see `roc`.
    """
    rates, found = roc(scores, same)
    others = int((~np.asarray(same, dtype=bool)).sum())
    if others * far < 1 - 1e-9:
        return math.nan
    return 100.0 * float(found[rates <= far + 1e-12].max())


def fold_accuracy(scores: np.ndarray, same: np.ndarray, folds: int = FOLDS) -> float:
    """Mean accuracy over the folds, in percent, each at the threshold that is best on the others.

    The folds are runs of the list, same pairs and others apart; on LFW's list they are LFW's ten sets. Of either kind
    there must be a pair a fold, else there are fewer folds; with less than two pairs of a kind it is nan.

    Args:
        scores: [N].
        same: [N] bool.
        folds: how many.

    Raises:
        ValueError: see `roc`.

    Source: Huang et al., Labeled Faces in the Wild, 2007, section 4, "View 2".
    """
    from sklearn.model_selection import StratifiedKFold

    scores, same = _checked(scores, same)
    folds = min(folds, int(same.sum()), int((~same).sum()))
    if folds < 2:
        return math.nan
    hits = []
    for others, fold in StratifiedKFold(folds).split(scores[:, None], same):
        threshold = best_threshold(scores[others], same[others])
        hits.append(np.mean((scores[fold] >= threshold) == same[fold]))
    return 100.0 * math.fsum(hits) / folds


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold of the highest accuracy, midway between two scores; of several equally good ones the lowest.

    Args:
        scores: [N].
        same: [N] bool.

    Returns:
        −∞ where it is best to accept every pair, ∞ where none.
    """
    order = np.argsort(scores, kind="stable")
    ranked, truth = scores[order], same[order]
    rejected = np.concatenate([[0], np.cumsum(~truth)])  # [N + 1], right rejections where the first i pairs are
    accepted = np.concatenate([np.cumsum(truth[::-1])[::-1], [0]])  # [N + 1], right acceptances of the others
    edges = np.concatenate([[-math.inf], (ranked[:-1] + ranked[1:]) / 2, [math.inf]])
    between = np.concatenate([[True], ranked[:-1] < ranked[1:], [True]])  # no threshold parts equal scores
    return float(edges[np.argmax(np.where(between, rejected + accepted, -1))])


def _checked(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, same = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise ValueError(f"expected scores and truth [N], got {scores.shape} and {same.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of the scores are not finite")
    if same.all() or not same.any():
        raise ValueError("verification needs pairs of both kinds, the same and not the same")
    return scores, same
