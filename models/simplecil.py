"""SimpleCIL: a frozen backbone with class means as its classifier."""

from collections.abc import Iterator

from convs.model import Model, freeze
from data.sessions import Session
from models.learner import Learner, grow_parents
from utils.gaussians import class_means
from utils.loop import Phase, Recipe


class SimpleCilLearner(Learner):
    """Nothing is trained; the row of a class is the mean of its raw features.

    Args:
        model, first, later: see `Learner`; the recipes are not used.

    Source: Zhou et al., Revisiting Class-Incremental Learning with Pre-Trained Models, IJCV 2024.
    """

    def __init__(self, model: Model, first: Recipe, later: Recipe):
        super().__init__(model, first, later)
        freeze(model.backbone)

    def phases(self, session: Session) -> Iterator[Phase]:
        """No phase: one pass over the session's images."""
        plain = session.stream("plain")
        means = class_means(self.features(plain), plain.labels("fine"), session.classes)
        self.model.head("fine").grow(means.to(self.model.device))
        grow_parents(self.model, session)
        yield from ()
