"""Cosine classifiers that grow."""

import math

import pytest
import torch

from convs.heads import CosineHead


def cosine(a: list[float], b: list[float]) -> float:
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))


def test_cosines_in_double_precision():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 7, dtype=torch.float64, generator=generator)
    first, second = (torch.randn(n, 7, dtype=torch.float64, generator=generator) for n in (3, 2))
    head = CosineHead(7)
    head.grow(first)
    head.grow(second)
    rows = first.tolist() + second.tolist()
    expected = [[cosine(feature, row) for row in rows] for feature in features.tolist()]
    torch.testing.assert_close(head(features), torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(head(100 * features), head(features))


def test_rows_keep_their_order_and_are_parameters_of_their_own():
    head = CosineHead(2)
    source = torch.tensor([[1.0, 2.0]])
    grown = head.grow(source)
    source.zero_()
    head.grow(torch.tensor([[3.0, 4.0], [5.0, 6.0]]))
    assert isinstance(grown, torch.nn.Parameter) and grown.requires_grad
    assert head.weight.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert len(head) == 3
    assert dict(head.named_parameters()).keys() == {"rows.0", "rows.1"}


def test_a_head_without_rows_says_nothing():
    head = CosineHead(3)
    assert len(head) == 0
    assert head(torch.randn(5, 3)).shape == (5, 0)


@pytest.mark.parametrize("shape", [(3,), (2, 4), (1, 2, 3)])
def test_rows_of_another_width_are_refused(shape):
    with pytest.raises(ValueError, match=r"\[n, 3\]"):
        CosineHead(3).grow(torch.zeros(shape))
