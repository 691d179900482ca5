"""Herding, against trying every example at every place."""

import numpy as np
import pytest
import torch

from utils.herding import herding


@pytest.mark.parametrize("count", [0, 1, 5, 12, 30])
def test_every_choice_is_the_best_of_those_left(count):
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(count), dtype=torch.float64) + 3
    rows = features.numpy()
    chosen = []
    for _ in range(min(count, 12)):
        left = [place for place in range(12) if place not in chosen]
        errors = [np.linalg.norm(rows[[*chosen, place]].mean(0) - rows.mean(0)) for place in left]
        chosen.append(left[int(np.argmin(errors))])
    found = herding(features, count)
    assert found.tolist() == chosen and found.dtype == torch.long


def test_by_hand():
    # the mean is 4: 3 and 5 are as near, the first is taken; then (3 + 5)/2 is the mean itself
    assert herding(torch.tensor([[0.0], [3.0], [5.0], [8.0]]), 2).tolist() == [1, 2]
    # the mean is 3: 2 is nearest; then (2 + 1)/2 before (2 + 0)/2 and (2 + 9)/2; then (3 + 9)/3 before (3 + 0)/3
    assert herding(torch.tensor([[0.0], [9.0], [2.0], [1.0]]), 3).tolist() == [2, 3, 1]


def test_equal_examples_are_not_chosen_twice():
    assert herding(torch.ones(3, 2), 3).tolist() == [0, 1, 2]
