"""Ridge regression in parts, against one solution from everything."""

import numpy as np
import pytest
import torch

from utils.ridge import RIDGES, Regression, best_ridge


@pytest.fixture
def examples():
    """Forty of width 12, of five classes that come in two sessions."""
    dice = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(24) % 3, 3 + torch.arange(16) % 2])
    return torch.randn(40, 12, generator=dice, dtype=torch.float64) + labels[:, None], labels


def by_hand(examples: np.ndarray, targets: np.ndarray, ridge: float) -> np.ndarray:
    """The least squares of examples with √λ·I below them."""
    width, classes = examples.shape[1], targets.shape[1]
    stacked = np.vstack([examples, ridge**0.5 * np.eye(width)])
    return np.linalg.lstsq(stacked, np.vstack([targets, np.zeros((width, classes))]), rcond=None)[0]


@pytest.mark.parametrize("ridge", [1e-2, 1.0, 1e3])
def test_sessions_add_up_to_one_regression(examples, ridge):
    rows, labels = examples
    regression = Regression.of_nothing(12)
    for part, classes in ((slice(0, 10), 3), (slice(10, 24), 3), (slice(24, 40), 5)):
        regression = regression.grown(rows[part], labels[part], classes)
    expected = by_hand(rows.numpy(), np.eye(5)[labels.numpy()], ridge)
    np.testing.assert_allclose(regression.solution(ridge).numpy(), expected, rtol=1e-8, atol=1e-10)


def test_it_is_double_whatever_comes_in(examples):
    rows, labels = examples
    regression = Regression.of_nothing(12).grown(rows.float(), labels, 5)
    assert regression.gram.dtype == regression.solution(1.0).dtype == torch.float64


@pytest.mark.parametrize("at_a_time", [1024, 5])
@pytest.mark.parametrize("count", [40, 9, 2])  # more examples than columns, and fewer
def test_the_ridge_is_the_one_that_predicts_the_others_best(examples, count, at_a_time, monkeypatch):
    rows, labels = (values[:count] for values in examples)
    targets = torch.eye(5, dtype=torch.float64)[labels]
    monkeypatch.setattr("utils.ridge.AT_A_TIME", at_a_time)
    found = best_ridge(rows.__getitem__, 12, targets, torch.Generator().manual_seed(3))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    cut = {40: 32, 9: 7, 2: 1}[count]
    seen, other = order[:cut], order[cut:]
    errors = {}
    for ridge in (10.0**power for power in range(-8, 9)):
        guess = rows[other].numpy() @ by_hand(rows[seen].numpy(), targets[seen].numpy(), ridge)
        errors[ridge] = np.square(guess - targets[other].numpy()).mean()
    assert errors[found] <= min(errors.values()) * (1 + 1e-6)
    assert len(RIDGES) == 17 and set(errors) == set(RIDGES)


def test_noise_asks_for_a_large_ridge_and_a_law_for_a_small_one():
    dice = torch.Generator().manual_seed(1)
    rows = torch.randn(60, 8, generator=dice, dtype=torch.float64)
    law = rows @ torch.randn(8, 2, generator=dice, dtype=torch.float64)
    noise = torch.randn(60, 2, generator=dice, dtype=torch.float64)
    law, noise = (best_ridge(rows.__getitem__, 8, targets, dice) for targets in (law, noise))
    assert law <= 1e-4 and noise >= 10
