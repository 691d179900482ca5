"""Fine-tuning: what happens where nothing protects the past."""

from collections.abc import Iterator

from torch import Tensor

from data.sessions import Session
from models.learner import Learner, grow_parents, new_classes_ce
from utils.loop import Batch, Phase


class FinetuneLearner(Learner):
    """All weights, cross-entropy over the new classes only: the lower bound of continual learning.

    Args:
        model, first, later: see `Learner`.

    Source: the `finetune` baseline of PyCIL (Zhou et al., SCIS 2023), whose loss also leaves old columns out.
    """

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase on the session's own images."""
        rows = self.model.grow("fine", [session.order.fine[label] for label in session.classes])
        grow_parents(self.model, session)

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["train"]
            return {"ce": new_classes_ce(self.model(batch["image"]).logits["fine"], batch["fine"], session)}

        streams = {"train": session.stream("train")}
        moving = [*self.model.backbone.parameters(), rows]  # no old rows, which Adam would decay by whole steps
        yield Phase("finetune", self.model, streams, loss, moving, self.recipe(session))
