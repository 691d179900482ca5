"""Classes remembered as Gaussians, and a classifier that is aligned on features drawn from them."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from convs.model import Model
from data.sessions import Session
from models.learner import Learner
from utils.gaussians import ClassStatistics, class_statistics, draw, mean_variance, room_for
from utils.held import Held
from utils.loop import Batch, Phase, Recipe
from utils.streams import DrawnStream

AUTO_RIDGE = 1e-3  # share of the mean feature variance


class AlignedLearner(Learner):
    """A learner that keeps mean and covariance of every class, and no image.

    Args:
        model, first, later, forget: see `Learner`.
        ca: whether the rows are aligned on drawn features after session 0.
        ca_epochs, ca_samples: passes of the alignment; features per class in each.
        ridge: added to each covariance's diagonal (1e-3 for ViT-B/16), or `auto`: 1e-3 of the mean variance.

    Attributes:
        statistics: of every class that was taught, by label.

    Source: Zhang et al., SLCA, ICCV 2023, section 4.2; the scales of the means as in SSIAT, CVPR 2024, section 3.
    """

    def __init__(
        self,
        model: Model,
        first: Recipe,
        later: Recipe,
        forget: Recipe | None = None,
        *,
        ca: bool = True,
        ca_epochs: int = 5,
        ca_samples: int = 256,
        ridge: float | str = 1e-3,
    ):
        super().__init__(model, first, later, forget)
        self.ca, self.ca_epochs, self.ca_samples, self.ridge = ca, ca_epochs, ca_samples, ridge
        self.statistics: dict[int, ClassStatistics] = {}

    def _recognition(self, logits: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """What aligns the rows on a batch of drawn features."""
        return {"fine": F.cross_entropy(logits["fine"], batch["fine"])}

    def _align(self, session: Session) -> Phase:
        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            return self._recognition(self.model.classify(batches["drawn"]["feature"]).logits, batches["drawn"])

        stream = self._drawn(self.statistics, session.learned)
        # rows without samples of their own, forgotten or known from pre-training, must not be pushed about
        held = None if set(self.statistics) == set(session.seen) else Held(self._rows(self.statistics, session))
        parameters = self.model.heads.parameters()
        return Phase("align", self.model, {"drawn": stream}, loss, parameters, self._alignment(), None, held)

    def _drawn(self, statistics: Mapping[int, ClassStatistics], now: int) -> DrawnStream:
        """Features drawn from classes around their scaled means; `now` counts learn sessions from 0."""
        classes = list(statistics.values())
        scales = [self._scale(item.session, now) for item in classes]
        labels = torch.tensor(list(statistics)).repeat_interleave(self.ca_samples)
        parents = torch.tensor([item.parent for item in classes]).repeat_interleave(self.ca_samples)
        room = room_for(classes, self.ca_samples)  # of all passes; finding fresh memory takes a fifth of one

        def sample(generator: torch.Generator) -> dict[str, Tensor]:
            features = draw(classes, scales, self.ca_samples, generator, out=room)
            return {"feature": features, "fine": labels, "coarse": parents}

        return DrawnStream(sample, len(labels))

    def _scale(self, learned: int, now: int) -> float:
        """What the mean of a class is multiplied by: the longer ago it was learned, the further features have moved."""
        return 0.9 + 0.1 * (learned + 1) / (now + 1)

    def _alignment(self) -> Recipe:
        return replace(self.later, epochs=self.ca_epochs, batch_size=self.ca_samples, warmup_steps=0)

    def _rows(self, classes: Collection[int], session: Session) -> list[tuple[torch.nn.Parameter, Tensor]]:
        """All rows, with masks of those of some fine classes and of their parents."""
        labels = {"fine": classes, "coarse": session.order.coarse_of(tuple(classes))}
        return [part for level in labels for part in self.model.head(level).movable(labels[level])]

    def _remember(self, session: Session, features: Tensor, labels: Tensor) -> None:
        ridge = self._diagonal(features, labels)
        for label in session.classes:
            parent = session.order.parents[label]
            self.statistics[label] = class_statistics(features[labels == label], ridge, parent, session.learned)
        # a class learned again comes last: what is drawn must not depend on whether a checkpoint lies in between
        self.statistics = dict(sorted(self.statistics.items()))

    def _diagonal(self, features: Tensor, labels: Tensor) -> float:
        return AUTO_RIDGE * mean_variance(features, labels) if self.ridge == "auto" else self.ridge

    def state_dict(self) -> dict[str, Tensor]:
        """What training changed, and the statistics of every class."""
        stored = {
            f"statistics.{label}.{key}": value
            for label, item in self.statistics.items()
            for key, value in item.tensors().items()
        }
        return super().state_dict() | stored

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        stored: dict[int, dict[str, Tensor]] = {}
        for name in [name for name in state if name.startswith("statistics.")]:
            _, label, key = name.split(".")
            stored.setdefault(int(label), {})[key] = state[name]
        self.statistics = {label: ClassStatistics.from_tensors(stored[label]) for label in sorted(stored)}
        super().load_state_dict({name: value for name, value in state.items() if not name.startswith("statistics.")})
