"""Quality, Utility, Q-U against the published rows; calibration against a loop over the bins."""

import math

import numpy as np
import pytest

from utils.unlearning import calibration_error, harmonic, quality, utility

NAN = math.nan

# Tan & Gong 2025, dogs: forget-coarse, forget-fine, retain-coarse, retain-fine of the original and of each method, then
# Quality, Utility, Q-U as printed.
DIFFICULT = (86.20, 93.40, 50.88, 65.55)
EASY = (60.73, 75.82, 53.66, 67.42)
MEDIUM = (75.00, 82.80, 52.13, 66.74)
PUBLISHED = {
    "GA": (DIFFICULT, (1.00, 0.00, 7.80, 1.57), (100, 6.30, 11.85)),
    "GDiff": (DIFFICULT, (69.60, 0.00, 40.54, 9.30), (100, 58.21, 73.58)),
    "GA+KL": (DIFFICULT, (77.40, 3.00, 41.28, 35.96), (96.79, 75.26, 84.68)),
    "Relabeling": (DIFFICULT, (44.80, 43.80, 29.57, 45.64), (53.10, 59.91, 56.30)),
    "SalUn": (DIFFICULT, (47.80, 34.80, 30.49, 46.52), (62.74, 62.12, 62.43)),
    "ME+GD": (DIFFICULT, (95.20, 53.20, 45.12, 46.79), (43.04, 86.69, 57.52)),  # Utility misprinted as 88.69
    "task vector": (DIFFICULT, (79.60, 36.60, 44.58, 62.38), (60.81, 91.71, 73.13)),
    "NPO+KL": (DIFFICULT, (88.00, 8.00, 49.33, 53.91), (91.43, 93.06, 92.24)),
    "NHL+KL difficult": (DIFFICULT, (88.20, 2.00, 48.23, 54.56), (97.86, 92.68, 95.20)),
    "NHL+KL easy": (EASY, (64.36, 0.73, 52.21, 63.09), (99.04, 96.95, 97.98)),
    # forget-coarse misprinted as 6.00: the printed Utility needs one that did not fall
    "NHL+KL medium": (MEDIUM, (76.00, 0.40, 50.29, 58.29), (99.52, 94.61, 97.00)),
}


def scores(before, after):
    """Quality, Utility and Q-U of a request at level fine."""
    coarse, fine, *retain = zip(before, after, strict=True)
    q, u = quality([fine]), utility([coarse, *retain])
    return q, u, harmonic(q, u)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_rows(name):
    before, after, printed = PUBLISHED[name]
    # one unit of the last digit: the printed accuracies are themselves rounded
    assert scores(before, after) == pytest.approx(printed, abs=0.01)


def test_the_misprints_do_not_follow_from_their_accuracies():
    assert abs(scores(DIFFICULT, (95.20, 53.20, 45.12, 46.79))[1] - 88.69) > 1
    assert abs(scores(MEDIUM, (6.00, 0.40, 50.29, 58.29))[1] - 94.61) > 10


def test_quality_by_hand():
    assert quality([(80.0, 20.0)]) == 75.0
    assert quality([(80.0, 20.0), (50.0, 0.0)]) == pytest.approx((75 + 100) / 2)
    assert quality([(50.0, 60.0)]) == pytest.approx(-20.0)


def test_utility_by_hand():
    assert utility([(80.0, 20.0)]) == 25.0
    assert utility([(80.0, 90.0), (50.0, 40.0)]) == pytest.approx((100 + 80) / 2)  # a gain makes up for nothing
    assert utility([(80.0, 0.0)]) == 0.0


@pytest.mark.parametrize("score", [quality, utility])
def test_pairs_without_a_figure_do_not_count(score):
    assert score([(80.0, 20.0), (0.0, 0.0), (NAN, 1.0), (1.0, NAN)]) == score([(80.0, 20.0)])
    assert math.isnan(score([(0.0, 50.0)])) and math.isnan(score([]))
    assert type(score([(np.float64(80.0), np.float64(20.0))])) is float
    assert score(pair for pair in [(80.0, 20.0)]) == score([(80.0, 20.0)])  # a generator will do


def test_harmonic_by_hand():
    assert harmonic(100.0, 50.0) == pytest.approx(200 / 3)
    assert harmonic(60.0, 60.0) == pytest.approx(60.0)
    assert [harmonic(0.0, 0.0), harmonic(0.0, 90.0), harmonic(90.0, 0.0)] == [0.0] * 3
    assert harmonic(-20.0, 90.0) == 0.0 and harmonic(-90.0, 90.0) == 0.0
    assert math.isnan(harmonic(NAN, 90.0)) and math.isnan(harmonic(90.0, NAN))


def test_calibration_by_hand():
    # two bins: (0, 0.5] holds 0.2, 0.4 with one hit of two; (0.5, 1] holds 0.9, 0.9 with two of two
    found = calibration_error([0.2, 0.4, 0.9, 0.9], [True, False, True, True], bins=2)
    assert found == pytest.approx(100 * (0.5 * abs(0.5 - 0.3) + 0.5 * abs(1.0 - 0.9)))


def test_calibration_at_its_ends():
    assert calibration_error([1.0, 1.0], [True, True]) == 0.0
    assert calibration_error([1.0], [False]) == 100.0
    assert calibration_error([0.0, 0.0], [False, False]) == 0.0
    assert calibration_error([0.0], [True]) == 100.0
    assert calibration_error([0.75] * 4, [True, True, True, False], bins=1) == pytest.approx(0.0)
    assert math.isnan(calibration_error([], []))


def test_an_edge_belongs_to_the_bin_below():
    # 0.5 shares (0, 0.5] with 0.1; were they apart, the gaps of 0.9 and 0.5 would give 70
    assert calibration_error([0.1, 0.5], [True, False], bins=2) == pytest.approx(100 * abs(0.5 - 0.3))


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_agrees_with_a_loop(bins):
    draw = np.random.default_rng(1)
    confidence, hits = draw.random(500), draw.random(500) < 0.6
    expected = 0.0
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        if inside.any():
            expected += inside.mean() * abs(hits[inside].mean() - confidence[inside].mean())
    found = calibration_error(confidence.astype(np.float32), hits, bins)
    assert found == pytest.approx(100 * expected, abs=1e-4) and type(found) is float


@pytest.mark.parametrize(
    ("confidence", "hits", "bins", "message"),
    [
        ([0.5, 0.5], [True], 15, "expected confidence"),
        ([[0.5]], [[True]], 15, "expected confidence"),
        ([0.5], [True], 0, "bins must be"),
        ([1.5], [True], 15, "outside"),
        ([-0.1], [True], 15, "outside"),
        ([NAN], [True], 15, "outside"),
    ],
)
def test_wrong_arguments_of_calibration(confidence, hits, bins, message):
    with pytest.raises(ValueError, match=message):
        calibration_error(confidence, hits, bins)
