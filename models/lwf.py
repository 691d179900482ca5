"""LwF: new names for what comes, wrong ones for what goes, the answers of the model before for what stays."""

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from data.sessions import Session
from models.learner import new_classes_ce, open_rows
from models.replay import TaughtLearner
from models.teacher import Teacher, old_classes_kd
from utils.loop import Batch, Phase

TEMPERATURE = 2.0


class LwFLearner(TaughtLearner):
    """CE(forget, wrong names) + λ·KD(student ‖ teacher, retain) + λ_r·CE(retain).

    To learn: CE(new images, new columns) + λ·KD(student ‖ teacher, new images, old columns), with no image of the past.
    The rows of old classes stay; in the paper they move, too.

    The KD has temperature 2 and no factor T²: the paper has none, and λ refers to that. It is a KL where the paper has
    a cross-entropy, which differs by the teacher's entropy and so not in its gradient.

    Args:
        context, options: see `Learner`.
        reg_weight: λ; None: 0.5 to forget, 1 to learn.
        retain_weight: λ_r; None: 10.

    Source: Li & Hoiem, Learning without Forgetting, TPAMI 2018, section 3; to forget as in GS-LoRA, CVPR 2024, section
    5, in whose code the KD is zero whatever the logits. PyCIL learns with λ = 3.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"learn", "forget"})

    def __init__(self, *context, reg_weight: float | None = None, retain_weight: float | None = None, **options):
        super().__init__(*context, **options)
        self.reg_weight = 0.5 if reg_weight is None else reg_weight
        self.learn_weight = 1.0 if reg_weight is None else reg_weight
        self.retain_weight = 10.0 if retain_weight is None else retain_weight

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase of the request's kind."""
        return self._learn(session) if session.kind == "learn" else super().phases(session)

    def _learn(self, session: Session) -> Iterator[Phase]:
        teacher = Teacher(self.model) if len(self.model.head("fine")) else None
        rows, held = open_rows(self.model, session)

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["train"]
            logits = self.model(batch["image"]).logits["fine"]
            ce = {"ce": new_classes_ce(logits, batch["fine"], session)}
            if teacher is None:
                return ce
            kd = old_classes_kd(logits, teacher(batch["image"]), session, TEMPERATURE)
            return ce | {"distill": self.learn_weight * kd}

        streams = {"train": session.stream("train")}
        yield Phase("learn", self.model, streams, loss, [*self.part, *rows], self.recipe(session), None, held)

    def loss(self, session: Session, batches: dict[str, Batch]) -> dict[str, Tensor]:
        """The weighted terms of a step."""
        outputs, retain = self.outputs(batches), batches["retain"]
        return {
            "forget": self.ce(session, outputs["forget"], batches["forget"], "wrong."),
            "distill": self.reg_weight * self.kd(session, outputs["retain"], retain, TEMPERATURE),
            "retain": self.retain_weight * self.ce(session, outputs["retain"], retain),
        }
