"""What every method is: a generator of phases over one model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from convs.backbone import Backbone
from convs.model import Model, Output
from data.sessions import Session
from utils.errors import ConfigError, DivergenceError
from utils.held import Held
from utils.loop import Batch, Phase, Recipe, Stream
from utils.passes import gather

Product = Callable[[Path], None]  # writes one file or folder at the path it is given


class Learner(ABC):
    """A method that follows a stream of sessions.

    Args:
        model: the network it owns.
        first: how the first session is trained.
        later: how the later ones are.
        forget: how a forget request is carried out; None: as a later session.

    Attributes:
        kinds: the kinds of session it can serve.
        keeps_images: whether it asks for images that it has kept, a few of each class.
        needs_images: whether it knows a class by its images alone, so that none may be known before the stream.
        sees_past: whether it asks for the data of past sessions (an upper bound, no continual learner).
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"learn"})
    keeps_images: ClassVar[bool] = False
    needs_images: ClassVar[bool] = False
    sees_past: ClassVar[bool] = False

    def __init__(self, model: Model, first: Recipe, later: Recipe, forget: Recipe | None = None):
        self.model, self.first, self.later, self.forget = model, first, later, forget or later

    @abstractmethod
    def phases(self, session: Session) -> Iterator[Phase]:
        """The session's training, phase by phase.

        Code before a `yield` prepares the phase, code after it sees the trained weights. It may depend on the model,
        the session and torch's random numbers only: a resumed run executes it again.
        """

    def check(self, session: Session) -> None:
        """See that a session of the stream can be served, before the first one begins.

        Raises:
            ConfigError: it cannot.
        """
        if self.needs_images:
            check_taught(session)

    def predict(self, images: Tensor) -> Output:
        """[B, 3, size, size] → features and logits over all classes seen, in label order."""
        return self.model(images)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that training changed."""
        return self.model.trainable_state()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        self.model.load_trainable_state(state)

    def products(self, session: Session) -> dict[str, Product]:
        """What is worth keeping after the last session: name of a file or folder → what writes it."""
        return {}

    def figures(self, session: Session) -> dict[str, float]:
        """Figures of a session that the learner alone can tell, asked for after its last phase: name → value."""
        return {}

    def tunable_ratio(self) -> float:
        """The share of the parameters that training may move, 0 to 1."""
        parameters = list(self.model.parameters())
        return sum(p.numel() for p in parameters if p.requires_grad) / sum(p.numel() for p in parameters)

    def recipe(self, session: Session) -> Recipe:
        """The recipe of a learn session."""
        return self.first if session.index == 0 else self.later

    def features(self, stream: Stream, backbone: Backbone | None = None) -> Tensor:
        """Raw features of a stream, [N, D], on the CPU.

        Args:
            stream: of images.
            backbone: a part of the model's that is asked instead of the whole; None: the whole.

        Raises:
            DivergenceError: one is not finite: the last step of training spoiled the weights.
        """

        asked = backbone or self.model.backbone

        def compute(batch: Batch) -> dict[str, Tensor]:
            return {"features": asked(batch["image"])}

        features = gather(self.model, compute, stream, device=self.model.device)["features"]
        if not features.isfinite().all():
            raise DivergenceError("the model's features are no longer finite; lower the learning rate")
        return features


def open_rows(model: Model, session: Session) -> tuple[list[Parameter], Held | None]:
    """Rows for the classes of a learn session: appended for new ones, drawn anew for those that had been forgotten.

    Returns:
        The parameters that they are in, and what holds the rows of other classes among them, if there are such.
    """
    head, names = model.head("fine"), session.order.fine
    again = [label for label in session.classes if label < len(head)]
    for label in again:
        model.renew("fine", label, names[label])
    model.grow("fine", [names[label] for label in session.classes if label not in again])
    rows = head.movable(session.classes)
    return [parameter for parameter, mask in rows if mask.any()], Held(rows) if again else None


def grow_parents(model: Model, session: Session) -> None:
    """Coarse rows for the parents that a learn session brings, where the model has coarse rows of classes it knew.

    They are what its weights say of the names (worded by a text tower, else drawn) and are not trained.
    """
    head, order = model.head("coarse"), session.order
    if order.two_levels and len(head):
        fresh = [label for label in order.coarse_of(session.classes) if label >= len(head)]
        model.grow("coarse", [order.coarse[label] for label in fresh])


def new_classes_ce(logits: Tensor, labels: Tensor, session: Session) -> Tensor:
    """Cross-entropy over the columns of the session's classes alone, the mean over the batch.

    Args:
        logits: of all classes, [B, C].
        labels: all of the session's classes, [B].
        session: to learn.
    """
    return F.cross_entropy(logits[:, session.classes], remap(labels, session.classes))


def remap(labels: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Labels as positions in `classes`, which must hold them all and be ascending."""
    return torch.searchsorted(torch.tensor(classes, device=labels.device), labels)


def check_taught(session: Session) -> None:
    """See that no class is known without images.

    Raises:
        ConfigError: the stream starts with classes that no session taught.
    """
    untaught = set(session.seen) - set(session.classes) if session.index == 0 else ()
    if untaught:
        raise ConfigError(
            f"key 'known': '{session.order.fine[min(untaught)]}' is known before the stream, and this learner knows "
            "classes only by images that it was shown; set 'known' to \"none\" and let sessions teach them"
        )
