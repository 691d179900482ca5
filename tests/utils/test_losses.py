"""`utils.losses` against the formulas, term by term in Python's floats."""

import math

import pytest
import torch
import torch.nn.functional as F

from utils.losses import (
    arcface,
    contrastive,
    cosface,
    distillation,
    elementwise_kl,
    relative_drift,
    same,
    sface,
    without_direction,
    without_true,
)


def cosface_by_hand(logits, labels, margin):
    """−log( e^{z_y − m} / (e^{z_y − m} + Σ_{j≠y} e^{z_j}) ), averaged."""
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        own = math.exp(row[label] - margin)
        others = sum(math.exp(value) for column, value in enumerate(row) if column != label)
        total -= math.log(own / (own + others))
    return total / len(logits)


def contrastive_by_hand(image, text, positive, scale):
    """Both directions' mean cross-entropy against the uniform distribution over the positives."""
    logits = [[scale * sum(a * b for a, b in zip(x, y, strict=True)) for y in text.tolist()] for x in image.tolist()]
    fits = positive.tolist()

    def direction(scores, wanted):
        total = 0.0
        for row, marks in zip(scores, wanted, strict=True):
            norm = math.log(sum(math.exp(value) for value in row))
            total += sum(norm - value for value, mark in zip(row, marks, strict=True) if mark) / sum(marks)
        return total / len(scores)

    columns = [list(column) for column in zip(*logits, strict=True)]
    return (direction(logits, fits) + direction(columns, [list(column) for column in zip(*fits, strict=True)])) / 2


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("margin", [0.0, 2.0, 6.0])
def test_cosface_is_the_formula(classes, margin):
    generator = torch.Generator().manual_seed(classes)
    logits = 20 * (2 * torch.rand(5, classes, generator=generator, dtype=torch.float64) - 1)
    labels = torch.randint(classes, (5,), generator=generator)
    assert cosface(logits, labels, margin).item() == pytest.approx(cosface_by_hand(logits, labels, margin), rel=1e-12)


def test_cosface_of_one_class_is_zero():
    logits = torch.tensor([[3.0], [-20.0]])
    assert cosface(logits, torch.tensor([0, 0]), 6.0).item() == 0.0


def test_cosface_of_two_classes_and_of_ties():
    # e^{2 − 1} against e^{1}: even
    assert cosface(torch.tensor([[2.0, 1.0]]), torch.tensor([0]), 1.0).item() == pytest.approx(math.log(2))
    ties = torch.full((3, 4), 5.0, dtype=torch.float64)
    labels = torch.tensor([0, 1, 3])
    assert cosface(ties, labels).item() == pytest.approx(math.log(4), rel=1e-12)
    assert cosface(ties, labels, 2.0).item() == pytest.approx(math.log(1 + 3 * math.exp(2)), rel=1e-12)


def test_cosface_without_margin_is_cross_entropy_and_with_one_it_is_larger():
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 4, 2, 1, 3, 3])
    assert torch.equal(cosface(logits, labels), F.cross_entropy(logits, labels))
    assert cosface(logits, labels, 0.3) > cosface(logits, labels)


def test_cosface_gradient_is_softmax_of_the_lowered_logits():
    logits = torch.tensor([[1.0, 0.5, -1.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(cosface(logits, torch.tensor([0]), 0.7), logits)
    lowered = [math.exp(0.3), math.exp(0.5), math.exp(-1.0)]
    expected = [value / sum(lowered) - (place == 0) for place, value in enumerate(lowered)]
    assert slope[0].tolist() == pytest.approx(expected, rel=1e-12)


def test_cosface_stays_finite_at_large_scales():
    assert cosface(torch.tensor([[-64.0, 64.0]]), torch.tensor([0]), 64.0).item() == pytest.approx(192.0)


@pytest.mark.parametrize(
    ("image_labels", "text_labels"),
    [([0, 1, 2], [0, 1, 2]), ([0, 0, 1, 2, 1], [0, 1, 2]), ([0, 1], [1, 0, 0, 1, 1]), ([0, 0], [0])],
)
def test_contrastive_is_the_double_loop(image_labels, text_labels):
    generator = torch.Generator().manual_seed(len(image_labels))
    image = F.normalize(torch.randn(len(image_labels), 4, generator=generator, dtype=torch.float64), dim=1)
    text = F.normalize(torch.randn(len(text_labels), 4, generator=generator, dtype=torch.float64), dim=1)
    positive = same(torch.tensor(image_labels), torch.tensor(text_labels))
    expected = contrastive_by_hand(image, text, positive, 10.0)
    assert contrastive(image, text, positive, 10.0).item() == pytest.approx(expected, rel=1e-12)


def test_contrastive_with_one_positive_is_clips_loss():
    image = F.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    text = F.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(2)), dim=1)
    logits, diagonal = 5.0 * image @ text.T, torch.arange(3)
    clip = (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2
    assert contrastive(image, text, torch.eye(3, dtype=torch.bool), 5.0).item() == pytest.approx(clip.item(), rel=1e-6)


def test_contrastive_teaches_its_temperature():
    scale = torch.tensor(3.0, requires_grad=True)
    contrastive(torch.eye(2), torch.eye(2), torch.eye(2, dtype=torch.bool), scale).backward()
    # d/ds log(1 + e^{−s}) = −1 / (1 + e^{s})
    assert scale.grad.item() == pytest.approx(-1 / (1 + math.exp(3.0)), rel=1e-5)


def test_same():
    agree = same(torch.tensor([3, 1]), torch.tensor([1, 3, 3]))
    assert agree.dtype == torch.bool and agree.tolist() == [[False, True, True], [True, False, False]]


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_without_true_drops_the_column_and_keeps_the_order(classes):
    logits = torch.arange(4.0 * classes).view(4, classes)
    labels = torch.arange(4) % classes
    expected = [
        [v for j, v in enumerate(row) if j != y] for row, y in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    found = without_true(logits, labels)
    assert found.shape == (4, classes - 1) and found.tolist() == expected


def kl_by_hand(logits, original):
    total = 0.0
    for new, old in zip(logits.tolist(), original.tolist(), strict=True):
        p, q = ([math.exp(v) / sum(map(math.exp, row)) for v in row] for row in (old, new))
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / (logits.shape[0] * logits.shape[1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (5, 2), (4, 9)])
def test_elementwise_kl_is_the_formula(shape):
    generator = torch.Generator().manual_seed(0)
    logits, original = (3 * torch.randn(2, *shape, generator=generator, dtype=torch.float64)).unbind()
    assert elementwise_kl(logits, original).item() == pytest.approx(kl_by_hand(logits, original), rel=1e-11, abs=1e-15)
    assert elementwise_kl(logits + 7.0, logits).item() == pytest.approx(0.0, abs=1e-14)


def test_elementwise_kl_without_columns_is_zero():
    logits = torch.zeros(3, 0, requires_grad=True)
    assert elementwise_kl(logits, torch.zeros(3, 0)).item() == 0.0


def test_elementwise_kl_stays_finite_where_the_original_is_certain():
    logits = torch.tensor([[0.0, 300.0]], requires_grad=True)
    divergence = elementwise_kl(logits, torch.tensor([[300.0, 0.0]]))
    (slope,) = torch.autograd.grad(divergence, logits)
    assert divergence.item() == pytest.approx(150.0) and slope[0].tolist() == pytest.approx([-0.5, 0.5])


@pytest.mark.parametrize("temperature", [1.0, 2.0, 10.0])
def test_distillation_is_the_formula(temperature):
    dice = torch.Generator().manual_seed(2)
    logits, teacher = 6 * torch.randn(2, 4, 3, generator=dice, dtype=torch.float64)
    total = 0.0
    for new, old in zip(logits.tolist(), teacher.tolist(), strict=True):
        p, q = ([math.exp(z / temperature) for z in row] for row in (old, new))
        total += sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    assert distillation(logits, teacher, temperature).item() == pytest.approx(total / 4, rel=1e-10)


def test_distillation_from_itself_is_zero_and_flat():
    logits = torch.tensor([[90.0, -90.0, 0.0], [1.0, 2.0, 3.0]], requires_grad=True)
    value = distillation(logits, logits.detach(), 2.0)
    value.backward()
    assert value.item() == 0.0 and logits.grad.abs().max() < 1e-7


def arcface_by_hand(cosines, labels, margin, scale):
    """Cross-entropy of s·cos with the true angle enlarged by m; continued by cos θ − m·sin m beyond π − m."""
    total = 0.0
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        angle = math.acos(row[label])
        turned = math.cos(angle + margin) if angle + margin < math.pi else row[label] - margin * math.sin(margin)
        logits = [scale * (turned if column == label else value) for column, value in enumerate(row)]
        top = max(logits)
        total += top + math.log(sum(math.exp(value - top) for value in logits)) - logits[label]
    return total / len(cosines)


def sface_by_hand(cosines, labels, scale, k, a, b):
    """Every cosine times its weight, which depends on its own angle."""
    total = 0.0
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        for column, value in enumerate(row):
            angle = math.acos(value)
            if column == label:
                total -= scale / (1 + math.exp(-k * (angle - a))) * value
            else:
                total += scale / (1 + math.exp(k * (angle - b))) * value
    return total / len(cosines)


def some_cosines(rows: int, classes: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


EDGES = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.5], [0.0, 1.0, -1.0], [-0.95, 0.2, 0.3]], dtype=torch.float64)


@pytest.mark.parametrize(("margin", "scale"), [(0.5, 64.0), (0.0, 64.0), (0.2, 8.0), (1.0, 20.0)])
def test_arcface_is_the_formula(margin, scale):
    labels = torch.tensor([0, 3, 1, 2, 4, 0, 1, 1])
    cosines = some_cosines(8, 5)
    expected = arcface_by_hand(cosines, labels, margin, scale)
    assert arcface(cosines, labels, margin, scale).item() == pytest.approx(expected, rel=1e-9)
    edges = torch.tensor([0, 0, 1, 0])  # the true cosines are 1, −1, 1 and beyond π − m
    expected = arcface_by_hand(EDGES, edges, margin, scale)
    assert arcface(EDGES, edges, margin, scale).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_arcface_by_default_is_the_papers_and_without_margin_cross_entropy():
    labels, cosines = torch.tensor([2, 0]), some_cosines(2, 3)
    assert torch.equal(arcface(cosines, labels), arcface(cosines, labels, 0.5, 64.0))
    assert arcface(cosines, labels, 0.0).item() == pytest.approx(F.cross_entropy(64 * cosines, labels).item())


def test_sface_is_the_formula():
    labels, cosines = torch.tensor([0, 3, 1, 2, 4, 0]), some_cosines(6, 5)
    for settings in ((64.0, 80.0, 0.80, 1.22), (10.0, 5.0, 0.4, 1.5)):
        expected = sface_by_hand(cosines, labels, *settings)
        assert sface(cosines, labels, *settings).item() == pytest.approx(expected, rel=1e-9)
    assert torch.equal(sface(cosines, labels), sface(cosines, labels, 64.0, 80.0, 0.80, 1.22))
    edges = torch.tensor([0, 0, 1, 0])
    assert sface(EDGES, edges).item() == pytest.approx(sface_by_hand(EDGES, edges, 64.0, 80.0, 0.80, 1.22), rel=1e-9)


def test_the_weights_of_sface_are_constants_to_its_gradient():
    cosines, labels = some_cosines(2, 3).requires_grad_(), torch.tensor([1, 0])
    (slopes,) = torch.autograd.grad(sface(cosines, labels, 10.0, 5.0, 0.8, 1.2), cosines)
    for row, label, slope in zip(cosines.tolist(), labels.tolist(), slopes.tolist(), strict=True):
        for column, value in enumerate(row):
            angle = math.acos(value)
            pull, push = -10 / (1 + math.exp(-5 * (angle - 0.8))), 10 / (1 + math.exp(5 * (angle - 1.2)))
            assert slope[column] == pytest.approx((pull if column == label else push) / 2, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", [arcface, sface])
def test_margins_have_finite_gradients_at_the_ends(loss, dtype):
    ends = EDGES.to(dtype).clone()
    ends[0, 0] += torch.finfo(dtype).eps  # what rounding makes of the cosine of equal vectors
    cosines = ends.requires_grad_()
    value = loss(cosines, torch.tensor([0, 0, 1, 0]))
    (slopes,) = torch.autograd.grad(value, cosines)
    assert value.isfinite() and slopes.isfinite().all()
    assert slopes.abs().max() < 1e3


def test_arcfaces_gradient_is_that_of_the_turned_angle():
    cosines, labels = torch.tensor([[0.6, 0.1]], dtype=torch.float64, requires_grad=True), torch.tensor([0])
    (slope,) = torch.autograd.grad(arcface(cosines, labels, 0.5, 4.0), cosines)
    angle = math.acos(0.6)
    share = 1 / (1 + math.exp(4 * math.cos(angle + 0.5) - 4 * 0.1))  # softmax of the other class
    assert slope[0, 1].item() == pytest.approx(4 * share)
    assert slope[0, 0].item() == pytest.approx(-4 * share * math.sin(angle + 0.5) / math.sin(angle))


# drift


def test_relative_drift_by_hand():
    before = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float64)
    after = torch.tensor([[3.0, 9.0], [1.0, 2.0]], dtype=torch.float64)
    assert relative_drift(after, before).item() == pytest.approx((25 / 25 + 1 / 4) / 2)
    assert relative_drift(before, before).item() == 0


def test_without_direction_by_hand():
    vectors = torch.tensor([[2.0, 3.0], [1.0, 1.0]], dtype=torch.float64)
    directions = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    found = without_direction(vectors, directions)
    assert torch.allclose(found, torch.tensor([[0.0, 3.0], [1 - 1.4 * 0.6, 1 - 1.4 * 0.8]], dtype=torch.float64))
