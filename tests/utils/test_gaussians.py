"""`utils.gaussians` against numpy, brute force in float64, and the standard errors of sampled moments."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from utils.gaussians import (
    FLOOR,
    ClassStatistics,
    class_means,
    class_statistics,
    cross_modal_statistics,
    draw,
    mean_variance,
    median_spread,
    pooled_factor,
    shifted_means,
    text_error,
)


def features(count, dim, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return (torch.randn(count, dim, generator=generator, dtype=torch.float64) @ mix + 3).to(dtype)


def shifted_by_hand(means, before, after, sigma, floor, shrink=0.0):
    """The rule, class by class and image by image."""
    moved = []
    for mean in means.double().numpy():
        total, weights = np.zeros_like(mean), 0.0
        for old, new in zip(before.double().numpy(), after.double().numpy(), strict=True):
            weight = math.exp(-float(((old - mean) ** 2).sum()) / (2 * sigma**2)) + floor
            total, weights = total + weight * (new - old), weights + weight
        moved.append(mean + total / (weights + shrink))
    return np.stack(moved)


@pytest.mark.parametrize(("count", "dim"), [(2, 5), (4, 9), (9, 9), (10, 9), (40, 6), (2, 1)])
def test_covariance_is_numpys_plus_the_ridge(count, dim):
    x = features(count, dim)
    item = class_statistics(x, 1e-3)
    expected = np.cov(x.numpy(), rowvar=False).reshape(dim, dim) + 1e-3 * np.eye(dim)
    np.testing.assert_allclose(item.covariance().numpy(), expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(item.mean.numpy(), x.numpy().mean(0), rtol=1e-13)


@pytest.mark.parametrize(("count", "dim"), [(2, 5), (4, 9), (9, 9), (10, 9), (40, 6)])
def test_factor_has_rank_n_minus_1_at_most_the_dimension(count, dim):
    item = class_statistics(features(count, dim), 0.5, parent=7, session=3)
    rank = min(count - 1, dim)
    assert item.factor.shape == (rank, dim) and torch.linalg.matrix_rank(item.factor) == rank
    assert (item.ridge, item.count, item.parent, item.session) == (0.5, count, 7, 3)


def test_single_precision_is_as_good_as_it_can_be():
    x = features(30, 50, dtype=torch.float32)
    expected = np.cov(x.double().numpy(), rowvar=False) + 1e-3 * np.eye(50)
    found = class_statistics(x, 1e-3).covariance()
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5 * np.abs(expected).max())


def test_equal_features_have_only_the_ridge():
    item = class_statistics(torch.full((4, 3), 2.0), 0.25)
    assert torch.allclose(item.covariance(), 0.25 * torch.eye(3))


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_features(count):
    with pytest.raises(ValueError, match=f"at least 2 features, got {count}"):
        class_statistics(torch.zeros(count, 3), 1e-3)


def test_the_factor_is_in_principal_directions_and_not_the_features():
    x = features(6, 20)
    factor = class_statistics(x, 0.0).factor
    product = factor @ factor.T
    assert torch.allclose(product, product.diagonal().diag(), atol=1e-9)
    centred = x - x.mean(0)
    assert torch.cdist(factor * 5**0.5, torch.cat([centred, -centred])).min() > 0.1


def test_statistics_survive_a_checkpoint_and_move():
    item = class_statistics(features(5, 4, dtype=torch.float32), 0.1, parent=2**40, session=11)
    again = ClassStatistics.from_tensors(item.tensors())
    assert torch.equal(again.mean, item.mean) and torch.equal(again.factor, item.factor)
    kept = (again.ridge, again.count, again.parent, again.session)
    assert kept == (0.1, 5, 2**40, 11) and [type(value) for value in kept] == [float, int, int, int]
    moved = item.moved(torch.zeros(4))
    assert moved.mean.tolist() == [0, 0, 0, 0] and moved.factor is item.factor and moved.session == 11
    assert not torch.equal(item.mean, moved.mean)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("classes", "images"), [(3, 5), (30, 40)])
def test_shift_is_the_published_rule(dtype, classes, images):
    before = features(images, 6, seed=1, dtype=dtype)
    after = before + 0.3 * features(images, 6, seed=2, dtype=dtype)
    means = features(classes, 6, seed=3, dtype=dtype)  # some near, some several widths away
    moved = shifted_means(means, before, after, sigma=1.5)
    expected = shifted_by_hand(means, before, after, 1.5, 1e-5)
    assert moved.dtype == dtype and moved.shape == means.shape
    np.testing.assert_allclose(moved.numpy(), expected, rtol=1e-5 if dtype == torch.float32 else 1e-10)


def test_shift_far_from_the_origin_does_not_lose_the_distances():
    before = features(40, 6, seed=1) + 1e4
    after, means = before + features(40, 6, seed=2), features(30, 6, seed=3) + 1e4
    expected = shifted_by_hand(means, before, after, 2.0, FLOOR)
    np.testing.assert_allclose(shifted_means(means, before, after, 2.0).numpy(), expected, rtol=1e-9)


def test_a_far_prototype_moves_with_the_mean_drift():
    before, after = features(8, 4, seed=1), features(8, 4, seed=2)
    far = torch.full((1, 4), 1e3, dtype=torch.float64)
    moved = shifted_means(far, before, after, sigma=4.0)
    assert torch.allclose(moved - far, (after - before).mean(0, keepdim=True), rtol=1e-9)


def test_a_near_prototype_moves_with_its_own_image():
    before = torch.tensor([[0.0, 0.0], [100.0, 0.0]])
    after = before + torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    moved = shifted_means(torch.tensor([[0.0, 0.0]]), before, after, sigma=4.0)
    # weights 1 + 1e-5 and 1e-5
    assert moved[0].tolist() == pytest.approx([1.00001 / 1.00002, 5e-5 / 1.00002], rel=1e-5)


def test_a_common_drift_moves_every_prototype_alike_and_none_moves_none():
    before, means = features(9, 3, seed=1), features(4, 3, seed=2)
    drift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    assert torch.allclose(shifted_means(means, before, before + drift, 4.0), means + drift, rtol=1e-12)
    assert torch.equal(shifted_means(means, before, before, 4.0), means)


@pytest.mark.parametrize("floor", [0.0, FLOOR])
@pytest.mark.parametrize("shrink", [0.25, 1.0])
def test_the_shrunk_shift_is_the_rule(floor, shrink):
    before = features(25, 6, seed=1)
    after, means = before + 0.3 * features(25, 6, seed=2), features(9, 6, seed=3)
    moved = shifted_means(means, before, after, sigma=1.5, floor=floor, shrink=shrink)
    expected = shifted_by_hand(means, before, after, 1.5, floor, shrink)
    np.testing.assert_allclose(moved.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_floor_and_shrunk_a_far_prototype_stays_to_the_bit(dtype):
    before = features(8, 4, seed=1, dtype=dtype)
    after = before + 100.0 * features(8, 4, seed=2, dtype=dtype)
    far = 1e3 + features(5, 4, seed=3, dtype=dtype)
    assert torch.equal(shifted_means(far, before, after, sigma=4.0, floor=0.0, shrink=1.0), far)
    near = shifted_means(before[:1], before, after, sigma=4.0, floor=0.0, shrink=1.0)
    assert not torch.equal(near, before[:1])
    assert not torch.equal(shifted_means(far, before, after, sigma=4.0, shrink=1.0), far)  # the floor moves it


def test_shrinking_halves_the_move_of_a_lone_image_and_wears_off_with_many():
    before, drift = torch.zeros(1, 3), torch.tensor([[2.0, 0.0, -4.0]])
    assert torch.allclose(shifted_means(before, before, before + drift, 1.0, floor=0.0, shrink=1.0), drift / 2)
    many = before.expand(99, 3)  # 99 / (99 + 1)
    assert torch.allclose(shifted_means(before, many, many + drift, 1.0, floor=0.0, shrink=1.0), 0.99 * drift)


@pytest.mark.parametrize("wrong", [{"floor": 0.0}, {"floor": -1e-5, "shrink": 1.0}, {"shrink": -1.0}])
def test_a_shift_that_could_divide_by_zero_is_refused(wrong):
    with pytest.raises(ValueError, match="above 0"):
        shifted_means(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2), 1.0, **wrong)


# covariances and prototypes of classes without images


def pooled_by_hand(x, labels):
    total = np.zeros((x.shape[1], x.shape[1]))
    for label in set(labels):
        own = x[np.array(labels) == label]
        for row in own:
            total += np.outer(row - own.mean(0), row - own.mean(0))
    return total / max(1, len(x) - len(set(labels)))


@pytest.mark.parametrize(
    ("labels", "dim"), [([0, 0, 1, 1, 1, 7], 9), ([0, 1, 0, 1, 0, 1, 0, 1, 2, 2, 2, 2], 4), ([3, 3, 3], 5), ([1, 1], 1)]
)
def test_pooled_covariance_is_around_the_own_class_means(labels, dim):
    x = features(len(labels), dim)
    factor = pooled_factor(x, torch.tensor(labels))
    assert factor.shape == (min(len(labels) - len(set(labels)), dim), dim)
    np.testing.assert_allclose((factor.T @ factor).numpy(), pooled_by_hand(x.numpy(), labels), rtol=1e-10, atol=1e-11)


def test_pooled_factor_of_one_class_is_its_own():
    x = features(6, 4)
    own = class_statistics(x, 0.0).factor
    assert torch.equal(pooled_factor(x, torch.zeros(6, dtype=torch.long)), own)


def test_classes_of_one_feature_each_have_no_covariance_but_the_ridge():
    x, labels = features(3, 5), torch.arange(3)
    assert pooled_factor(x, labels).shape == (0, 5)
    item = cross_modal_statistics(torch.eye(5).double(), x, labels, [4], ridge=0.25)[4]
    assert torch.equal(item.covariance(), 0.25 * torch.eye(5).double())
    assert draw([item], [1.0], 7, torch.Generator().manual_seed(0)).shape == (7, 5)


def test_no_features_are_refused():
    with pytest.raises(ValueError, match="got none"):
        cross_modal_statistics(torch.eye(3), torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), [0], 0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_modal_prototypes_are_text_plus_gap(dtype):
    rows = torch.nn.functional.normalize(features(6, 8, seed=4), dim=1)
    labels = [5, 1, 1, 5, 5, 2]  # not as many of each
    x = 7.0 * rows[labels] + features(6, 8, seed=5)
    wanted = [4, 0, 1]
    found = cross_modal_statistics(
        rows.to(dtype), x.to(dtype), torch.tensor(labels), wanted, 0.3, parents=[10, 11, 12, 13, 14, 15], session=2
    )
    t, f = rows.numpy(), x.numpy()
    norm = np.mean([math.sqrt(sum(v * v for v in row)) for row in f])
    gap = np.mean([f[i] - norm * t[label] for i, label in enumerate(labels)], axis=0)
    covariance = pooled_by_hand(f, labels) + 0.3 * np.eye(8)
    assert list(found) == wanted
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-11}
    for place, item in found.items():
        assert item.mean.dtype == item.factor.dtype == dtype
        np.testing.assert_allclose(item.mean.numpy(), norm * t[place] + gap, **tolerance)
        np.testing.assert_allclose(item.covariance().numpy(), covariance, **tolerance)
        assert (item.ridge, item.count, item.parent, item.session) == (0.3, 6, 10 + place, 2)


def test_where_texts_and_images_differ_by_a_gap_alone_the_prototypes_are_exact():
    # images of norm 5 at 3·row + (0, 0, 4): the rows lie in the plane, the gap is at right angles to them
    angle = torch.linspace(0, 3, 4, dtype=torch.float64)
    rows = torch.stack([angle.cos(), angle.sin(), torch.zeros(4)], 1)
    gap = torch.tensor([0.0, 0.0, 4.0], dtype=torch.float64)
    seen = torch.tensor([0, 1])
    found = cross_modal_statistics(rows, 3 * rows[seen] + gap, seen, range(4), 0.1)
    # brought to the images' norm the texts are 5·row, so the gap takes −2·mean(row) along
    expected = 5 * rows + gap - 2 * rows[seen].mean(0)
    torch.testing.assert_close(torch.stack([item.mean for item in found.values()]), expected)
    torch.testing.assert_close(torch.stack([found[0].mean, found[1].mean]).mean(0), (3 * rows[seen] + gap).mean(0))


def test_drawn_moments_are_within_their_standard_errors():
    count = 200_000
    item = class_statistics(features(3, 4, seed=5, dtype=torch.float32), 0.3)
    x = draw([item], [0.9], count, torch.Generator().manual_seed(0)).double()
    covariance = item.covariance().double()
    error = (covariance.diagonal() / count).sqrt()
    assert ((x.mean(0) - 0.9 * item.mean).abs() < 4.5 * error).all()
    # a Gaussian's sample covariance: Var S_ij = (Σ_ii Σ_jj + Σ_ij²) / (N − 1)
    spread = covariance.diagonal()
    error = ((spread[:, None] * spread[None, :] + covariance**2) / (count - 1)).sqrt()
    assert ((torch.cov(x.T) - covariance).abs() < 4.5 * error).all()


def test_lambda_scales_the_mean_only():
    item = class_statistics(features(5, 6), 1e-3)

    def drawn(scale):
        return draw([item], [scale], 1000, torch.Generator().manual_seed(1))

    shift = drawn(0.9) - drawn(0.0)
    assert torch.allclose(shift, (0.9 * item.mean).expand(1000, 6), rtol=1e-9, atol=1e-9)


def test_draws_stand_class_by_class_and_follow_the_generator():
    near, far = class_statistics(features(4, 3), 1e-6), class_statistics(features(9, 3, seed=1), 1e-6)
    classes = [near.moved(torch.zeros(3).double()), far.moved(torch.full((3,), 1e4).double())]
    x = draw(classes, [1.0, 0.5], 20, torch.Generator().manual_seed(2))
    assert x.shape == (40, 3) and x[:20].abs().max() < 1e3 and (x[20:] - 5e3).abs().max() < 1e3
    assert torch.equal(x, draw(classes, [1.0, 0.5], 20, torch.Generator().manual_seed(2)))
    assert not torch.equal(x, draw(classes, [1.0, 0.5], 20, torch.Generator().manual_seed(3)))


def test_a_draw_fills_the_memory_it_is_given_and_no_other():
    classes, before = [class_statistics(features(4, 3), 1e-2), class_statistics(features(9, 3, seed=1), 1e-2)], 7.0
    room = torch.full((12, 3), before, dtype=torch.float64)
    x = draw(classes, [1.0, 0.9], 5, torch.Generator().manual_seed(2), out=room[1:11])
    assert x.data_ptr() == room[1].data_ptr()
    assert torch.equal(room[1:11], draw(classes, [1.0, 0.9], 5, torch.Generator().manual_seed(2)))
    assert (room[[0, 11]] == before).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_draw_is_the_mean_and_noise_along_and_around_the_factor(dtype):
    items = [class_statistics(features(n, 6, seed=n, dtype=dtype), ridge) for n, ridge in ((3, 0.3), (9, 1e-3))]
    found = draw(items, [0.9, 1.0], 5, torch.Generator().manual_seed(2))
    dice, expected = torch.Generator().manual_seed(2), []
    for item, scale in zip(items, (0.9, 1.0), strict=True):
        along = torch.randn(5, len(item.factor), generator=dice, dtype=dtype)
        around = torch.randn(5, 6, generator=dice, dtype=dtype)
        expected.append(scale * item.mean + along @ item.factor + math.sqrt(item.ridge) * around)
    assert found.dtype == dtype
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-5)


def test_without_ridge_draws_stay_in_the_span_of_the_class():
    item = replace(class_statistics(features(3, 8), 1.0), ridge=0.0)
    x = draw([item], [1.0], 50, torch.Generator().manual_seed(0)) - item.mean
    assert torch.linalg.matrix_rank(x, rtol=1e-9) == 2


def test_every_class_needs_its_scale():
    with pytest.raises(ValueError, match="shorter"):
        draw([class_statistics(features(3, 2), 0.1)], [], 1, torch.Generator())


def test_median_spread_and_mean_variance_by_hand():
    # class 5 around (0, 2): distances 2, 2; class 9 around (2, 0): distances 2, 2, 4
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 4.0], [0.0, 0.0], [6.0, 0.0]])
    labels = torch.tensor([5, 9, 5, 9, 9])
    assert median_spread(x, labels) == 2.0
    assert mean_variance(x, labels) == pytest.approx((4 + 4 + 4 + 4 + 16) / 10)
    uneven = torch.tensor([[0.0], [2.0], [10.0], [20.0]])  # distances 1, 1, 5, 5: the lower middle
    assert median_spread(uneven, torch.tensor([0, 0, 1, 1])) == 1.0


def test_class_means_by_hand():
    features = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 0.0]], [[9.0, 9.0]]])  # [N, 1, D]
    found = class_means(features, torch.tensor([7, 2, 7, 5]), (2, 7))
    assert torch.equal(found, torch.tensor([[[3.0, 4.0]], [[3.0, 1.0]]]))


def test_spread_measures_do_not_see_where_the_classes_lie():
    x, labels = features(12, 3), torch.arange(4).repeat_interleave(3)
    elsewhere = x + 50.0 * labels[:, None]
    assert median_spread(elsewhere, labels) == pytest.approx(median_spread(x, labels), rel=1e-9)
    assert mean_variance(elsewhere, labels) == pytest.approx(mean_variance(x, labels), rel=1e-9)


def test_text_error_by_hand():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    features = torch.tensor([[4.0, 0.0], [2.0, 0.0], [0.0, 5.0]])
    labels = torch.tensor([0, 0, 1])
    norm = (4 + 2 + 5) / 3
    gap = [(6 - 2 * norm) / 3, (5 - norm) / 3]
    first = (norm + gap[0] - 3) ** 2 + gap[1] ** 2
    second = gap[0] ** 2 + (norm + gap[1] - 5) ** 2
    assert text_error(rows, features, labels) == pytest.approx(((first + second) / 2) ** 0.5, rel=1e-6)
