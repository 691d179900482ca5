"""A few images of past classes, kept by their numbers."""

from collections.abc import Mapping

import torch
from torch import Tensor

PREFIX = "memory."


class Memory:
    """The numbers of images in the training set, class by class, the most telling first.

    Args:
        size: images in all, divided evenly among the classes.
        per_class: images of each class where `fixed`.
        fixed: whether the memory is counted per class, and grows, or in all.

    Attributes:
        kept: label → numbers, [n].
    """

    def __init__(self, size: int = 0, per_class: int = 0, fixed: bool = False):
        self.size, self.per_class, self.fixed = size, per_class, fixed
        self.kept: dict[int, Tensor] = {}

    def share(self, classes: int) -> int:
        """How many images of each of so many classes it may hold."""
        return self.per_class if self.fixed else self.size // classes

    @property
    def items(self) -> Tensor:
        """All numbers, class by class in the order of the labels, [N]."""
        parts = [self.kept[label] for label in sorted(self.kept)]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.long)

    def keep(self, fresh: Mapping[int, Tensor]) -> None:
        """Take in images of further classes, and let go of old ones, the last first, until every class has its share.

        Args:
            fresh: label → numbers, the most telling first, [n].
        """
        known = self.kept | dict(fresh)
        share = self.share(len(known))
        self.kept = {label: items[:share].clone() for label, items in known.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """The numbers, for a checkpoint."""
        return {f"{PREFIX}{label}": items for label, items in self.kept.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take back what `state_dict` gave; returns what else the state holds."""
        labels = {name: int(name.removeprefix(PREFIX)) for name in state if name.startswith(PREFIX)}
        self.kept = {label: state[name].cpu() for name, label in labels.items()}
        return {name: value for name, value in state.items() if name not in labels}
