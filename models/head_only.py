"""The control of every unlearning table: edit the classifier, leave the features alone."""

from collections.abc import Iterator
from typing import ClassVar

from convs.model import Model, freeze
from data.sessions import Session
from models.learner import Learner
from utils.loop import Phase, Recipe


class HeadOnlyLearner(Learner):
    """Turn the rows of what is to be forgotten round: they never win again, and nothing has been erased.

    The features know the classes as before, and so does a text tower asked for their names.

    Args:
        model, first, later, forget: see `Learner`; nothing is trained.

    Source: ours.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"forget"})

    def __init__(self, model: Model, first: Recipe, later: Recipe, forget: Recipe | None = None):
        super().__init__(model, first, later, forget)
        freeze(model.backbone)

    def phases(self, session: Session) -> Iterator[Phase]:
        """No phase: w ← −w for the request's rows."""
        for level, labels in {"fine": session.classes, "coarse": session.coarse_classes}.items():
            if len(head := self.model.head(level)):
                head.replace({label: -head.weight[label] for label in labels})
        yield from ()
