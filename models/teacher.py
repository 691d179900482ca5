"""The model before a session, as a teacher of what it knew."""

import copy

import torch
from torch import Tensor

from convs.model import Model, freeze
from data.sessions import Session
from utils.losses import distillation


class Teacher:
    """A frozen copy of a model.

    Args:
        model: stays as it is.
    """

    def __init__(self, model: Model):
        tokenizer = getattr(model.backbone, "tokenizer", None)  # it never changes, and copying it is slow
        self.model = copy.deepcopy(model, {id(tokenizer): tokenizer}).eval()
        freeze(self.model)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → its fine logits, [B, C] of the classes it knew."""
        return self.model(images).logits["fine"]


def old_classes_kd(logits: Tensor, taught: Tensor, session: Session, temperature: float) -> Tensor:
    """Divergence from the teacher over the columns of the classes that the session does not teach.

    Args:
        logits: of the model in training, [B, C].
        taught: of the teacher, [B, C' ≤ C].
        session: to learn.
        temperature: see `distillation`.
    """
    old = [label for label in range(taught.shape[1]) if label not in session.classes]
    return distillation(logits[:, old], taught[:, old], temperature)
