"""The adapter learner: SSIAT for learn sessions."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convs.adapter import inject_adapters
from convs.clip import ClipBackbone
from convs.model import Model, freeze
from data.sessions import Session
from models.learner import Learner, remap
from utils.errors import ConfigError
from utils.gaussians import ClassStatistics, class_statistics, draw, mean_variance, median_spread, shifted_means
from utils.held import Held
from utils.loop import Batch, Phase, Recipe
from utils.losses import cosface
from utils.streams import DrawnStream

AUTO_RIDGE = 1e-3  # share of the mean feature variance


class AdapterLearner(Learner):
    """Shared parallel adapters, semantic shift of stored prototypes, classifier alignment on drawn features.

    Args:
        model, first, later, forget: see `Learner`.
        ffn_num: bottleneck of the adapters.
        adapter_scale, adapter_dropout: their output factor and dropout.
        adapter_towers: `image`, or `both` of a CLIP's.
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
        forget: Recipe | None = None,
        *,
        ffn_num: int = 64,
        adapter_scale: float = 0.1,
        adapter_dropout: float = 0.1,
        adapter_towers: str = "image",
        margin: float = 0.0,
        coarse_weight: float = 0.0,
        ssca: bool = True,
        ca: bool = True,
        ca_epochs: int = 5,
        ca_samples: int = 256,
        sigma: float | str = 4.0,
        ridge: float | str = 1e-3,
    ):
        super().__init__(model, first, later, forget)
        self.margin, self.ssca, self.ca, self.sigma, self.ridge = margin, ssca, ca, sigma, ridge
        self.ca_samples, self.ca_epochs = ca_samples, ca_epochs
        self.weights = {"fine": 1.0} | ({"coarse": coarse_weight} if coarse_weight else {})
        self.statistics: dict[int, ClassStatistics] = {}
        self.adapter_towers = adapter_towers
        freeze(model.backbone)
        self.groups = inject_adapters(self._blocks(adapter_towers), ffn_num, adapter_scale, adapter_dropout)

    def _blocks(self, towers: str) -> list[nn.Module]:
        backbone = self.model.backbone
        if towers == "image":
            return backbone.blocks
        if not isinstance(backbone, ClipBackbone):
            raise ConfigError('key \'adapter_towers\': "both" needs a text tower; choose a CLIP or "lit:…"')
        return backbone.blocks + backbone.text_blocks

    def phases(self, session: Session) -> Iterator[Phase]:
        """Adapt; then shift, remember and align."""
        plain = session.stream("plain")
        labels = plain.labels("fine")
        renewed = self._grow(session)
        before = self.features(plain) if self.ssca and self.statistics else None
        yield self._adapt(session, renewed)
        after = self.features(plain)
        if before is not None:
            self.statistics = moved(self.statistics, before, after, self._width(before, labels))
        self._remember(session, after, labels)
        if self.ca and len(self.statistics) > len(session.classes):
            yield self._align(session)

    def _grow(self, session: Session) -> bool:
        """Rows for what is new, fresh ones for what had been forgotten; returns whether there are such."""
        order, before = session.order, set(session.alive) - set(session.classes)
        known = {"fine": before, "coarse": set(order.coarse_of(tuple(before)))}
        renewed = False
        for level, labels in self._named(session).items():
            names, count = getattr(order, level), len(self.model.head(level))
            for label in [label for label in labels if label < count and label not in known[level]]:
                self.model.renew(level, label, names[label])
                renewed = True
            self.model.grow(level, [names[label] for label in labels if label >= count])
        return renewed

    def _named(self, session: Session) -> dict[str, tuple[int, ...]]:
        """The labels of the session's classes at every level of rows, also one that is not taught.

        A CLIP that knows classes has coarse rows whatever their weight, and a new parent needs its own among them.
        """
        coarse = session.order.two_levels and ("coarse" in self.weights or len(self.model.head("coarse")))
        return {"fine": session.classes} | ({"coarse": session.order.coarse_of(session.classes)} if coarse else {})

    def _columns(self, session: Session) -> dict[str, tuple[int, ...]]:
        """Those labels that the session teaches."""
        return {level: labels for level, labels in self._named(session).items() if level in self.weights}

    def _adapt(self, session: Session, renewed: bool) -> Phase:
        columns = self._columns(session)

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["train"]
            logits = self.model(batch["image"]).logits
            margin = self.margin * self.model.scale
            return {
                level: self.weights[level] * cosface(logits[level][:, some], remap(batch[level], some), margin)
                for level, some in columns.items()
            }

        rows = [part for level in columns for part in self.model.head(level).movable(columns[level])]
        taught = [parameter for parameter, mask in rows if mask.any()]
        # rows that share a parameter with these, of classes forgotten or known from pre-training, must not be decayed
        held = Held(rows) if renewed or set(session.seen) != {*self.statistics, *session.classes} else None
        streams = {"train": session.stream("train")}
        return Phase("adapt", self.model, streams, loss, self._adapters() + taught, self.recipe(session), None, held)

    def _adapters(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.groups for parameter in group]

    def _align(self, session: Session) -> Phase:
        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            return self._recognition(self.model.classify(batches["drawn"]["feature"]).logits, batches["drawn"])

        stream = self._drawn(self.statistics, session.learned)
        # rows without samples of their own, forgotten or known from pre-training, must not be pushed about
        held = None if set(self.statistics) == set(session.seen) else Held(self._rows(self.statistics, session))
        parameters = self.model.heads.parameters()
        return Phase("align", self.model, {"drawn": stream}, loss, parameters, self._alignment(), None, held)

    def _recognition(self, logits: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over all columns, weighted by level."""
        levels = [level for level in self.weights if level in logits]
        return {level: self.weights[level] * F.cross_entropy(logits[level], batch[level]) for level in levels}

    def _drawn(self, statistics: Mapping[int, ClassStatistics], now: int) -> DrawnStream:
        """Features drawn from classes, the mean of an older one scaled down; `now` counts learn sessions from 0."""
        classes = list(statistics.values())
        scales = [0.9 + 0.1 * (item.session + 1) / (now + 1) for item in classes]
        labels = torch.tensor(list(statistics)).repeat_interleave(self.ca_samples)
        parents = torch.tensor([item.parent for item in classes]).repeat_interleave(self.ca_samples)

        def sample(generator: torch.Generator) -> dict[str, Tensor]:
            return {"feature": draw(classes, scales, self.ca_samples, generator), "fine": labels, "coarse": parents}

        return DrawnStream(sample, len(labels))

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


def moved(
    statistics: Mapping[int, ClassStatistics], before: Tensor, after: Tensor, sigma: float, **kernel: float
) -> dict[int, ClassStatistics]:
    """The classes around means that follow the drift of the images seen now; see `shifted_means`."""
    means = torch.stack([item.mean for item in statistics.values()])
    shifted = shifted_means(means, before, after, sigma, **kernel)
    return {label: item.moved(mean) for (label, item), mean in zip(statistics.items(), shifted, strict=True)}
