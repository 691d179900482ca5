"""Function distance regularisation: wrong names for what goes, the logits of the model before for what stays."""

import torch
from torch import Tensor

from data.sessions import Session
from models.replay import TaughtLearner
from utils.loop import Batch


class FDRLearner(TaughtLearner):
    """CE(forget, wrong names) + λ·mean_b‖z_b − z_b of the teacher‖₂ on the logits of retained images.

    The norm is not squared; where student and teacher agree, as at the first step, torch gives it the gradient 0.

    Args:
        context, options: see `Learner`.
        reg_weight: λ; None: 50.

    Source: Benjamin et al., Measuring and Regularizing Networks in Function Space, ICLR 2019, as in GS-LoRA, CVPR 2024,
    section 5.
    """

    def __init__(self, *context, reg_weight: float | None = None, **options):
        super().__init__(*context, **options)
        self.reg_weight = 50.0 if reg_weight is None else reg_weight

    def loss(self, session: Session, batches: dict[str, Batch]) -> dict[str, Tensor]:
        """The weighted terms of a step."""
        outputs, retain = self.outputs(batches), batches["retain"]
        moved = [outputs["retain"].logits[level] - retain[f"teacher.{level}"] for level in self.levels(session)]
        distance = sum(torch.linalg.vector_norm(each, dim=1).mean() for each in moved)
        return {
            "forget": self.ce(session, outputs["forget"], batches["forget"], "wrong."),
            "distance": self.reg_weight * distance,
        }
