"""Making a backbone: contrastive with captions, supervised, or a text tower beside a locked image tower."""

import json
from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from convs.clip import ClipBackbone
from convs.heads import MARGINS, Margin
from convs.model import LEVELS, Model, freeze
from data.sessions import ClassOrder, Session
from models.learner import Learner, Product
from utils.checkpoint import write_tensors
from utils.errors import ConfigError, nearest
from utils.loop import Batch, Phase, Recipe, Stream
from utils.losses import contrastive, same
from utils.streams import TensorStream


class PretrainLearner(Learner):
    """One session over all classes, from random or given weights.

    A CLIP is trained by contrast at both levels of names: every step words each class of the batch anew, by a random
    template and now and then by an alias. A ViT is trained by the loss of its margin head, at both levels where the set
    has two.

    Args:
        model, first, later: see `Learner`.
        tune: `all`, or `text`: the image tower is locked and its un-augmented features are computed once.
        alias_share: how often a class is called by an alias, where it has one.
        margin_head: a key of `convs.heads.MARGINS`, for a ViT; `softmax` is the cross-entropy.
        margin: the head's margin; 0: its own.

    Raises:
        ConfigError: another `tune`, `text` without a text tower, a margin that the head does not know, or a session
            that leaves classes to later ones.

    Source: Radford et al., CLIP, ICML 2021; Zhai et al., LiT, CVPR 2022 (`tune: text`); margin heads as in Zhong &
    Deng, arXiv 2103.14803 (2021); two levels of captions ours.
    """

    def __init__(
        self,
        model: Model,
        first: Recipe,
        later: Recipe,
        *,
        tune: str = "all",
        alias_share: float = 0.25,
        margin_head: str = "softmax",
        margin: float = 0.0,
    ):
        super().__init__(model, first, later)
        self.alias_share, self.locked = alias_share, tune == "text"
        if tune not in ("all", "text"):
            raise ConfigError(f'key \'tune\': learner \'pretrain\' trains "all" or "text", not "{tune}"')
        if self.locked and not isinstance(model.backbone, ClipBackbone):
            raise ConfigError("key 'tune': \"text\" needs a text tower; choose a CLIP or \"lit:…\" as 'convnet_type'")
        if self.locked:
            freeze(model.backbone.net.visual)
        self.head, self.margin = self._margin_head(margin_head, margin)

    def _margin_head(self, name: str, margin: float) -> tuple[Margin, float]:
        if name not in MARGINS:
            raise ConfigError(f"key 'margin_head': no head '{name}'{nearest(name, MARGINS)}")
        head = MARGINS[name]
        if name != "softmax" and isinstance(self.model.backbone, ClipBackbone):
            raise ConfigError(f"key 'margin_head': an image–text model is trained by contrast, not by '{name}'")
        if margin and head.margin is None:
            raise ConfigError(f"key 'margin': the head '{name}' has no margin; leave it out or choose another head")
        return head, margin or head.margin or 0.0

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
        for level in self._levels(order):
            self.model.grow(level, getattr(order, level))

    def _levels(self, order: ClassOrder) -> tuple[str, ...]:
        """The levels that get rows: a ViT's coarse ones say nothing new where the names are the fine ones."""
        return LEVELS if order.two_levels or isinstance(self.model.backbone, ClipBackbone) else ("fine",)

    def _supervise(self, session: Session) -> Phase:
        levels, scale = self._levels(session.order), self.model.scale

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["train"]
            features = self.model.backbone(batch["image"])
            cosines = {level: self.model.head(level)(features) for level in levels}
            return {level: self.head.loss(cosines[level], batch[level], scale, self.margin) for level in levels}

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
            tensors |= {f"heads.{level}": rows for level, rows in self.model.rows().items()}
        names = {level: list(getattr(session.order, level)) for level in self._levels(session.order)}
        half = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
        look = self.model.backbone.preprocess.described()
        notes = {"classes": json.dumps(names, ensure_ascii=False), "preprocess": json.dumps(look)}
        return {"weights.safetensors": partial(write_tensors, tensors=half, notes=notes)}


def _alias(name: str, order: ClassOrder) -> str:
    known = order.aliases.get(name, ())
    return known[torch.randint(len(known), ()).item()] if known else name
