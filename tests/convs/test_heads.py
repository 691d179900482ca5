"""Cosine classifiers that grow."""

import math

import pytest
import torch

from convs.heads import MARGINS, CosineHead, LinearHead, cosines, linear, logits


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


def test_single_rows_are_replaced_wherever_they_stand():
    head = CosineHead(2)
    head.grow(torch.zeros(2, 2))
    head.grow(torch.zeros(1, 2))
    head.grow(torch.zeros(2, 2))
    before = list(head.rows)
    head.replace({1: torch.tensor([1.0, 2.0]), 2: torch.tensor([3.0, 4.0]), 4: torch.tensor([5.0, 6.0])})
    assert head.weight.tolist() == [[0, 0], [1, 2], [3, 4], [0, 0], [5, 6]]
    assert all(now is then for now, then in zip(head.rows, before, strict=True))  # an optimizer may hold them


def test_frozen_rows_are_replaced_too():
    head = CosineHead(1)
    head.grow(torch.ones(2, 1)).requires_grad_(False)
    head.replace({0: torch.tensor([7.0])})
    assert head.weight.tolist() == [[7], [1]] and not head.rows[0].requires_grad


def test_movable_rows_are_marked_parameter_by_parameter():
    head = CosineHead(3)
    for count in (2, 1, 3):
        head.grow(torch.zeros(count, 3))
    found = head.movable((1, 3, 5, 99))
    assert [rows for rows, _ in found] == list(head.rows)
    assert [mask.tolist() for _, mask in found] == [[[False], [True]], [[False]], [[True], [False], [True]]]
    assert all(mask.dtype == torch.bool for _, mask in found)
    assert not any(mask.any() for _, mask in head.movable(()))
    assert CosineHead(3).movable((0,)) == []


def test_cosines_of_zero_and_of_scaled_vectors():
    rows = torch.tensor([[3.0, 0.0], [0.0, -2.0], [0.0, 0.0]])
    features = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    half = 0.5**0.5
    torch.testing.assert_close(cosines(features, rows), torch.tensor([[half, -half, 0.0], [0.0, 0.0, 0.0]]))


def test_a_linear_row_is_a_weight_and_its_bias():
    features = torch.tensor([[1.0, 2.0], [0.0, -3.0]])
    rows = torch.tensor([[3.0, 4.0, 0.5], [0.0, 0.0, -7.0], [1.0, -1.0, 0.0]])
    expected = [[11.5, -7.0, -1.0], [-11.5, -7.0, 3.0]]
    assert linear(features, rows).tolist() == expected
    head = LinearHead(2)
    assert head(features).shape == (2, 0)
    head.grow(rows[:1])
    head.grow(rows[1:])
    assert head(features).tolist() == expected
    with pytest.raises(ValueError, match=r"\[n, 3\], got \[1, 2\]"):
        head.grow(torch.zeros(1, 2))


def test_the_width_of_rows_says_what_they_are():
    generator = torch.Generator().manual_seed(0)
    features, rows = torch.randn(3, 4, generator=generator), torch.randn(2, 4, generator=generator)
    torch.testing.assert_close(logits(features, rows, 20.0), 20 * cosines(features, rows))
    wider = torch.cat([rows, torch.ones(2, 1)], dim=1)
    torch.testing.assert_close(logits(features, wider, 20.0), features @ rows.T + 1)  # not scaled


def test_the_margins_are_the_papers():
    assert {name: margin.margin for name, margin in MARGINS.items()} == {
        "softmax": None,
        "cosface": 0.35,
        "arcface": 0.5,
        "sface": None,
    }


@pytest.mark.parametrize(("name", "margin"), [("softmax", 0.0), ("cosface", 0.35), ("arcface", 0.5)])
def test_a_margin_moves_the_true_cosine_alone(name, margin):
    cosines, labels = torch.tensor([[0.5, 0.1, -0.3]], dtype=torch.float64), torch.tensor([0])
    moved = {"softmax": 0.5, "cosface": 0.5 - 0.35, "arcface": math.cos(math.acos(0.5) + 0.5)}[name]
    expected = math.log(math.fsum(math.exp(64 * z) for z in (moved, 0.1, -0.3))) - 64 * moved
    assert MARGINS[name].loss(cosines, labels, 64.0, margin).item() == pytest.approx(expected, rel=1e-9)
