"""Can it be told which images of the forgotten classes the model was shown? Membership inference."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import log_softmax
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audits.evidence import Case, Evidence, Images
from utils.verification import auc, best_threshold, tar_at_far

FAR = 0.01
SHADOWS = 16
REST = 30  # images of each retained class that every shadow head sees
C = 100.0  # inverse weight of the shadow heads' penalty
Score = Callable[[Images], np.ndarray]  # higher for what looks like a member, [N]


def audit(evidence: Evidence, case: Case, original: Evidence) -> Iterator[tuple[str, float]]:
    """Members are the training images of the forgotten classes, non-members their test images.

    Of every attack: `…_auc` (0…1; 0.5 is chance, far below it the members stand out by being known worst), `…_balanced`
    (%, at the threshold or boundary that is best for the retained classes) and `…_tar` (% of members found where 1 % of
    the others are taken for such; nan with fewer than 100 others).

    - `mia_loss`: −cross-entropy under the classifier (Yeom et al., CSF 2018).
    - `mia_entropy`: −entropy of its answer.
    - `mia_logistic`: a logistic regression on both and the lead of the true class, learned from the retained classes.
    - `mia_ratio`: likelihood ratio of the true class's confidence, image by image, from linear heads over these
      features that have or have not seen it (Carlini et al., LiRA, S&P 2022, with heads as shadow models).
    """
    gone = [images.of(case.gone) for images in (evidence.train, evidence.test)]
    kept = [images.of(case.kept) for images in (evidence.train, evidence.test)]
    attacks: dict[str, Score] = {"loss": _confidence, "entropy": _certainty, "logistic": _learned(*kept)}
    for name, score in attacks.items():
        yield from _figures(f"mia_{name}", _scored(score, gone), _scored(score, kept))
    yield from _figures("mia_ratio", _ratio(evidence, case), None)


def _figures(name: str, gone: tuple[np.ndarray, np.ndarray], kept) -> Iterator[tuple[str, float]]:
    scores, member = gone
    yield f"{name}_auc", auc(scores, member)
    threshold = best_threshold(*kept) if kept else 0.0  # a ratio of 1 is its own
    yield f"{name}_balanced", 100.0 * float(balanced_accuracy_score(member, scores >= threshold))
    yield f"{name}_tar", tar_at_far(scores, member, FAR)


def _scored(score: Score, both: list[Images]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of training and test images, and which are the former."""
    member = np.repeat([True, False], [len(images.labels) for images in both])
    return np.concatenate([score(images) for images in both]), member


def _log_probability(images: Images) -> np.ndarray:
    return log_softmax(images.logits.astype(np.float64), axis=1)


def _confidence(images: Images) -> np.ndarray:
    return np.take_along_axis(_log_probability(images), images.labels[:, None], axis=1)[:, 0]


def _certainty(images: Images) -> np.ndarray:
    logs = _log_probability(images)
    return (np.exp(logs) * logs).sum(1)


def _lead(images: Images) -> np.ndarray:
    others = images.logits.astype(np.float64).copy()
    own = np.take_along_axis(others, images.labels[:, None], axis=1)[:, 0]
    np.put_along_axis(others, images.labels[:, None], -np.inf, axis=1)
    return own - others.max(1)


def _observed(images: Images) -> np.ndarray:
    return np.stack([_confidence(images), _certainty(images), _lead(images)], axis=1)


def _learned(train: Images, test: Images) -> Score:
    observed, member = _scored(_observed, [train, test])
    attack = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced")).fit(observed, member)
    return lambda images: attack.decision_function(_observed(images))


def _ratio(evidence: Evidence, case: Case, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """log N(φ; in) − log N(φ; out) of every image of the forgotten classes, φ = log p/(1 − p) of its true class."""
    pool, member = _pool(evidence, case)
    rest, dice = evidence.train.of(case.kept).few(REST), np.random.RandomState(seed)
    inside = np.array([dice.permutation(len(member)) < len(member) // 2 for _ in range(SHADOWS)])  # [S, N]
    shadows = np.array([_shadow(pool, chosen, rest) for chosen in inside])  # [S, N]
    target = _shadow(pool, member, rest)
    return _likelihood(target, shadows, inside) - _likelihood(target, shadows, ~inside), member


def _pool(evidence: Evidence, case: Case) -> tuple[Images, np.ndarray]:
    both = [images.of(case.gone) for images in (evidence.train, evidence.test)]
    features, labels = (np.concatenate([getattr(images, k) for images in both]) for k in ("features", "labels"))
    return Images(features, labels), _scored(lambda images: images.labels, both)[1]


def _shadow(pool: Images, chosen: np.ndarray, rest: Images) -> np.ndarray:
    """φ of all images of the pool, by a head that saw those chosen and the rest."""
    features = np.concatenate([pool.features[chosen], rest.features])
    head = LogisticRegression(C=C, max_iter=200).fit(features, np.concatenate([pool.labels[chosen], rest.labels]))
    column = np.searchsorted(head.classes_, pool.labels).clip(max=len(head.classes_) - 1)
    logs = head.predict_log_proba(pool.features)
    own = np.where(head.classes_[column] == pool.labels, logs[np.arange(len(column)), column], -30.0)
    return own - np.log(-np.expm1(np.minimum(own, -1e-12)))


def _likelihood(target: np.ndarray, shadows: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Of each image under the Gaussian of the shadows in question; one spread for all images, as for few shadows."""
    seen = np.where(which, shadows, np.nan)
    means = np.nanmean(seen, axis=0)
    return norm.logpdf(target, means, max(float(np.nanstd(seen - means)), 1e-6))
