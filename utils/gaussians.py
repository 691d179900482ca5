"""Classes as Gaussians in feature space: their statistics, how they drift, and features drawn from them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

FLOOR = 1e-5  # keeps a prototype far from all images moving with their average drift, as SSIAT defines it


@dataclass(frozen=True)
class ClassStatistics:
    """A class as N(mean, factorᵀ·factor + ridge·I).

    The factor comes from a singular value decomposition of the centred features: it holds the exact covariance of n
    samples in n − 1 directions. The samples can be had back from it only up to an unknown rotation among them (for
    n = 2 up to their order: mean ± factor/√2 are the two).

    Attributes:
        mean: [D].
        factor: [r, D] with r = min(n − 1, D).
        ridge: added to the diagonal of the covariance.
        count: how many features the class was estimated from.
        parent: the coarse label.
        session: the session that learned the class.
    """

    mean: Tensor
    factor: Tensor
    ridge: float
    count: int
    parent: int
    session: int

    def covariance(self) -> Tensor:
        """The full covariance, [D, D]; for tests and small D."""
        return self.factor.T @ self.factor + self.ridge * torch.eye(len(self.mean)).to(self.mean)

    def moved(self, mean: Tensor) -> "ClassStatistics":
        """The same class around another mean."""
        return replace(self, mean=mean)

    def tensors(self) -> dict[str, Tensor]:
        """The statistics as three tensors, for a checkpoint."""
        numbers = torch.tensor([self.ridge, self.count, self.parent, self.session], dtype=torch.float64)
        return {"mean": self.mean, "factor": self.factor, "numbers": numbers}

    @classmethod
    def from_tensors(cls, stored: dict[str, Tensor]) -> "ClassStatistics":
        """The inverse of `tensors`."""
        ridge, *whole = stored["numbers"].tolist()
        return cls(stored["mean"], stored["factor"], ridge, *map(int, whole))


def class_statistics(features: Tensor, ridge: float, parent: int = 0, session: int = 0) -> ClassStatistics:
    """Mean and covariance factor of one class.

    Args:
        features: raw features of the class, [n, D], n ≥ 2.
        ridge: added to the diagonal of the covariance (SSIAT: 1e-3).
        parent: coarse label, kept with the statistics.
        session: learn session, kept with the statistics.

    Raises:
        ValueError: fewer than two features.
    """
    if len(features) < 2:
        raise ValueError(f"a covariance needs at least 2 features, got {len(features)}")
    mean = features.mean(0)
    return ClassStatistics(mean, _factor(features - mean, len(features) - 1), ridge, len(features), parent, session)


def cross_modal_statistics(
    rows: Tensor,
    features: Tensor,
    labels: Tensor,
    wanted: Iterable[int],
    ridge: float,
    *,
    parents: Sequence[int] | None = None,
    session: int = 0,
) -> dict[int, ClassStatistics]:
    """Statistics of classes of which there is no image, from their texts and images of other classes.

    With r the mean norm of the features, a class stands at `r·row + gap`, gap = mean_i(feature_i − r·row of its own
    class): the offset between the modalities, at equal norms. All classes share the covariance of the features around
    their own class means (see `pooled_factor`).

    Args:
        rows: text features of unit norm, of all classes, [C, D].
        features: raw image features of some classes, [N, D], N ≥ 1.
        labels: their classes as positions in `rows`, [N].
        wanted: the classes to make statistics for, as positions in `rows`.
        ridge: added to the covariance's diagonal.
        parents: the coarse label of every row, kept with the statistics; None: 0 for all.
        session: kept with the statistics.

    Returns:
        position → statistics, in the order of `wanted`; `count` is N.

    Raises:
        ValueError: there are no features.

    Source: ours; the gap is that of Liang et al., Mind the Gap, NeurIPS 2022, section 2.
    """
    factor = pooled_factor(features, labels)
    norm = features.norm(dim=1).mean()
    gap = (features - norm * rows[labels]).mean(0)
    return {
        place: ClassStatistics(
            norm * rows[place] + gap, factor, ridge, len(features), parents[place] if parents else 0, session
        )
        for place in wanted
    }


def text_error(rows: Tensor, features: Tensor, labels: Tensor) -> float:
    """How far classes stand from where `cross_modal_statistics` would put them, judged by classes of which there are
    images: the root of the mean squared distance.

    Args:
        rows: text features of unit norm, of all classes, [C, D].
        features: raw image features of some classes, [N, D], N ≥ 1.
        labels: their classes as positions in `rows`, [N].

    Source: ours.
    """
    made = cross_modal_statistics(rows, features, labels, labels.unique().tolist(), 0.0)
    errors = [item.mean - features[labels == label].mean(0) for label, item in made.items()]
    return torch.stack(errors).square().sum(1).mean().sqrt().item()


def pooled_factor(features: Tensor, labels: Tensor) -> Tensor:
    """The factor of the covariance that several classes share: that of the features around their own class means.

    Args:
        features: raw features, [N, D], N ≥ 1.
        labels: [N], of K classes.

    Returns:
        [r, D] with r = min(N − K, D) and factorᵀ·factor = Σ (f − μ_y)(f − μ_y)ᵀ / (N − K); no rows where every class
        has one feature only.

    Raises:
        ValueError: there are no features.
    """
    if not len(features):
        raise ValueError("a covariance needs features, got none")
    return _factor(features - _own_means(features, labels), len(features) - len(labels.unique()))


def _factor(centred: Tensor, degrees: int) -> Tensor:
    """Principal directions [min(degrees, D), D] with factorᵀ·factor = centredᵀ·centred / degrees.

    Args:
        centred: [n, D], of rank `degrees` at most: centring takes a direction away for every class mean.
        degrees: of freedom.
    """
    rank = min(degrees, centred.shape[1])
    if not rank:
        return centred[:0]
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    return singular[:rank, None] * directions[:rank] / degrees**0.5


def shifted_means(
    means: Tensor, before: Tensor, after: Tensor, sigma: float, floor: float = FLOOR, shrink: float = 0.0
) -> Tensor:
    """Move stored class means along with the drift of the images seen now.

    Args:
        means: [C, D].
        before: raw features of the images before training, [N, D].
        after: raw features of the same images in the same order after it, [N, D].
        sigma: width of the kernel, in units of feature distance.
        floor: added to every kernel weight; SSIAT's lets a mean far from all images move with their average drift.
        shrink: τ, added to the sum of the weights. With τ = 1 and no floor a mean far from all images stays where it
            is, to the bit: what exemplars of a forgotten class suffer must not leak to distant classes.

    Returns:
        [C, D]: `means + Σ_i k_i (after_i − before_i) / (Σ_i k_i + τ)`, `k_i = exp(−‖before_i − mean‖²/2σ²) + floor`.

    Raises:
        ValueError: neither floor nor shrink is above 0, so that a far mean would be 0/0.

    Source: SSIAT, CVPR 2024, section 3; `shrink` ours. The published code pairs two differently shuffled and
    augmented passes; here both passes see the same un-augmented images in the same order.
    """
    if min(floor, shrink) < 0 or floor + shrink == 0:
        raise ValueError(f"floor and shrink must be ≥ 0 and one of them above 0, got {floor} and {shrink}")
    distance = torch.cdist(means.double(), before.double())  # [C, N]
    weight = torch.exp(-(distance**2) / (2 * sigma**2)) + floor
    drift = weight @ (after - before).double() / (weight.sum(1, keepdim=True) + shrink)
    return means + drift.to(means.dtype)


def draw(
    classes: Sequence[ClassStatistics],
    scales: Sequence[float],
    count: int,
    generator: torch.Generator,
    out: Tensor | None = None,
) -> Tensor:
    """Features drawn from every class.

    Args:
        classes: C classes.
        scales: factor λ_c on every class's mean.
        count: features a class.
        generator: the source of randomness, on the CPU.
        out: where they go, contiguous [C · count, D]; None: into fresh memory, which the system has to find first.

    Returns:
        [C · count, D], class by class, each from N(λ_c·mean, covariance).
    """
    drawn = room_for(classes, count) if out is None else out
    for item, scale, rows in zip(classes, scales, drawn.view(len(classes), count, -1), strict=True):
        _draw_into(rows, item, scale, generator)
    return drawn


def room_for(classes: Sequence[ClassStatistics], count: int) -> Tensor:
    """Memory for so many features of every class, [C · count, D], with anything in it."""
    mean = classes[0].mean
    return mean.new_empty(len(classes) * count, len(mean))


def _draw_into(rows: Tensor, item: ClassStatistics, scale: float, generator: torch.Generator) -> None:
    """Fill [count, D] in place: class by class it stays in the processor's cache."""
    along = torch.randn(len(rows), len(item.factor), generator=generator, dtype=item.factor.dtype)
    rows.normal_(0, item.ridge**0.5, generator=generator).addmm_(along, item.factor).add_(scale * item.mean)


def median_spread(features: Tensor, labels: Tensor) -> float:
    """The median distance of a feature to the mean of its own class: a width for backbones other than ViT-B/16.

    Of an even number of distances it is the lower of the two in the middle.

    Args:
        features: [N, D].
        labels: [N].
    """
    return (features - _own_means(features, labels)).norm(dim=1).median().item()


def class_means(features: Tensor, labels: Tensor, classes: Iterable[int]) -> Tensor:
    """Features [N, …] and their labels [N] → the mean of every class, [C, …]."""
    return torch.stack([features[labels == label].mean(0) for label in classes])


def mean_variance(features: Tensor, labels: Tensor) -> float:
    """The variance of a feature around its class mean, averaged over dimensions."""
    return (features - _own_means(features, labels)).square().mean().item()


def _own_means(features: Tensor, labels: Tensor) -> Tensor:
    means = torch.empty_like(features)
    for label in labels.unique():
        means[labels == label] = features[labels == label].mean(0)
    return means
