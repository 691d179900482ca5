"""Adapting a tower to the images of one session."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convs.backbone import Backbone
from convs.heads import cosines
from convs.model import ROW_STD, Model
from data.sessions import Session
from models.learner import remap
from utils.loop import Batch, Phase, Recipe


def adaptation(
    model: Model, tower: Backbone, moving: Iterable[nn.Parameter], session: Session, recipe: Recipe
) -> Phase:
    """Train a tower by the cross-entropy over the session's classes, with fresh cosine rows that nobody keeps.

    Args:
        model: what the tower is a part of; gives the scale of the cosines.
        tower: encodes the images.
        moving: those of its parameters that move.
        session: to learn.
        recipe: how.
    """
    rows = nn.Parameter(torch.empty(len(session.classes), tower.dim, device=model.device))
    nn.init.trunc_normal_(rows, std=ROW_STD)

    def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
        batch = batches["train"]
        logits = model.scale * cosines(tower(batch["image"]), rows)
        return {"ce": F.cross_entropy(logits, remap(batch["fine"], session.classes))}

    return Phase("adapt", model, {"train": session.stream("train")}, loss, [*moving, rows], recipe)
