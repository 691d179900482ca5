"""Against which rows a training step is taken: the classifier's own, or the names put into a random template."""

from collections.abc import Callable, Mapping

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


def worded_rows(model: Model, order: ClassOrder, text_moves: bool) -> Callable[[], Rows]:
    """A function that words all names by one random template, anew at every call.

    Args:
        model: over a CLIP.
        order: names the classes.
        text_moves: whether the text tower is being trained; if not, every wording is encoded once.

    Source: the training of Tan & Gong, Knowledge-Tracing Unlearning, 2025, section 4.
    """
    names, templates = known_names(model, order), model.templates
    everything = [name for level in names for name in names[level]]
    sizes = [len(names[level]) for level in names]

    def encode(template: str) -> Tensor:
        texts = [template.replace("{}", name) for name in everything]
        return F.normalize(model.backbone.encode_text(texts), dim=-1)

    cached = None if text_moves else _encoded(encode, templates)

    def rows() -> Rows:
        pick = int(torch.randint(len(templates), ()))
        found = encode(templates[pick]) if cached is None else cached[pick]
        return dict(zip(names, found.split(sizes), strict=True))

    return rows


@torch.no_grad()
def _encoded(encode: Callable[[str], Tensor], templates: tuple[str, ...]) -> Tensor:
    return torch.stack([encode(template) for template in templates])  # [T, C, D]
