"""What every image tower looks like from outside."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from utils.errors import WeightsError


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the tower's input.

    Attributes:
        size: height and width in pixels.
        mean, std: per channel, of values in 0…1.
        crop_pct: the centre crop's share of the resized short side, for test images.
        interpolation: `bicubic` or `bilinear`.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float = 0.875
    interpolation: str = "bicubic"


@dataclass(frozen=True)
class TrainedHead:
    """Classifier rows that came with the weights: row i of `rows` [n, D] belongs to `names[i]`."""

    names: tuple[str, ...]
    rows: Tensor


class Backbone(nn.Module, ABC):
    """An image tower: `[B, 3, size, size]` → raw features `[B, dim]`.

    Attributes:
        net: the library's own module; its parameter names stay as they are.
        dim: the width of the features.
        preprocess: the input the weights were made for.
        blocks: the transformer blocks, first to last.
        scale: what cosines are multiplied with to become logits, or None where the caller chooses.
        trained_heads: level → classifier rows that came with the weights.
    """

    net: nn.Module
    dim: int
    preprocess: Preprocess
    scale: Tensor | None = None

    def __init__(self):
        super().__init__()
        self.trained_heads: dict[str, TrainedHead] = {}

    @property
    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, first to last.

        Raises:
            WeightsError: the tower is no transformer.
        """


def mlp_norm(block: nn.Module) -> nn.Module:
    """The norm in front of a block's MLP: its input is what a parallel adapter reads.

    Raises:
        WeightsError: the block is not a pre-norm transformer block of timm or open_clip.
    """
    # timm's post-norm blocks call the norm behind their MLP norm2, too; only their class names tell.
    names = () if "Post" in type(block).__name__ else ("norm2", "ln_2")
    for name in names:
        if isinstance(getattr(block, name, None), nn.Module):
            return getattr(block, name)
    raise WeightsError(
        f"the backbone's blocks ({type(block).__name__}) have no norm before their MLP; adapters need a pre-norm ViT"
    )
