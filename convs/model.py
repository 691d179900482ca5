"""The one interface over CLIP and ViT: features, and logits for every level of names."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convs.backbone import Backbone
from convs.clip import ClipBackbone
from convs.heads import CosineHead

LEVELS = ("fine", "coarse")
ROW_STD = 0.02  # spread of a fresh ViT row, SSIAT's


@dataclass(frozen=True)
class Output:
    """What a model says of a batch: raw features [B, D] and logits {level: [B, C_level]}."""

    features: Tensor
    logits: dict[str, Tensor]


class Model(nn.Module):
    """A backbone and one growing cosine classifier per level.

    Args:
        backbone: the image tower.
        scale: logit scale where the backbone brings none.
        templates: how names become texts, where the backbone has a text tower.
    """

    def __init__(self, backbone: Backbone, scale: float = 20.0, templates: tuple[str, ...] = ("{}",)):
        super().__init__()
        self.backbone, self.templates, self._scale = backbone, templates, scale
        self.heads = nn.ModuleDict()
        self.reset_heads()

    @property
    def scale(self) -> Tensor | float:
        """What cosines are multiplied with to become logits."""
        return self._scale if self.backbone.scale is None else self.backbone.scale

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def forward(self, images: Tensor) -> Output:
        """[B, 3, size, size] → Output."""
        return self.classify(self.backbone(images))

    def classify(self, features: Tensor) -> Output:
        """Raw features [B, D] → Output."""
        return Output(features, {level: self.scale * head(features) for level, head in self.heads.items() if len(head)})

    @torch.no_grad()
    def grow(self, level: str, names: Sequence[str]) -> nn.Parameter | None:
        """Append rows for new names: their text features where there is a text tower, else small random rows.

        Returns:
            The new rows, [n, D], or None where `names` is empty.
        """
        return self.head(level).grow(self._initial_rows(names)) if names else None

    def head(self, level: str) -> CosineHead:
        """The classifier of a level; without rows it says nothing in `Output`."""
        return self.heads[level]

    def reset_heads(self) -> None:
        """Drop all rows."""
        self.heads.update({level: CosineHead(self.backbone.dim) for level in LEVELS})

    def _initial_rows(self, names: Sequence[str]) -> Tensor:
        if isinstance(self.backbone, ClipBackbone):
            return self.backbone.name_features(list(names), self.templates)
        return nn.init.trunc_normal_(torch.empty(len(names), self.backbone.dim, device=self.device), std=ROW_STD)

    def trainable_state(self) -> dict[str, Tensor]:
        """Everything that may have changed since the backbone was built: the head rows and what is not frozen."""
        return {name: value.detach() for name, value in self.named_parameters() if value.requires_grad}

    @torch.no_grad()
    def load_trainable_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `trainable_state` gave; the heads grow to the saved size.

        Raises:
            ValueError: the state belongs to another model.
        """
        for name in sorted((name for name in state if name.startswith("heads.")), key=_row_position):
            level, position = _row_position(name)
            if position == len(self.head(level).rows):
                self.head(level).grow(state[name].to(self.device))
        own = dict(self.named_parameters())
        expected = {name for name, value in own.items() if value.requires_grad}
        if expected != set(state):
            raise ValueError(f"the saved state has other parameters: {sorted(expected ^ set(state))[:3]} …")
        for name, value in state.items():
            own[name].copy_(value)


def freeze(module: nn.Module) -> None:
    """No parameter of the module moves any more."""
    module.requires_grad_(False)


def _row_position(name: str) -> tuple[str, int]:
    """`heads.fine.rows.3` → ("fine", 3)."""
    _, level, _, position = name.split(".")
    return level, int(position)
