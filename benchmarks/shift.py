"""The semantic shift of stored prototypes."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.testing import assert_close

from benchmarks.item import Item, Target
from utils.gaussians import FLOOR, shifted_means

SIZES = {"full": (80, 2000, 768), "modest": (80, 2000, 768), "small": (3, 7, 5)}
SIGMA = 4.0


def items(size: str, device: torch.device) -> Iterator[Item]:
    """One item."""
    classes, images, width = SIZES[size]
    generator = torch.Generator(device).manual_seed(0)

    def normal(rows: int, spread: float) -> Tensor:
        """Rows of norm `spread`, about."""
        return spread / width**0.5 * torch.randn(rows, width, generator=generator, device=device)

    means = normal(classes, 3 * SIGMA)
    before = means[torch.arange(images, device=device) % classes] + normal(images, SIGMA)
    after = before + normal(images, 1.0)
    yield Item(
        "semantic shift",
        f"C {classes}, N {images}, D {width}",
        lambda: shifted_means(means, before, after, SIGMA),
        lambda: tiled_shift(means, before, after, SIGMA),
        lambda: assert_close(
            shifted_means(means, before, after, SIGMA), tiled_shift(means, before, after, SIGMA), rtol=1e-4, atol=1e-5
        ),
        Target(faster=40, smaller=20),
    )


def tiled_shift(means: Tensor, before: Tensor, after: Tensor, sigma: float) -> Tensor:
    """The rule of SSIAT with every array brought to [C, N, D] first.

    Args:
        means: [C, D].
        before: [N, D].
        after: [N, D].
        sigma: width of the kernel.

    Returns:
        [C, D].
    """
    (classes, width), images = means.shape, len(before)
    features = before[None].tile(classes, 1, 1)  # [C, N, D]
    prototypes = means[:, None].tile(1, images, 1)
    weights = torch.exp(-((features - prototypes) ** 2).sum(2) / (2 * sigma**2)) + FLOOR  # [C, N]
    shares = weights / weights.sum(1)[:, None].tile(1, images)
    return means + (shares[:, :, None].tile(1, 1, width) * (after - before)[None].tile(classes, 1, 1)).sum(1)
