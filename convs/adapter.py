"""Parallel adapters beside the MLP of any pre-norm transformer block."""

import math
from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from convs.backbone import mlp_norm


class ParallelAdapter(nn.Module):
    """A bottleneck beside a block's MLP: `x ← x + MLP(LN(x)) + a·Up(Dropout(ReLU(Down(x))))`.

    The adapter attaches to a block by two hooks, so that the block keeps its class, its parameter names and its
    forward: one remembers x where it enters the norm before the MLP, one adds the adapter's output to the block's.

    Args:
        dim: width of the block.
        bottleneck: width of the adapter.
        scale: a.
        dropout: between the two layers, while training.

    Source: Chen et al., AdaptFormer, NeurIPS 2022, section 3.2, as used by SSIAT, CVPR 2024, section 3.
    """

    def __init__(self, dim: int, bottleneck: int = 64, scale: float = 0.1, dropout: float = 0.1):
        super().__init__()
        self.down = nn.Linear(dim, bottleneck)
        self.up = nn.Linear(bottleneck, dim)
        self.scale, self.dropout = scale, dropout
        self._input: Tensor | None = None
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """[…, dim] → […, dim], to be added to the residual stream."""
        hidden = F.dropout(F.relu(self.down(x)), self.dropout, self.training)
        return self.scale * self.up(hidden)

    def attach(self, block: nn.Module) -> None:
        """Become part of a block, as its sub-module `adapter`, in the mode the block is in."""
        mlp_norm(block).register_forward_pre_hook(self._remember)
        block.register_forward_hook(self._add)
        block.adapter = self.train(block.training)

    def _remember(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._input = inputs[0]

    def _add(self, block: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        x, self._input = self._input, None
        return output + self(x)


def inject_adapters(
    blocks: Iterable[nn.Module], bottleneck: int = 64, scale: float = 0.1, dropout: float = 0.1
) -> list[list[nn.Parameter]]:
    """Give blocks of a tower their adapters.

    Args:
        blocks: first to last; see `Backbone.tuned` and `ClipBackbone.tuned_text`.
        bottleneck: width of the adapters.
        scale: factor on their output.
        dropout: inside them.

    Returns:
        The adapters' parameters, one group a block, first block first.
    """
    groups = []
    for block in blocks:
        dim = mlp_norm(block).weight.shape[0]
        adapter = ParallelAdapter(dim, bottleneck, scale, dropout).to(mlp_norm(block).weight.device)
        adapter.attach(block)
        groups.append(list(adapter.parameters()))
    return groups
