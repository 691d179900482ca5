"""Against which rows a training step is taken: the classifier's own, or the names put into a random template."""

from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from convs.clip import ClipBackbone
from convs.model import Model
from data.sessions import ClassOrder

Rows = Mapping[str, Tensor]  # level → [C, D]


def known_names(model: Model, order: ClassOrder) -> dict[str, tuple[str, ...]]:
    """The names behind the classifier's rows, level by level."""
    return {level: getattr(order, level)[: len(rows)] for level, rows in model.rows().items()}


@torch.no_grad()
def ensemble_rows(model: Model, order: ClassOrder) -> dict[str, Tensor]:
    """The rows that the text tower gives now, averaged over all templates.

    Raises:
        TypeError: the backbone has no text tower.
    """
    if not isinstance(model.backbone, ClipBackbone):
        raise TypeError(f"{type(model.backbone).__name__} has no text tower")
    return {level: model.known_rows(level, names) for level, names in known_names(model, order).items()}


def reword(model: Model, order: ClassOrder, labels: Mapping[str, Collection[int]]) -> None:
    """Overwrite rows with what the text tower says of their names now.

    Args:
        model: over a CLIP.
        order: names the classes.
        labels: level → whose rows.
    """
    for level, rows in ensemble_rows(model, order).items():
        model.head(level).replace({label: rows[label] for label in labels[level]})


class Wording:
    """All known names, worded by one random template a step.

    Args:
        model: over a CLIP.
        order: names the classes.
        text_moves: whether the text tower is being trained; if not, every wording is encoded once.
        remember: whether to keep what the tower says at the start although it moves.

    Attributes:
        originals: template by template, the rows at the start, level → [C, D]; None where they were not to be kept.

    Source: the training of Tan & Gong, Knowledge-Tracing Unlearning, 2025, section 4.
    """

    def __init__(self, model: Model, order: ClassOrder, text_moves: bool, remember: bool = False):
        self.model, self.names, self.text_moves = model, known_names(model, order), text_moves
        self.originals = self._everything() if remember or not text_moves else None

    def draw(self) -> int:
        """The number of a template."""
        return int(torch.randint(len(self.model.templates), ()))

    def rows(self, template: int) -> Rows:
        """Level → [C, D], of unit length."""
        return self._encoded(self.model.templates[template]) if self.text_moves else self.originals[template]

    @torch.no_grad()
    def _everything(self) -> list[Rows]:
        return [self._encoded(template) for template in self.model.templates]

    def _encoded(self, template: str) -> Rows:
        texts = [template.replace("{}", name) for names in self.names.values() for name in names]
        found = F.normalize(self.model.backbone.encode_text(texts), dim=-1)
        return dict(zip(self.names, found.split([len(names) for names in self.names.values()]), strict=True))
