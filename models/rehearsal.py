"""Replay: fine-tuning on the new images and on a few kept ones of every past class."""

from collections.abc import Callable, Iterator
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from data.sessions import Session
from models.learner import Learner
from models.memory import Memory
from utils.errors import ConfigError
from utils.herding import herding
from utils.loop import Batch, Phase, Stream
from utils.streams import PooledStream


class RehearsalLearner(Learner):
    """All weights, cross-entropy over all classes, on new and kept images in one shuffled set.

    Args:
        context, options: see `Learner`.
        memory_size: images kept in all, divided evenly among the classes seen.
        memory_per_class, fixed_memory: so many of each class instead, if `fixed_memory`.

    Attributes:
        memory: of the classes learned so far; they are chosen by herding.

    Source: the `replay` baseline of PyCIL (Zhou et al., SCIS 2023).
    """

    needs_images: ClassVar[bool] = True
    keeps_images: ClassVar[bool] = True

    def __init__(
        self,
        *context,
        memory_size: int = 0,
        memory_per_class: int = 0,
        fixed_memory: bool = False,
        **options,
    ):
        super().__init__(*context, **options)
        self.memory = Memory(memory_size, memory_per_class, fixed_memory)

    def check(self, session: Session) -> None:
        """See that the memory has room for an image of every class, and that every class has images.

        Raises:
            ConfigError: it has not.
        """
        super().check(session)
        if not self.memory.share(len(session.seen)):
            key = "memory_per_class" if self.memory.fixed else "memory_size"
            raise ConfigError(
                f"key '{key}': {self.memory.per_class if self.memory.fixed else self.memory.size} leaves no image of "
                f"each of the {len(session.seen)} classes of session {session.index}; iCaRL keeps 20 of each"
            )

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase; then images are chosen."""
        loss = self.loss(session)
        self.model.grow("fine", [session.order.fine[label] for label in session.classes])
        streams = {"pool": self._pool(session)}
        yield Phase("learn", self.model, streams, loss, self.model.parameters(), self.recipe(session))
        self._remember(session)

    def loss(self, session: Session) -> Callable[[dict[str, Batch]], dict[str, Tensor]]:
        """What a step minimises; called while the model is what the last session left."""

        def ce(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["pool"]
            return {"ce": F.cross_entropy(self.model(batch["image"]).logits["fine"], batch["fine"])}

        return ce

    def _pool(self, session: Session) -> Stream:
        new, items = session.stream("train"), self.memory.items
        return PooledStream((new, session.recalled(items, augmented=True))) if len(items) else new

    def _remember(self, session: Session) -> None:
        plain = session.stream("plain")
        features, labels = F.normalize(self.features(plain), dim=1), plain.labels("fine")
        share = self.memory.share(len(session.seen))
        own = {label: (labels == label).nonzero().flatten() for label in session.classes}
        chosen = {label: places[herding(features[places], share)] for label, places in own.items()}
        self.memory.keep({label: plain.items[places] for label, places in chosen.items()})

    def state_dict(self) -> dict[str, Tensor]:
        """What training changed, and which images are kept."""
        return super().state_dict() | self.memory.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(self.memory.load_state_dict(state))
