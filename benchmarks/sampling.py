"""Features drawn from classes that are remembered as Gaussians, for the alignment of the classifier."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.testing import assert_close

from benchmarks.item import Item, Target
from utils.gaussians import ClassStatistics, class_statistics, draw, room_for

# classes, features drawn of each, epochs, images a class was estimated from, width
SIZES = {"full": (200, 256, 5, 50, 768), "modest": (20, 256, 5, 50, 768), "small": (2, 3, 2, 4, 5)}
RIDGE = 1e-3
SAMPLES = 20_000  # of one class, for the check


def items(size: str, device: torch.device) -> Iterator[Item]:
    """Beside a Cholesky in every epoch, as published, and beside one that is kept."""
    classes, count, epochs, images, width = SIZES[size]
    generator = torch.Generator().manual_seed(0)
    seen = [torch.randn(images, width, generator=generator) + 1 for _ in range(classes)]
    remembered = [class_statistics(each, RIDGE) for each in seen]
    stored = [(each.mean(0), torch.cov(each.T) + RIDGE * torch.eye(width)) for each in seen]

    def toolbox() -> None:
        room = room_for(remembered, count)
        for _ in range(epochs):
            draw(remembered, [1.0] * classes, count, generator, out=room)

    share = _floats(remembered[0].mean, remembered[0].factor) / _floats(*stored[0])
    text = f"{classes} classes × {count} × {epochs} epochs, n {images}, D {width}; stored: {share:.3f} of the plain"
    rows = {"every epoch": (drawn_anew, 60), "kept": (drawn_from_kept, 4)}
    for name, (plain, faster) in rows.items():
        yield Item(
            f"alignment sampling, beside a Cholesky {name}",
            text,
            toolbox,
            lambda plain=plain: plain(stored, count, epochs),
            lambda plain=plain: check(remembered, stored, plain),
            Target(faster=faster),
        )


def drawn_anew(stored: Sequence[tuple[Tensor, Tensor]], count: int, epochs: int) -> list[Tensor]:
    """Every epoch makes the distribution of every class anew, validated, from mean and covariance; the last epoch's."""
    for _ in range(epochs):
        drawn = [MultivariateNormal(mean, covariance).sample((count,)) for mean, covariance in stored]
    return drawn


def drawn_from_kept(stored: Sequence[tuple[Tensor, Tensor]], count: int, epochs: int) -> list[Tensor]:
    """A factor of every covariance is made once, and a sample is a product with it; the last epoch's features."""
    kept = [(mean, torch.linalg.cholesky(covariance)) for mean, covariance in stored]
    for _ in range(epochs):
        drawn = [mean + torch.randn(count, len(mean)) @ factor.T for mean, factor in kept]
    return drawn


def check(
    remembered: Sequence[ClassStatistics],
    stored: Sequence[tuple[Tensor, Tensor]],
    plain: Callable[[Sequence[tuple[Tensor, Tensor]], int, int], list[Tensor]],
) -> None:
    """Means and covariances are equal to 1e-5; what both draw of one class has them, within five standard errors."""
    for item, (mean, covariance) in zip(remembered, stored, strict=True):
        assert_close(item.mean, mean, rtol=1e-5, atol=1e-5)
        assert_close(item.covariance(), covariance, rtol=0, atol=1e-5 * covariance.abs().max().item())
    ours = draw(remembered[:1], [1.0], SAMPLES, torch.Generator().manual_seed(1))
    mean, covariance = stored[0]
    variances = covariance.diagonal()
    for drawn in (ours, plain(stored[:1], SAMPLES, 1)[0]):
        assert ((drawn.mean(0) - mean).abs() < 5 * (variances / SAMPLES).sqrt()).all()
        error = ((variances[:, None] * variances + covariance**2) / SAMPLES).sqrt()  # of a Gaussian's covariance
        assert ((torch.cov(drawn.T) - covariance).abs() < 6 * error).all()


def _floats(*tensors: Tensor) -> int:
    return sum(value.numel() for value in tensors)
