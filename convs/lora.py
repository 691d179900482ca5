"""Low-rank adaptation of the linear layers of any transformer block."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convs.backbone import Backbone
from utils.errors import WeightsError

# the two layers of a block's MLP, by the names the libraries give them
FFN = (("fc1", "fc2"), ("c_fc", "c_proj"))  # timm, open_clip


class LoRA(nn.Module):
    """A low-rank matrix beside a linear layer: `y ← y + alpha/rank·B·A·x`.

    It attaches to the layer by a hook, so that the layer keeps its class, its parameter names and its forward.

    Args:
        dim_in: width of the layer's input.
        dim_out: width of its output.
        rank: rows of A and columns of B.
        alpha: what the product is scaled with, times the rank.

    Attributes:
        A: [rank, dim_in], Kaiming-uniform(√5).
        B: [dim_out, rank], zero: a fresh LoRA changes nothing.

    Raises:
        ValueError: the rank is below 1.

    Source: Hu et al., LoRA, ICLR 2022, section 4.1.
    """

    def __init__(self, dim_in: int, dim_out: int, rank: int = 8, alpha: float = 1.0):
        super().__init__()
        if rank < 1:
            raise ValueError(f"the rank of a LoRA must be at least 1, got {rank}")
        self.A = nn.Parameter(torch.empty(rank, dim_in))
        self.B = nn.Parameter(torch.empty(dim_out, rank))
        self.scale = alpha / rank
        self.reset()

    def reset(self) -> None:
        """Begin anew: A random, B zero."""
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        nn.init.zeros_(self.B)

    def forward(self, x: Tensor) -> Tensor:
        """[…, dim_in] → […, dim_out], to be added to the layer's output."""
        return self.scale * F.linear(F.linear(x, self.A), self.B)

    def weight(self) -> Tensor:
        """What it adds to the layer's weight, [dim_out, dim_in]."""
        return self.scale * self.B @ self.A

    def attach(self, layer: nn.Linear) -> None:
        """Become part of a layer, as its sub-module `lora`, in the mode the layer is in."""
        layer.register_forward_hook(self._add)
        layer.lora = self.train(layer.training)

    def _add(self, layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + self(inputs[0])


def inject_lora(backbone: Backbone, rank: int = 8, alpha: float = 1.0) -> list[list[nn.Parameter]]:
    """Give the MLP of every block of a backbone its LoRAs.

    Returns:
        The LoRAs' parameters, one group a block, first block first; in a group A and B of the MLP's first layer, then
        of its second.

    Raises:
        WeightsError: a block's MLP is not two linear layers; nothing has been attached then.

    Source: Zhao et al., GS-LoRA, CVPR 2024, section 4.1: both layers of the feed-forward network, rank 8, alpha 1.
    """
    pairs = [ffn_layers(block) for block in backbone.blocks]
    return [[parameter for layer in layers for parameter in _added(layer, rank, alpha)] for layers in pairs]


@torch.no_grad()
def merge_lora(backbone: Backbone) -> None:
    """Add every LoRA to the weight of its layer and begin it anew: the backbone computes what it did before."""
    for layer in (layer for block in backbone.blocks for layer in block.modules()):
        if isinstance(getattr(layer, "lora", None), LoRA):
            layer.weight.add_(layer.lora.weight())
            layer.lora.reset()


def ffn_layers(block: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    """The two linear layers of a block's MLP, in the order of its forward.

    Raises:
        WeightsError: there are no such two.
    """
    mlp = getattr(block, "mlp", None)
    for first, second in FFN:
        layers = getattr(mlp, first, None), getattr(mlp, second, None)
        if all(isinstance(layer, nn.Linear) for layer in layers):
            return layers
    raise WeightsError(
        f"the MLP of the backbone's blocks ({type(block).__name__}) is not two linear layers; LoRA needs a plain ViT"
    )


def _added(layer: nn.Linear, rank: int, alpha: float) -> list[nn.Parameter]:
    lora = LoRA(layer.in_features, layer.out_features, rank, alpha).to(layer.weight)
    lora.attach(layer)
    return [lora.A, lora.B]
