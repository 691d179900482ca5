"""Task-vector negation: learn the concepts even better, then step the other way."""

from collections.abc import Iterator

import torch

from data.sessions import Session
from models.unlearn_losses import Negation, UnlearnLoss
from models.unlearner import Unlearner
from utils.loop import Phase


class TaskVectorLearner(Unlearner):
    """θ = θ0 − scale·(θ_ft − θ0), where θ_ft was fine-tuned on the exemplars.

    Args:
        context: see `Unlearner`.
        negation_scale: how far to step back.
        negation_coarse: weight of the kept level in fine-tuning, see `Negation`.
        options: see `Unlearner`.

    Source: Ilharco et al., Task Arithmetic, ICLR 2023; over two levels as in Tan & Gong, 2025.
    """

    def __init__(self, *context, negation_scale: float = 1.5, negation_coarse: float = 0.05, **options):
        self.scale, self.share = negation_scale, negation_coarse
        super().__init__(*context, **options)

    def build_rule(self, **settings: float | None) -> UnlearnLoss:
        """The loss of the fine-tuning."""
        return Negation(self.share)

    def phases(self, session: Session) -> Iterator[Phase]:
        """Fine-tune, then negate."""
        start = [parameter.detach().clone() for parameter in self.part]
        yield self._forget(session, self._exemplars(session))
        with torch.no_grad():
            for parameter, before in zip(self.part, start, strict=True):
                parameter.copy_(before - self.scale * (parameter - before))
        self._reword(session)
