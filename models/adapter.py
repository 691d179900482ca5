"""The adapter learner: SSIAT for learn sessions."""

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from convs.adapter import inject_adapters
from convs.model import Model, freeze
from data.sessions import Session
from models.learner import Learner, remap
from utils.gaussians import ClassStatistics, class_statistics, draw, mean_variance, median_spread, shifted_means
from utils.loop import Batch, Phase, Recipe
from utils.losses import cosface
from utils.streams import DrawnStream

AUTO_RIDGE = 1e-3  # share of the mean feature variance


class AdapterLearner(Learner):
    """Shared parallel adapters, semantic shift of stored prototypes, classifier alignment on drawn features.

    Args:
        model, first, later: see `Learner`.
        ffn_num: bottleneck of the adapters.
        adapter_scale, adapter_dropout: their output factor and dropout.
        margin: CosFace margin on cosines, m.
        coarse_weight: weight of the same loss on the coarse rows; 0 is SSIAT.
        ssca: whether stored means follow the drift of the features.
        ca: whether the rows are aligned on drawn features after session 0.
        ca_epochs, ca_samples: passes of the alignment; features per class in each.
        sigma: width of the shift's kernel (4 for ViT-B/16), or `auto`: the median distance to the own class mean.
        ridge: added to each covariance's diagonal (1e-3 for ViT-B/16), or `auto`: 1e-3 of the mean variance.

    Source: Tan et al., SSIAT, CVPR 2024, section 3; coarse level ours.
    """

    def __init__(
        self,
        model: Model,
        first: Recipe,
        later: Recipe,
        *,
        ffn_num: int = 64,
        adapter_scale: float = 0.1,
        adapter_dropout: float = 0.1,
        margin: float = 0.0,
        coarse_weight: float = 0.0,
        ssca: bool = True,
        ca: bool = True,
        ca_epochs: int = 5,
        ca_samples: int = 256,
        sigma: float | str = 4.0,
        ridge: float | str = 1e-3,
    ):
        super().__init__(model, first, later)
        self.margin, self.ssca, self.ca, self.sigma, self.ridge = margin, ssca, ca, sigma, ridge
        self.ca_samples, self.ca_epochs = ca_samples, ca_epochs
        self.weights = {"fine": 1.0} | ({"coarse": coarse_weight} if coarse_weight else {})
        self.statistics: dict[int, ClassStatistics] = {}
        freeze(model.backbone)
        self.groups = inject_adapters(model.backbone, ffn_num, adapter_scale, adapter_dropout)

    def phases(self, session: Session) -> Iterator[Phase]:
        """Adapt; then shift, remember and align."""
        plain = session.stream("plain")
        labels = plain.labels("fine")
        rows = self._grow(session)
        before = self.features(plain) if self.ssca and self.statistics else None
        yield self._adapt(session, rows)
        after = self.features(plain)
        if before is not None:
            self._shift(before, after, self._width(before, labels))
        self._remember(session, after, labels)
        if self.ca and len(self.statistics) > len(session.classes):
            yield self._align(session)

    def _grow(self, session: Session) -> list[torch.nn.Parameter]:
        """Rows for what is new; returns the rows that the session trains, among them those of parents known before."""
        order = session.order
        fine = self.model.grow("fine", [order.fine[label] for label in session.classes])
        if "coarse" not in self.weights:
            return [fine]
        self.model.grow("coarse", [order.coarse[label] for label in session.new_parents()])
        return [fine, *self.model.head("coarse").rows]

    def _adapt(self, session: Session, rows: list[torch.nn.Parameter]) -> Phase:
        columns = {"fine": session.classes, "coarse": session.order.coarse_of(session.classes)}

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["train"]
            logits = self.model(batch["image"]).logits
            margin = self.margin * self.model.scale
            return {
                level: weight * cosface(logits[level][:, columns[level]], remap(batch[level], columns[level]), margin)
                for level, weight in self.weights.items()
            }

        moved = [parameter for group in self.groups for parameter in group] + rows
        return Phase("adapt", self.model, {"train": session.stream("train")}, loss, moved, self.recipe(session))

    def _align(self, session: Session) -> Phase:
        now = max(item.session for item in self.statistics.values())
        classes = list(self.statistics.values())
        scales = [0.9 + 0.1 * (item.session + 1) / (now + 1) for item in classes]
        labels = torch.tensor(list(self.statistics)).repeat_interleave(self.ca_samples)
        parents = torch.tensor([item.parent for item in classes]).repeat_interleave(self.ca_samples)

        def drawn(generator: torch.Generator) -> dict[str, Tensor]:
            return {"feature": draw(classes, scales, self.ca_samples, generator), "fine": labels, "coarse": parents}

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["drawn"]
            logits = self.model.classify(batch["feature"]).logits
            return {
                level: weight * F.cross_entropy(logits[level], batch[level]) for level, weight in self.weights.items()
            }

        recipe = replace(self.later, epochs=self.ca_epochs, batch_size=self.ca_samples, warmup_steps=0)
        stream = DrawnStream(drawn, len(labels))
        return Phase("align", self.model, {"drawn": stream}, loss, self.model.heads.parameters(), recipe)

    def _shift(self, before: Tensor, after: Tensor, sigma: float) -> None:
        means = torch.stack([item.mean for item in self.statistics.values()])
        for label, mean in zip(self.statistics, shifted_means(means, before, after, sigma), strict=True):
            self.statistics[label] = self.statistics[label].moved(mean)

    def _remember(self, session: Session, features: Tensor, labels: Tensor) -> None:
        past = {item.session for item in self.statistics.values()}
        ridge = AUTO_RIDGE * mean_variance(features, labels) if self.ridge == "auto" else self.ridge
        for label in session.classes:
            parent = session.order.parents[label]
            self.statistics[label] = class_statistics(features[labels == label], ridge, parent, len(past))

    def _width(self, features: Tensor, labels: Tensor) -> float:
        return median_spread(features, labels) if self.sigma == "auto" else self.sigma

    def state_dict(self) -> dict[str, Tensor]:
        """Adapters, rows and the statistics of every class."""
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
