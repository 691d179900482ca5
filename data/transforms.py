"""From a decoded image to the part of it that a tower looks at, with torchvision.

Its eight bits stay: a tower normalises what it is given on its own device, and a batch is a quarter as large until
then.
"""

from collections.abc import Callable

from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

Transform = Callable[[Tensor], Tensor]


def train_transform(
    size: int,
    interpolation: str,
    crop_scale: tuple[float, float] = (0.05, 1.0),
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
) -> Transform:
    """Random resized crop and, if wanted, a horizontal flip: uint8 [3, H, W] → uint8 [3, size, size]."""
    options = {"interpolation": _mode(interpolation), "antialias": True}
    crop = v2.RandomResizedCrop(size, scale=tuple(crop_scale), ratio=tuple(crop_ratio), **options)
    return v2.Compose([crop, v2.RandomHorizontalFlip()]) if flip else crop


def test_transform(size: int, interpolation: str, crop_pct: float) -> Transform:
    """The short side resized to `size / crop_pct`, then the centre: uint8 [3, H, W] → uint8 [3, size, size]."""
    resize = v2.Resize(round(size / crop_pct), interpolation=_mode(interpolation), antialias=True)
    return v2.Compose([resize, v2.CenterCrop(size)])


def _mode(name: str) -> InterpolationMode:
    return InterpolationMode(name)
