"""`utils.verification` against loops over every threshold and every pair."""

import itertools
import math

import numpy as np
import pytest

from utils.verification import auc, best_threshold, fold_accuracy, roc, tar_at_far, verification


def drawn(count: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    dice = np.random.default_rng(seed)
    same = dice.random(count) < 0.4
    scores = dice.normal(size=count) + same
    return (np.round(scores, 1) if ties else scores), same


def rates(scores, same, threshold) -> tuple[float, float]:
    """FAR and TAR where scores from the threshold on are accepted."""
    accepted = [score >= threshold for score in scores]
    false = sum(hit for hit, true in zip(accepted, same, strict=True) if not true) / sum(not true for true in same)
    true = sum(hit for hit, true in zip(accepted, same, strict=True) if true) / sum(same)
    return false, true


@pytest.mark.parametrize("ties", [False, True])
def test_the_curve_is_every_threshold(ties):
    scores, same = drawn(60, 1, ties)
    far, tar = roc(scores, same)
    thresholds = [math.inf, *sorted(set(scores.tolist()), reverse=True)]
    expected = [rates(scores.tolist(), same.tolist(), threshold) for threshold in thresholds]
    assert np.allclose(np.stack([far, tar], 1), expected)
    assert (far[0], tar[0], far[-1], tar[-1]) == (0, 0, 1, 1)


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_is_the_share_of_pairs_in_order(ties):
    scores, same = drawn(50, 2, ties)
    duels = list(itertools.product(scores[same], scores[~same]))
    expected = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in duels) / len(duels)
    assert auc(scores, same) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("far", [1e-1, 1e-2, 0.5, 1.0])
@pytest.mark.parametrize("ties", [False, True])
def test_tar_at_far_is_the_best_threshold_that_is_strict_enough(far, ties):
    scores, same = drawn(400, 3, ties)
    allowed = [rates(scores, same, threshold) for threshold in [math.inf, *scores]]
    expected = 100 * max(tar for false, tar in allowed if false <= far)
    assert tar_at_far(scores, same, far) == pytest.approx(expected)


def test_a_rate_that_so_few_pairs_cannot_show_is_nan():
    scores, same = np.arange(12.0), np.array([False] * 10 + [True] * 2)
    assert tar_at_far(scores, same, 1e-1) == 100.0  # exactly ten others: one of them may pass
    assert math.isnan(tar_at_far(scores, same, 1e-2))
    assert math.isnan(tar_at_far(scores[1:], same[1:], 1e-1))
    turned = -scores  # the same pairs score lowest, nine others would have to pass
    assert tar_at_far(turned, same, 1e-1) == 0.0


def best_by_hand(scores, same) -> int:
    """The most right decisions that any threshold gives."""
    cuts = [-math.inf, math.inf, *((a + b) / 2 for a, b in itertools.pairwise(sorted(set(scores.tolist()))))]
    return max(sum((scores >= cut) == same) for cut in cuts)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True])
def test_no_threshold_is_better(seed, ties):
    scores, same = drawn(40, seed, ties)
    threshold = best_threshold(scores, same)
    assert sum((scores >= threshold) == same) == best_by_hand(scores, same)
    assert threshold not in scores


def test_thresholds_by_hand():
    assert best_threshold(np.array([0.1, 0.4, 0.8]), np.array([False, False, True])) == pytest.approx(0.6)
    assert best_threshold(np.array([0.3, 0.3]), np.array([False, True])) == -math.inf
    assert best_threshold(np.array([0.3, 0.5]), np.array([False, False])) == math.inf
    assert best_threshold(np.array([0.5, 0.1, 0.2, 0.4]), np.array([False, True, False, True])) == -math.inf


def test_the_folds_are_lfws_on_lfws_list():
    """Ten sets, one after the other, each first its same pairs, then the others."""
    dice = np.random.default_rng(5)
    same = np.tile([True] * 6 + [False] * 6, 10)
    scores = dice.normal(size=120) + same
    expected = []
    for fold in range(10):
        held = np.zeros(120, dtype=bool)
        held[12 * fold : 12 * fold + 12] = True
        threshold = best_threshold(scores[~held], same[~held])
        expected.append(np.mean((scores[held] >= threshold) == same[held]))
    assert fold_accuracy(scores, same) == pytest.approx(100 * np.mean(expected), rel=1e-12)


def test_few_pairs_make_few_folds():
    scores, same = np.array([0.9, 0.8, 0.7, 0.1, 0.2]), np.array([True, True, True, False, False])
    assert fold_accuracy(scores, same) == 100.0  # two folds
    assert math.isnan(fold_accuracy(scores[:4], same[:4]))


def test_a_separable_list_is_perfect_and_noise_is_not():
    same = np.arange(2000) % 2 == 0
    figures = verification(same + 0.1 * np.random.default_rng(0).random(2000), same)
    assert figures == {
        "verification_accuracy": 100.0,
        "verification_auc": 1.0,
        "tar_at_far_1e-1": 100.0,
        "tar_at_far_1e-2": 100.0,
        "tar_at_far_1e-3": 100.0,
    }
    noise = verification(np.random.default_rng(0).random(2000), same)
    assert noise["verification_accuracy"] == pytest.approx(50, abs=4)
    assert noise["verification_auc"] == pytest.approx(0.5, abs=0.04)
    assert noise["tar_at_far_1e-1"] == pytest.approx(10, abs=4)


@pytest.mark.parametrize("figure", [auc, roc, fold_accuracy, verification])
@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        ([0.1, 0.2], [True], r"expected scores and truth \[N\]"),
        ([0.1, math.nan], [True, False], "1 of the scores are not finite"),
        ([0.1, 0.2], [True, True], "pairs of both kinds"),
        ([], [], "pairs of both kinds"),
    ],
)
def test_what_cannot_be_measured(figure, scores, same, message):
    with pytest.raises(ValueError, match=message):
        figure(np.array(scores), np.array(same, dtype=bool))
