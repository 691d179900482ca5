"""SLCA: a slow learner of features under a fast one of rows, which are aligned on drawn features."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from data.sessions import Session
from models.alignment import AlignedLearner
from models.learner import new_classes_ce
from models.tuning import tower
from utils.loop import Batch, Phase


class SlcaLearner(AlignedLearner):
    """Fine-tuning whose backbone learns a hundred times slower than the rows; then the rows are aligned.

    Args:
        context, options: see `AlignedLearner`.
        bcb_lr_scale: the backbone's learning rate is this share of the rows'.
        ca_with_logit_norm: τ of the logits H/(τ·‖H‖) in the alignment; None or 0: logits as they are.

    Source: Zhang et al., SLCA: Slow Learner with Classifier Alignment, ICCV 2023, section 4. Its code divides by the
    mean of the norms that the logits have session by session, and its `ridge` is 1e-4; its rows are linear, here they
    are cosine rows. It aligns for the test alone and begins every session with the rows as they were trained; here they
    stay aligned.
    """

    needs_images: ClassVar[bool] = True

    def __init__(self, *context, bcb_lr_scale: float = 0.01, ca_with_logit_norm: float | None = 0.1, **options):
        super().__init__(*context, **options)
        self.slowness, self.temperature = bcb_lr_scale, ca_with_logit_norm
        self.slow = tower(self.model)

    def phases(self, session: Session) -> Iterator[Phase]:
        """Adapt; then remember and align."""
        yield self._adapt(session)
        plain = session.stream("plain")
        self._remember(session, self.features(plain), plain.labels("fine"))
        if self.ca and session.index:
            yield self._align(session)

    def _adapt(self, session: Session) -> Phase:
        rows = self.model.grow("fine", [session.order.fine[label] for label in session.classes])

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["train"]
            return {"ce": new_classes_ce(self.model(batch["image"]).logits["fine"], batch["fine"], session)}

        streams, rates = {"train": session.stream("train")}, [self.slowness] * len(self.slow) + [1.0]
        return Phase("adapt", self.model, streams, loss, [*self.slow, rows], self.recipe(session), rates=rates)

    def _recognition(self, logits: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        fine = normalised(logits["fine"], self.temperature) if self.temperature else logits["fine"]
        return {"fine": F.cross_entropy(fine, batch["fine"])}


def normalised(logits: Tensor, temperature: float) -> Tensor:
    """Logits [B, C] of which the direction counts and the length is 1/τ for every example."""
    return F.normalize(logits, dim=1) / temperature
