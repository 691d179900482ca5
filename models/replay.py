"""What the learners of continual forgetting share: a few images of all classes, and the model before as a teacher."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convs.model import Model, Output
from data.sessions import Session
from models.exemplars import original_fields
from models.learner import Learner
from models.tuning import tower
from models.unlearn_losses import wrong_labels
from utils.errors import ConfigError
from utils.loop import Batch, Phase, Recipe, Stream
from utils.losses import distillation
from utils.streams import JoinedStream

PLAIN = {"forget": "plain", "retain": "retain_plain"}  # a stream and the same images in fixed order


class ReplayLearner(Learner):
    """Forget by exemplars of what goes and a few images of what stays; the classifier is frozen.

    The image tower moves. A request to forget a parent forgets its children and, where the model names parents, the
    parent too: its losses are summed over both levels. Over a CLIP the classifier's rows are the text features of the
    names, and the text tower stays as it is.

    Args:
        model, first, later, forget: see `Learner`.

    Attributes:
        part: the parameters that move; in a learn session those of its rows do, too.

    Source: the protocol of Zhao et al., GS-LoRA, CVPR 2024, section 5. Its code takes the model before all requests as
    the teacher, and draws the wrong labels anew at every access, among fewer classes.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"forget"})

    def __init__(self, model: Model, first: Recipe, later: Recipe, forget: Recipe | None = None):
        super().__init__(model, first, later, forget)
        self.part: list[nn.Parameter] = self.moved()

    def moved(self) -> list[nn.Parameter]:
        """Freeze the model but for the part that moves, and return that."""
        return tower(self.model)

    def check(self, session: Session) -> None:
        """See that a request shows retained images, and has one goal; that all classes are taught, where some are.

        Raises:
            ConfigError: it does not, or has not.
        """
        if session.kind == "learn" and len(self.model.head("fine")):
            raise ConfigError(
                f"key 'known': session {session.index} teaches classes to a model that knows some before the stream, "
                "which this learner cannot; choose 'adapter', or set 'known' to \"none\" and let sessions teach all"
            )
        if session.kind == "forget" and "retain" not in session.streams:
            raise ConfigError(
                f"key 'sessions': session {session.index} shows no image of what is to stay, which this learner "
                'replays; grant some in the request, such as "retain": {"ratio": 0.1}'
            )
        if session.kind == "forget" and not session.alive:
            raise ConfigError(
                f"key 'sessions': session {session.index} leaves no class whose images this learner could replay; "
                "forget fewer, or choose a learner that replays none, such as 'hinge'"
            )
        if session.level == "hybrid":
            raise ConfigError(
                f"key 'sessions': session {session.index} is hybrid, and this learner has one loss for all exemplars; "
                "make it two requests, one of level fine and one of level coarse"
            )

    def levels(self, session: Session) -> tuple[str, ...]:
        """The levels whose labels the losses speak of."""
        return tuple(level for level in self.model.rows() if level == "fine" or session.level == "coarse")

    def taught(self, session: Session, name: str) -> Stream:
        """The images of a stream with what the model says of them before the session.

        Args:
            session: the request.
            name: `forget` or `retain`.

        Returns:
            A shuffled stream whose batches have also `teacher.feature` [B, D], `teacher.{level}` (logits [B, C]) and
            `wrong.{level}` (a wrong label for each image, drawn once for the session, [B]) of the session's levels.
        """
        plain = session.stream(PLAIN[name])
        features = self.features(plain)
        rows = {level: self.model.rows()[level] for level in self.levels(session)}
        wrong = {f"wrong.{level}": labels for level, labels in self.wrong(session, plain).items()}
        fields = {"teacher.feature": features, **original_fields(self.model, features, rows, "teacher"), **wrong}
        return JoinedStream(session.stream(name), plain.items, fields)

    def wrong(self, session: Session, plain: Stream) -> dict[str, Tensor]:
        """A wrong label for every image of a stream in fixed order, by level, [N]; drawn when asked for."""
        dice = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        counts = {level: len(self.model.rows()[level]) for level in self.levels(session)}
        return {level: wrong_labels(plain.labels(level), count, dice) for level, count in counts.items()}

    def outputs(self, batches: Mapping[str, Batch]) -> dict[str, Output]:
        """The model's outputs for the batches of all streams, computed in one pass."""
        whole = self.model(torch.cat([batch["image"] for batch in batches.values()]))
        sizes = [len(batch["image"]) for batch in batches.values()]
        features = whole.features.split(sizes)
        logits = {level: values.split(sizes) for level, values in whole.logits.items()}
        return {
            name: Output(features[i], {level: values[i] for level, values in logits.items()})
            for i, name in enumerate(batches)
        }

    def ce(self, session: Session, output: Output, batch: Batch, labels: str = "") -> Tensor:
        """Cross-entropy, the mean over the batch, summed over the session's levels.

        Args:
            session: the request.
            output: of the model in training.
            batch: with the labels.
            labels: prefix of their names, `wrong.` for the wrong ones.
        """
        return sum(F.cross_entropy(output.logits[level], batch[labels + level]) for level in self.levels(session))

    def kd(self, session: Session, output: Output, batch: Batch, temperature: float) -> Tensor:
        """Divergence of the model in training from the teacher, summed over the session's levels; see `distillation`.

        Args:
            session: the request.
            output: of the model in training.
            batch: of a stream that is `taught`.
            temperature: T.
        """
        pairs = [(output.logits[level], batch[f"teacher.{level}"]) for level in self.levels(session)]
        return sum(distillation(logits, teacher, temperature) for logits, teacher in pairs)


class TaughtLearner(ReplayLearner):
    """A request is one phase, and every step sees exemplars and retained images with what the teacher said of them."""

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase; an epoch is a pass over the exemplars."""
        streams = {name: self.taught(session, name) for name in PLAIN}
        yield Phase("forget", self.model, streams, partial(self.loss, session), self.part, self.forget)

    @abstractmethod
    def loss(self, session: Session, batches: dict[str, Batch]) -> dict[str, Tensor]:
        """The weighted terms of a step, of a batch of `forget` and one of `retain`."""
