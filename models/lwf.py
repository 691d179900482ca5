"""LwF: wrong names for what goes, the answers of the model before for what stays."""

from torch import Tensor

from data.sessions import Session
from models.replay import TaughtLearner
from utils.loop import Batch

TEMPERATURE = 2.0


class LwFLearner(TaughtLearner):
    """CE(forget, wrong names) + λ·KD(student ‖ teacher, retain) + λ_r·CE(retain).

    The KD has temperature 2 and no factor T²: the paper has none, and λ refers to that. It is a KL where the paper has
    a cross-entropy, which differs by the teacher's entropy and so not in its gradient.

    Args:
        context, options: see `Learner`.
        reg_weight: λ; None: 0.5.
        retain_weight: λ_r; None: 10.

    Source: Li & Hoiem, Learning without Forgetting, TPAMI 2018, section 3, as in GS-LoRA, CVPR 2024, section 5.
    In the code of the latter the KD is zero whatever the logits.
    """

    def __init__(self, *context, reg_weight: float | None = None, retain_weight: float | None = None, **options):
        super().__init__(*context, **options)
        self.reg_weight = 0.5 if reg_weight is None else reg_weight
        self.retain_weight = 10.0 if retain_weight is None else retain_weight

    def loss(self, session: Session, batches: dict[str, Batch]) -> dict[str, Tensor]:
        """The weighted terms of a step."""
        outputs, retain = self.outputs(batches), batches["retain"]
        return {
            "forget": self.ce(session, outputs["forget"], batches["forget"], "wrong."),
            "distill": self.reg_weight * self.kd(session, outputs["retain"], retain, TEMPERATURE),
            "retain": self.retain_weight * self.ce(session, outputs["retain"], retain),
        }
