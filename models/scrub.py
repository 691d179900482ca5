"""SCRUB: a student that turns from its teacher on what goes, and back to it on what stays."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from data.sessions import Session
from models.replay import ReplayLearner
from utils.loop import Batch, Phase
from utils.streams import ChainedStream, JoinedStream

ROUNDS = 5  # passes over both, and then over the retained images alone
TEMPERATURE, KEEP_WEIGHT = 2.0, 0.001
SMOOTHING = 0.9
MARK = "is.forget"  # a field of the exemplars alone: by its presence, for its value the host would wait for the device


class SCRUBLearner(ReplayLearner):
    """Forget: −KD; retain: γ·CE + 0.001·KD. KD is the student's divergence from the teacher at T = 2, times T².

    An epoch is a super-epoch: five times the exemplars and then the retained images, then five times the latter. In the
    log each term is the mean over all of its steps, 0 where it does not apply. No wrong names are taught.

    Args:
        context, options: see `Learner`.
        retain_weight: γ; None: 0.99.

    Source: Kurmanji et al., Towards Unbounded Machine Unlearning, NeurIPS 2023, algorithm 1; T² as in its code, order
    and weights as in GS-LoRA's, CVPR 2024, section 5.
    """

    def __init__(self, *context, retain_weight: float | None = None, **options):
        super().__init__(*context, **options)
        self.retain_weight = 0.99 if retain_weight is None else retain_weight

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase of super-epochs."""
        forget, retain = (self.taught(session, name) for name in ("forget", "retain"))
        items = session.stream("plain").items
        forget = JoinedStream(forget, items, {MARK: torch.ones(len(items))})
        passes = ChainedStream([forget, retain] * ROUNDS + [retain] * ROUNDS)
        yield Phase("forget", self.model, {"passes": passes}, partial(self.loss, session), self.part, self.forget)

    def loss(self, session: Session, batches: dict[str, Batch]) -> dict[str, Tensor]:
        """The weighted terms of a step."""
        batch, output = batches["passes"], self.outputs(batches)["passes"]
        apart = TEMPERATURE**2 * self.kd(session, output, batch, TEMPERATURE)
        zero = apart.new_zeros(())
        if MARK in batch:
            return {"forget": -apart, "keep": zero, "retain": zero}
        retain = self.retain_weight * self.ce(session, output, batch)
        return {"forget": zero, "keep": KEEP_WEIGHT * apart, "retain": retain}


class SCRUBSLearner(SCRUBLearner):
    """SCRUB-S: SCRUB + p·Σ‖θ − θ̄‖_F over the tensors, θ̄ ← 0.9·θ̄ + 0.1·θ after every super-epoch.

    θ̄ starts as the weights before the session. The norms are not squared; where θ = θ̄ torch gives them the gradient 0.

    Args:
        context, options: see `SCRUBLearner`.
        reg_weight: p; None: 0.05.

    Source: the smoothed variant of GS-LoRA, CVPR 2024, section 5.
    """

    def __init__(self, *context, reg_weight: float | None = None, **options):
        super().__init__(*context, **options)
        self.reg_weight = 0.05 if reg_weight is None else reg_weight

    def phases(self, session: Session) -> Iterator[Phase]:
        """SCRUB's phase, held to the average."""
        phase = next(super().phases(session))
        means = [parameter.detach().clone() for parameter in self.part]

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            distances = [torch.linalg.vector_norm(p - mean) for p, mean in zip(self.part, means, strict=True)]
            return phase.loss(batches) | {"smooth": self.reg_weight * torch.stack(distances).sum()}

        @torch.no_grad()
        def follow(epoch: int) -> None:
            for parameter, mean in zip(self.part, means, strict=True):
                mean.lerp_(parameter, 1 - SMOOTHING)

        yield replace(phase, loss=loss, after_epoch=follow, tracked=means)
