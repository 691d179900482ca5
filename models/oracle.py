"""The oracle of unlearning: a model that has never seen what the others are asked to forget."""

from collections.abc import Collection, Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from convs.backbone import Backbone, TrainedHead
from convs.clip import ClipBackbone
from convs.model import ROW_STD
from data.sessions import Session
from models.learner import Learner
from models.wording import known_names
from utils.errors import ConfigError, WeightsError, nearest
from utils.loop import Phase


class OracleLearner(Learner):
    """Serve every request by the weights of a model made without the concepts; "before" stays the original.

    The classifier's rows are worded anew by its text tower. Without one they are those that came with its weights; a
    class it does not know gets a random row, for it stays a candidate.

    Args:
        context, options: see `Learner`; nothing is trained.
        oracle_weights: of the same architecture, in what forms `weights` may have (the `pretrain` learner writes one).
            One oracle serves all requests and has seen the concepts of none: until its own request a concept counts
            as retained, and is lost.

    Raises:
        WeightsError: there are no such weights, or they are of another architecture.

    Source: the retrained model of the unlearning literature, which Tan & Gong, 2025 cannot have for a public CLIP; ours
    for the embedded world.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"forget"})

    def __init__(self, *context, oracle_weights: str | None = None, **options):
        super().__init__(*context, **options)
        tower = self.model.backbone
        self.source = oracle_weights
        self.oracle = _built(tower, oracle_weights) if oracle_weights else None
        self.brought = self.oracle.trained_heads if self.oracle else {}
        if self.oracle:
            self.oracle.trained_heads = _completed(tower.trained_heads, self.brought, tower.dim)

    def check(self, session: Session) -> None:
        """See that there is an oracle, that it has not seen what is to go, and that it is of these classes."""
        if self.oracle is None:
            raise ConfigError(
                "key 'oracle_weights': learner 'oracle' needs weights of a model that has never seen the concepts; "
                "the learner 'pretrain' makes them, with \"exclude\""
            )
        for level in self._recalled():
            goes, stays = _asked(session, level)
            known = self.brought[level].names if level in self.brought else ()
            if seen := [name for name in goes if name in known]:
                raise WeightsError(
                    f"key 'oracle_weights': {self.source} has a row of '{seen[0]}', which session {session.index} asks "
                    "to forget; an oracle has never seen it"
                )
            if stays and not set(stays) & set(known):
                raise WeightsError(
                    f"key 'oracle_weights': {self.source} knows none of the {level} classes that are to stay, such as "
                    f"'{stays[0]}'{nearest(stays[0], known)}"
                )

    def _recalled(self) -> Collection[str]:
        """The levels whose rows must come with the weights: none if a text tower words them, or all is random."""
        worded = isinstance(self.model.backbone, ClipBackbone) or self.source == "random"
        return () if worded else self.model.rows()

    def phases(self, session: Session) -> Iterator[Phase]:
        """No phase: other weights, and rows by them."""
        names = known_names(self.model, session.order)
        self._take_over()
        self.model.reset_heads()
        for level, some in names.items():
            self.model.recall(level, some)
        yield from ()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` gave, after a request: that is the oracle."""
        self._take_over()
        super().load_state_dict(state)

    def _take_over(self) -> None:
        self.model.backbone.load_state_dict(self.oracle.state_dict())
        self.model.backbone.trained_heads = self.oracle.trained_heads
        self.model.backbone.preprocess = self.oracle.preprocess


def _built(backbone: Backbone, weights: str) -> Backbone:
    try:
        return backbone.rebuilt(weights)
    except WeightsError as error:
        raise WeightsError(f"key 'oracle_weights': {error}") from error


def _asked(session: Session, level: str) -> tuple[list[str], list[str]]:
    """The names of a level that are to be forgotten, and those that are to stay."""
    order, named = session.order, session.classes if level == "fine" else session.coarse_classes
    stays = session.alive if level == "fine" else order.coarse_of(session.alive)
    names = getattr(order, level)
    return [names[label] for label in named], [names[label] for label in stays]


def _completed(known: dict[str, TrainedHead], brought: dict[str, TrainedHead], dim: int) -> dict[str, TrainedHead]:
    """The rows an oracle brought, and random ones of all else that the original's weights know."""
    empty = TrainedHead((), torch.empty(0, dim))
    return {level: _with(brought.get(level, empty), head.names) for level, head in known.items()}


def _with(head: TrainedHead, names: tuple[str, ...]) -> TrainedHead:
    missing = tuple(name for name in names if name not in head.names)
    fresh = nn.init.trunc_normal_(torch.empty(len(missing), head.rows.shape[1]), std=ROW_STD)
    return TrainedHead((*head.names, *missing), torch.cat([head.rows.cpu(), fresh]))
