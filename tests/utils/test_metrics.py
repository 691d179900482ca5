"""Metrics against values worked out by hand, by brute force, or by scipy."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from utils import metrics

NAN = math.nan


def test_topk_by_hand():
    logits = np.array([[0.1, 0.9, 0.5], [2.0, -1.0, 0.0], [0.0, 1.0, 2.0]])
    labels = np.array([1, 2, 0])
    assert metrics.topk_hits(logits, labels, 1).tolist() == [True, False, False]
    assert metrics.topk_hits(logits, labels, 2).tolist() == [True, True, False]
    assert metrics.topk_hits(logits, labels, 3).tolist() == [True, True, True]


def test_k_is_capped_at_the_number_of_classes():
    assert metrics.topk_hits(np.zeros((4, 2)), np.array([0, 1, 1, 0]), 5).all()
    assert metrics.topk_hits(np.array([[-3.0]]), np.array([0]), 1).tolist() == [True]


def test_ties_go_to_the_smaller_column():
    labels = np.arange(3)
    assert metrics.topk_hits(np.ones((3, 3)), labels, 1).tolist() == [True, False, False]
    assert metrics.topk_hits(np.ones((3, 3)), labels, 2).tolist() == [True, True, False]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_topk_agrees_with_a_stable_sort(k):
    draw = np.random.default_rng(0)
    logits = draw.integers(0, 4, size=(300, 7)).astype(np.float32)  # few values, so many ties
    labels = draw.integers(0, 7, size=300)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    assert metrics.topk_hits(logits, labels, k).tolist() == [y in row for y, row in zip(labels, best, strict=True)]


def test_no_images_give_no_hits_and_no_accuracy():
    hits = metrics.topk_hits(np.zeros((0, 3)), np.zeros(0, dtype=int), 1)
    assert hits.shape == (0,) and math.isnan(metrics.accuracy(hits))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="1 of the logits are not finite"):
        metrics.topk_hits(np.array([[0.0, bad]]), np.array([0]), 1)


@pytest.mark.parametrize(
    ("logits", "labels", "k", "message"),
    [
        (np.zeros((2, 3)), np.zeros(3, dtype=int), 1, r"\(2, 3\) and \(3,\)"),
        (np.zeros(3), np.zeros(3, dtype=int), 1, "expected logits"),
        (np.zeros((2, 3)), np.zeros(2), 1, "integers"),
        (np.zeros((2, 3)), np.array([0, 3]), 1, "outside the 3 columns"),
        (np.zeros((2, 3)), np.array([0, -1]), 1, "outside the 3 columns"),
        (np.zeros((2, 3)), np.array([0, 1]), 0, "k must be at least 1"),
    ],
)
def test_wrong_arguments_of_topk(logits, labels, k, message):
    with pytest.raises(ValueError, match=message):
        metrics.topk_hits(logits, labels, k)


def test_accuracy_is_a_percentage_in_a_plain_float():
    value = metrics.accuracy(np.array([True, False, True, True]))
    assert value == 75.0 and type(value) is float


def test_groups_of_unequal_sizes_and_of_one_class():
    labels = np.array([0, 0, 1, 2, 2, 2, 3, 3, 3, 3])
    hits = np.array([1, 0, 1, 1, 1, 0, 0, 0, 1, 0], dtype=bool)
    found = metrics.group_accuracy(hits, labels, [(0, 1), (2,), (3,), (9,)])
    assert found[:3] == pytest.approx([200 / 3, 200 / 3, 25.0])
    assert math.isnan(found[3])


def test_groups_need_a_label_per_hit():
    with pytest.raises(ValueError, match="differ in shape"):
        metrics.group_accuracy(np.ones(3, dtype=bool), np.zeros(2, dtype=int), [(0,)])


def test_average_and_last_accuracy():
    assert metrics.average_accuracy([90.0, 80.0, 70.0]) == 80.0
    assert metrics.average_accuracy([90.0, NAN, 70.0]) == 80.0
    assert math.isnan(metrics.average_accuracy([]))
    assert metrics.last_accuracy([90.0, 70.0]) == 70.0
    with pytest.raises(ValueError, match="empty curve"):
        metrics.last_accuracy([])


def test_forgetting_and_transfer_of_three_sessions():
    matrix = [[90.0], [80.0, 85.0], [70.0, 88.0, 95.0]]
    assert metrics.forgetting(matrix) == pytest.approx(((90 - 70) + (88 - 88)) / 2)
    assert metrics.backward_transfer(matrix) == pytest.approx(((70 - 90) + (88 - 85)) / 2)


def test_forgetting_is_what_the_toolboxes_print():
    rows = [[91.0], [85.5, 93.0], [80.0, 90.5, 88.0], [84.0, 70.0, 89.0, 92.0]]
    square = np.zeros((4, 4))
    for t, row in enumerate(rows):
        square[t, : t + 1] = row
    published = np.mean([square[:, g].max() - square[3, g] for g in range(3)])
    assert metrics.forgetting(rows) == pytest.approx(published)


@pytest.mark.parametrize("matrix", [[], [[]], [[90.0]], [[90.0, 80.0]], [[], [90.0]]])
def test_nothing_is_forgotten_where_no_group_is_old(matrix):
    assert metrics.forgetting(matrix) == 0.0
    assert metrics.backward_transfer(matrix) == 0.0


def test_a_forget_session_adds_no_group():
    after_forget = [[90.0], [80.0, 85.0], [60.0, 84.0]]
    assert metrics.forgetting(after_forget) == pytest.approx((30 + 1) / 2)
    assert metrics.backward_transfer(after_forget) == pytest.approx((-30 - 1) / 2)
    and_learnt_on = [*after_forget, [62.0, 80.0, 99.0]]
    assert metrics.forgetting(and_learnt_on) == pytest.approx((28 + 5) / 2)
    assert metrics.backward_transfer(and_learnt_on) == pytest.approx((-28 - 5) / 2)


@pytest.mark.parametrize("missing", [None, NAN])
def test_a_group_without_a_last_accuracy_does_not_count(missing):
    matrix = [[90.0], [80.0, 85.0], [missing, 84.0]]
    assert metrics.forgetting(matrix) == pytest.approx(1.0)
    assert metrics.backward_transfer(matrix) == pytest.approx(-1.0)


@pytest.mark.parametrize("missing", [None, NAN])
def test_an_early_figure_may_be_missing(missing):
    matrix = [[missing], [80.0, 85.0], [70.0, 84.0, 99.0]]
    assert metrics.forgetting(matrix) == pytest.approx((10 + 1) / 2)
    assert metrics.backward_transfer(matrix) == pytest.approx((-10 - 1) / 2)


def test_a_session_that_brings_two_groups():
    assert metrics.forgetting([[90.0, 50.0], [85.0, 55.0, 70.0]]) == pytest.approx((5 + 0) / 2)


def test_a_last_row_that_lost_a_group():
    assert metrics.forgetting([[90.0], [80.0, 85.0], [75.0]]) == pytest.approx(15.0)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (812, 960), (1, 1), (0, 1)])
def test_wilson_interval_is_scipys(hits, n):
    known = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert metrics.wilson_interval(hits, n) == pytest.approx((100 * known.low, 100 * known.high), abs=1e-5)


def test_wilson_interval_by_hand():
    # z = 2, 8 of 16: centre 1/2, half = sqrt(4/16·(1/4 + 1/16)) / (1 + 4/16) = sqrt(5)/10
    assert metrics.wilson_interval(8, 16, z=2.0) == pytest.approx((50 - 10 * math.sqrt(5), 50 + 10 * math.sqrt(5)))


def test_wilson_interval_at_its_ends():
    assert metrics.wilson_interval(0, 0) == (0.0, 100.0)
    assert metrics.wilson_interval(0, 7)[0] == 0.0
    assert metrics.wilson_interval(7, 7)[1] == 100.0
    for hits, n in [(-1, 5), (6, 5)]:
        with pytest.raises(ValueError, match="hits must lie"):
            metrics.wilson_interval(hits, n)


def test_mean_and_sample_deviation():
    assert metrics.mean_std([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == pytest.approx((5.0, math.sqrt(32 / 7)))
    assert metrics.mean_std(np.array([3.5])) == (3.5, 0.0)
    with pytest.raises(ValueError, match="no values"):
        metrics.mean_std([])
