"""Retraining: everything granted, from the beginning."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from data.sessions import Session
from models.learner import Learner
from models.wording import known_names
from utils.errors import ConfigError
from utils.loop import Batch, Phase, Recipe, Stream


class RetrainLearner(Learner):
    """Every session starts anew, classifier included, and never looks back.

    A learn session starts from the pre-trained weights and sees all images so far: the upper bound of learning. A
    forget session sees the retained images that its request grants, at both levels where the model names parents; rows
    of forgotten classes stay as candidates, but fresh ones that no image supports. With `"retain": "all"` that is the
    retrained model of the unlearning literature, as far as the model was made of this data set. With a small replay
    set it is no oracle: a network trained on a few images is no model of what the other images have taught.

    From scratch, the text tower of a CLIP forgets all words, too, and nothing here teaches it any: read a retrained
    CLIP by its rows, or use the learner `oracle`.

    Args:
        context, options: see `Learner`; every learn session uses `first`, for every session starts anew.
        retrain_from: where a forget session starts: `scratch` (random weights) or `pretrained`.

    Source: the joint upper bound of the class-incremental literature (e.g. SSIAT, CVPR 2024, table 1); of forgetting,
    "Retrain" of GS-LoRA, CVPR 2024, section 5, whose code trains on the replay set alone.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"learn", "forget"})
    sees_past = True

    def __init__(self, *context, retrain_from: str = "scratch", **options):
        super().__init__(*context, **options)
        self.scratch = retrain_from == "scratch"
        self.pretrained = {name: value.detach().clone() for name, value in self.model.backbone.state_dict().items()}

    def check(self, session: Session) -> None:
        """See that there is something to train on."""
        shown = "retain" in session.streams and set(session.alive) - set(session.missing)
        if session.kind == "forget" and not shown:
            raise ConfigError(
                f"key 'sessions': session {session.index} shows no image of what is to stay, and a retrained model is "
                'trained on nothing else; grant some in the request: "retain": "all" or {"ratio": 0.1}'
            )

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase over a fresh model: on the images of all classes alive, or on those to retain."""
        if session.kind == "learn":
            self._begin({"fine": [session.order.fine[label] for label in session.seen]}, scratch=False)
            yield self._train(session.stream("joint"), self.first)
        else:
            self._begin(known_names(self.model, session.order), self.scratch)
            yield self._train(session.stream("retain"), self.forget)

    def _begin(self, names: Mapping[str, Sequence[str]], scratch: bool) -> None:
        if scratch:
            self.model.backbone.reset()
        else:
            self.model.backbone.load_state_dict(self.pretrained)
        self.model.reset_heads()
        for level, some in names.items():
            self.model.grow(level, some)

    def _train(self, stream: Stream, recipe: Recipe) -> Phase:
        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["joint"]
            logits = self.model(batch["image"]).logits
            return {"ce": sum(F.cross_entropy(values, batch[level]) for level, values in logits.items())}

        return Phase("retrain", self.model, {"joint": stream}, loss, self.model.parameters(), recipe)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` gave; its rows replace those of classes known from the start."""
        self.model.reset_heads()
        super().load_state_dict(state)
