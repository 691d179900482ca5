"""The adapter learner: SSIAT for learn sessions."""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convs.adapter import inject_adapters
from convs.clip import ClipBackbone
from convs.model import freeze
from data.sessions import Session
from models.alignment import AlignedLearner
from models.learner import remap
from utils.errors import ConfigError
from utils.gaussians import ClassStatistics, median_spread, shifted_means
from utils.held import Held
from utils.loop import Batch, Phase
from utils.losses import cosface


class AdapterLearner(AlignedLearner):
    """Shared parallel adapters, semantic shift of stored prototypes, classifier alignment on drawn features.

    Args:
        context, options: see `AlignedLearner`.
        ffn_num: bottleneck of the adapters.
        adapter_scale, adapter_dropout: their output factor and dropout.
        adapter_towers: `image`, or `both` of a CLIP's.
        margin: CosFace margin on cosines, m.
        coarse_weight: weight of the same loss on the coarse rows; 0 is SSIAT.
        ssca: whether stored means follow the drift of the features.
        sigma: width of the shift's kernel (4 for ViT-B/16), or `auto`: the median distance to the own class mean.

    Source: Tan et al., SSIAT, CVPR 2024, section 3; coarse level ours.
    """

    def __init__(
        self,
        *context,
        ffn_num: int = 64,
        adapter_scale: float = 0.1,
        adapter_dropout: float = 0.1,
        adapter_towers: str = "image",
        margin: float = 0.0,
        coarse_weight: float = 0.0,
        ssca: bool = True,
        sigma: float | str = 4.0,
        **options,
    ):
        super().__init__(*context, **options)
        self.margin, self.ssca, self.sigma = margin, ssca, sigma
        self.weights = {"fine": 1.0} | ({"coarse": coarse_weight} if coarse_weight else {})
        self.adapter_towers = adapter_towers
        freeze(self.model.backbone)
        self.groups = inject_adapters(self._blocks(adapter_towers), ffn_num, adapter_scale, adapter_dropout)

    def _blocks(self, towers: str) -> list[nn.Module]:
        backbone = self.model.backbone
        if towers == "image":
            return backbone.tuned
        if not isinstance(backbone, ClipBackbone):
            raise ConfigError('key \'adapter_towers\': "both" needs a text tower; choose a CLIP or "lit:…"')
        return backbone.tuned + backbone.tuned_text

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

    def _recognition(self, logits: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over all columns, weighted by level."""
        levels = [level for level in self.weights if level in logits]
        return {level: self.weights[level] * F.cross_entropy(logits[level], batch[level]) for level in levels}

    def _width(self, features: Tensor, labels: Tensor) -> float:
        return median_spread(features, labels) if self.sigma == "auto" else self.sigma


def moved(
    statistics: Mapping[int, ClassStatistics], before: Tensor, after: Tensor, sigma: float, **kernel: float
) -> dict[int, ClassStatistics]:
    """The classes around means that follow the drift of the images seen now; see `shifted_means`."""
    means = torch.stack([item.mean for item in statistics.values()])
    shifted = shifted_means(means, before, after, sigma, **kernel)
    return {label: item.moved(mean) for (label, item), mean in zip(statistics.items(), shifted, strict=True)}
