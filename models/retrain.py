"""Joint retraining: everything seen so far, from the pre-trained weights."""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from convs.model import Model
from data.sessions import Session
from models.learner import Learner
from utils.loop import Batch, Phase, Recipe


class RetrainLearner(Learner):
    """Every session starts from the pre-trained weights and sees all images so far: the upper bound.

    Args:
        model, first, later: see `Learner`; every session uses `first`, for every session starts anew.

    Source: the joint upper bound of the class-incremental literature (e.g. SSIAT, CVPR 2024, table 1).
    """

    sees_past = True

    def __init__(self, model: Model, first: Recipe, later: Recipe):
        super().__init__(model, first, later)
        self.pretrained = {name: value.detach().clone() for name, value in model.backbone.state_dict().items()}

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase on the images of all classes seen, over a fresh model."""
        self.model.backbone.load_state_dict(self.pretrained)
        self.model.reset_heads()
        self.model.grow("fine", [session.order.fine[label] for label in session.seen])

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            return {
                "ce": F.cross_entropy(self.model(batches["joint"]["image"]).logits["fine"], batches["joint"]["fine"])
            }

        streams = {"joint": session.stream("joint")}
        yield Phase("retrain", self.model, streams, loss, self.model.parameters(), self.first)
