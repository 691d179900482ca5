"""Making a backbone: contrastive with captions, supervised, or a text tower beside a locked image tower."""

import json
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from convs.clip import ClipBackbone
from convs.model import LEVELS, Model, freeze
from data.sessions import ClassOrder, Session
from models.learner import Learner, Product
from utils.errors import ConfigError
from utils.loop import Batch, Phase, Recipe, Stream
from utils.losses import contrastive, same
from utils.streams import TensorStream


class PretrainLearner(Learner):
    """One session over all classes, from random or given weights.

    A CLIP is trained by contrast at both levels of names: every step words each class of the batch anew, by a random
    template and now and then by an alias. A ViT is trained by cross-entropy at both levels.

    Args:
        model, first, later: see `Learner`.
        tune: `all`, or `text`: the image tower is locked and its un-augmented features are computed once.
        alias_share: how often a class is called by an alias, where it has one.

    Raises:
        ConfigError: another `tune`, `text` without a text tower, or a session that leaves classes to later ones.

    Source: Radford et al., CLIP, ICML 2021; Zhai et al., LiT, CVPR 2022 (`tune: text`); two levels of captions ours.
    """

    def __init__(self, model: Model, first: Recipe, later: Recipe, *, tune: str = "all", alias_share: float = 0.25):
        super().__init__(model, first, later)
        self.alias_share, self.locked = alias_share, tune == "text"
        if tune not in ("all", "text"):
            raise ConfigError(f'key \'tune\': learner \'pretrain\' trains "all" or "text", not "{tune}"')
        if self.locked and not isinstance(model.backbone, ClipBackbone):
            raise ConfigError("key 'tune': \"text\" needs a text tower; choose a CLIP or \"lit:…\" as 'convnet_type'")
        if self.locked:
            freeze(model.backbone.net.visual)

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase; the classifier rows of a CLIP are worded from its text tower afterwards."""
        if len(session.seen) < len(session.order.fine):
            raise ConfigError("learner 'pretrain' takes all classes in one session; set 'init_cls' to \"all\"")
        if isinstance(self.model.backbone, ClipBackbone):
            yield self._contrast(session)
            self._grow(session.order)
        else:
            self._grow(session.order)
            yield self._supervise(session)

    def _grow(self, order: ClassOrder) -> None:
        for level in LEVELS:
            self.model.grow(level, getattr(order, level))

    def _supervise(self, session: Session) -> Phase:
        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            logits = self.model(batches["train"]["image"]).logits
            return {level: F.cross_entropy(logits[level], batches["train"][level]) for level in LEVELS}

        streams = {"train": session.stream("train")}
        return Phase("supervise", self.model, streams, loss, self._moved(), self.recipe(session))

    def _contrast(self, session: Session) -> Phase:
        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["train"]
            image = batch["feature"] if self.locked else self.model.backbone(batch["image"])
            image = F.normalize(image, dim=-1)
            return {level: self._level_contrast(image, batch[level], session.order, level) for level in LEVELS}

        streams = {"train": self._features(session) if self.locked else session.stream("train")}
        return Phase("contrast", self.model, streams, loss, self._moved(), self.recipe(session))

    def _level_contrast(self, image: Tensor, labels: Tensor, order: ClassOrder, level: str) -> Tensor:
        present = labels.unique()
        texts = self._captions([getattr(order, level)[label] for label in present.tolist()], order)
        text = F.normalize(self.model.backbone.encode_text(texts), dim=-1)
        return contrastive(image, text, same(labels, present), self.model.backbone.net.logit_scale.exp())

    def _captions(self, names: Sequence[str], order: ClassOrder) -> list[str]:
        templates = self.model.templates
        choice = torch.randint(len(templates), (len(names),)).tolist()
        nicknamed = torch.rand(len(names)) < self.alias_share
        return [
            templates[pick].replace("{}", _alias(name, order) if nickname else name)
            for name, pick, nickname in zip(names, choice, nicknamed.tolist(), strict=True)
        ]

    def _features(self, session: Session) -> Stream:
        plain = session.stream("plain")
        labels = {level: plain.labels(level) for level in LEVELS}
        return TensorStream({"feature": self.features(plain)} | labels)

    def _moved(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def products(self, session: Session) -> dict[str, Product]:
        """`weights.safetensors`: the tower in fp16 and, for a ViT, its rows; loads as `weights` of a config."""
        tensors = {f"net.{name}": value for name, value in self.model.backbone.net.state_dict().items()}
        if not isinstance(self.model.backbone, ClipBackbone):
            tensors |= {f"heads.{level}": head.weight for level, head in self.model.heads.items()}
        names = {level: list(getattr(session.order, level)) for level in LEVELS}
        half = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
        return {"weights.safetensors": (half, {"classes": json.dumps(names, ensure_ascii=False)})}


def _alias(name: str, order: ClassOrder) -> str:
    known = order.aliases.get(name, ())
    return known[torch.randint(len(known), ()).item()] if known else name
