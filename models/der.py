"""Dark experience replay: wrong names for what goes, the embeddings of the model before for what stays."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from data.sessions import Session
from models.replay import TaughtLearner
from utils.loop import Batch, Phase


class DERLearner(TaughtLearner):
    """CE(forget, wrong names) + λ·Σ_b‖e_b − e_b of the teacher‖², e the raw embeddings of retained images.

    The sum runs over the batch, so λ refers to its size. PyCIL's `der` is another method: dynamically expandable
    representation.

    Args:
        context, options: see `Learner`.
        reg_weight: λ; None: 0.01, for `der_pp` 0.005.

    Source: Buzzega et al., Dark Experience for General Continual Learning, NeurIPS 2020, where logits are matched; with
    embeddings as in GS-LoRA, CVPR 2024, section 5.
    """

    usual_weight: ClassVar[float] = 0.01

    def __init__(self, *context, reg_weight: float | None = None, **options):
        super().__init__(*context, **options)
        self.reg_weight = self.usual_weight if reg_weight is None else reg_weight

    def loss(self, session: Session, batches: dict[str, Batch]) -> dict[str, Tensor]:
        """The weighted terms of a step."""
        forget, retain = batches["forget"], batches["retain"]
        outputs = self.outputs({"forget": forget, "retain": retain})
        return {
            "forget": self.ce(session, outputs["forget"], forget, "wrong."),
            "match": self.reg_weight * (outputs["retain"].features - retain["teacher.feature"]).square().sum(),
        }


class DERPlusLearner(DERLearner):
    """DER++: DER + λ'·CE on another batch of retained images than the one whose embeddings are matched.

    Args:
        context: see `Learner`.
        retain_weight: λ'; None: 0.005.
        options: see `DERLearner`.

    Source: as there.
    """

    usual_weight = 0.005

    def __init__(self, *context, retain_weight: float | None = None, **options):
        super().__init__(*context, **options)
        self.retain_weight = 0.005 if retain_weight is None else retain_weight

    def phases(self, session: Session) -> Iterator[Phase]:
        """DER's phase with one stream more."""
        phase = next(super().phases(session))
        yield replace(phase, streams={**phase.streams, "other": session.stream("retain")})

    def loss(self, session: Session, batches: dict[str, Batch]) -> dict[str, Tensor]:
        """The weighted terms of a step."""
        other = batches["other"]
        replayed = self.ce(session, self.model(other["image"]), other)
        return super().loss(session, batches) | {"retain": self.retain_weight * replayed}
