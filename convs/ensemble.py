"""Several image towers as one, and copies of a tower to make them of."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from convs.adapter import inject_adapters
from convs.backbone import Backbone


class Ensemble(Backbone):
    """A feature is the features of all towers, one after the other; a text tower has no part in that.

    Args:
        towers: one at least, that look at images the same way.
    """

    def __init__(self, towers: Iterable[Backbone]):
        super().__init__()
        self.net = nn.ModuleList(towers)
        self.preprocess, self.half = self.net[0].preprocess, self.net[0].half

    @property
    def dim(self) -> int:
        """The width of all features together."""
        return sum(tower.dim for tower in self.net)

    @property
    def scale(self) -> Tensor | None:
        """That of the first tower."""
        return self.net[0].scale

    @property
    def blocks(self) -> list[nn.Module]:
        """The transformer blocks of all towers, first to last."""
        return [block for tower in self.net for block in tower.blocks]

    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → [B, dim]."""
        return torch.cat([tower(images) for tower in self.net], 1)


class Succession(Ensemble):
    """Several towers of which the newest is asked; the others can be asked beside it."""

    @property
    def dim(self) -> int:
        """The width of one tower's features."""
        return self.net[0].dim

    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → features of the last tower, [B, dim]."""
        return self.net[-1](images)

    def views(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → features of all towers, [B, towers, dim]."""
        return torch.stack([tower(images) for tower in self.net], 1)


def copied(backbone: Backbone) -> Backbone:
    """The same tower with weights of its own."""
    return _copy(backbone, ())


def twin(backbone: Backbone) -> Backbone:
    """The same tower over the same weights, in which something can be put that the first does not have."""
    return _copy(backbone, (*backbone.parameters(), *backbone.buffers()))


def adapted_twin(
    backbone: Backbone, bottleneck: int, scale: float, dropout: float
) -> tuple[Backbone, list[nn.Parameter]]:
    """A twin with adapters, and their parameters; see `inject_adapters`."""
    tower = twin(backbone)
    groups = inject_adapters(tower.tuned, bottleneck, scale, dropout)
    return tower.eval(), [parameter for group in groups for parameter in group]


def _copy(backbone: Backbone, shared: Iterable[object]) -> Backbone:
    """A copy that has some of its parts in common with the original, among them a tokenizer, which never changes."""
    kept = (*shared, getattr(backbone, "tokenizer", None))
    new = copy.deepcopy(backbone, {id(part): part for part in kept})
    if backbone._compiled_call_impl is not None:  # which no copy takes along
        new.compile()
    return new
