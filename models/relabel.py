"""Relabeling and SalUn: teach the exemplars wrong names."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from convs.model import LEVELS
from data.sessions import Session
from models.unlearner import Unlearner
from utils.held import Held, top_share
from utils.loop import Batch, Phase, Stream
from utils.passes import gradient_sums


class RelabelingLearner(Unlearner):
    """CE with a wrong name for every exemplar, drawn once for the session."""

    loss = "relabeling"


class SalUnLearner(RelabelingLearner):
    """Relabeling of the weights that matter most to the forgotten classes; all others stay bit for bit.

    Args:
        context: see `Unlearner`.
        salun_share: the share of the tuned weights that may move, those with the largest summed gradient of the CE with
            the true names over the exemplars, each at the level of its own concept, before training.
        options: see `Unlearner`.

    Source: Fan et al., SalUn, ICLR 2024, section 4; over two levels as in Tan & Gong, 2025. There the mask multiplies
    the gradients; weight decay would then still move what it hides.
    """

    def __init__(self, *context, salun_share: float = 0.1, **options):
        super().__init__(*context, **options)
        self.share = salun_share

    def phases(self, session: Session) -> Iterator[Phase]:
        """Find the salient weights, then relabel."""
        stream = self._exemplars(session)
        masks = top_share(self._saliency(session, stream), self.share)
        yield self._forget(session, stream, after_step=Held(zip(self.part, masks, strict=True)))
        self._reword(session)

    def _saliency(self, session: Session, stream: Stream) -> list[Tensor]:
        rows = self._step_rows(session)

        def loss(batch: Batch) -> Tensor:
            logits = self.model.logits(self._encode(batch), rows())
            terms = {k: F.cross_entropy(values, batch[k], reduction="none") for k, values in logits.items()}
            whole = batch["goal"] == LEVELS.index("coarse")
            return torch.where(whole, terms.get("coarse", terms["fine"]), terms["fine"]).mean()

        return gradient_sums(
            self.model, loss, stream, self.part, batch_size=self.forget.batch_size, device=self.model.device
        )
