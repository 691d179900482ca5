"""L2, EWC and MAS: new names for what comes, wrong ones for what goes, every weight on a spring to where it was."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from data.sessions import Session
from models.learner import new_classes_ce, open_rows
from models.replay import ReplayLearner
from utils.loop import Batch, Phase
from utils.passes import gradient_sums
from utils.streams import JoinedStream, PooledStream

PREFIX = "terms."


@dataclass(frozen=True)
class Term:
    """Springs: Σ_i Ω_i(θ_i − θ0_i)².

    Attributes:
        importance: Ω, a tensor of each parameter's shape or one number for all of it.
        anchor: θ0, in the same order.
    """

    importance: list[Tensor]
    anchor: list[Tensor]

    def __call__(self, params: Sequence[Tensor]) -> Tensor:
        """Parameters → a scalar."""
        parts = zip(self.importance, params, self.anchor, strict=True)
        return sum((omega * (value - start).square()).sum() for omega, value, start in parts)

    def __add__(self, later: "Term") -> "Term":
        """Both importances around the later anchor."""
        return Term([one + other for one, other in zip(self.importance, later.importance, strict=True)], later.anchor)


class QuadraticLearner(ReplayLearner):
    """CE over one shuffled set of (forget, wrong names) and (retain, true names) + λ·Σ_terms Σ_i Ω_i(θ_i − θ0_i)².

    The first term is made before the first request, a further one after every request: on its retained images, with
    the weights of that moment as anchor. To learn: CE over the new columns + the same springs, of which every session
    leaves a term made on its own images. The anchors are earlier models, which know what has been forgotten since; they
    stay in every checkpoint, and later sessions are drawn towards them: whoever must erase takes another method.

    Args:
        context, options: see `ReplayLearner`.
        reg_weight: λ; None: the method's own.
        online: one running term: importances are added, the anchor moves (Schwarz et al., ICML 2018).

    Attributes:
        own_weight: the method's own λ.
        terms: those made so far, oldest first.

    Source: Kirkpatrick et al., PNAS 2017; to forget as baselines of GS-LoRA, CVPR 2024, section 5.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"learn", "forget"})
    own_weight: ClassVar[float]

    def __init__(self, *context, reg_weight: float | None = None, online: bool = False, **options):
        super().__init__(*context, **options)
        self.reg_weight = self.own_weight if reg_weight is None else reg_weight
        self.online, self.terms = online, []

    @abstractmethod
    def importance(self, session: Session) -> list[Tensor]:
        """Ω of every parameter that moves, on the images of what a session wants known."""

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase, and a term; before the first request there is a term already."""
        if session.kind == "learn":
            yield self._learn(session)
        else:
            self.terms = self.terms or [self._term(session)]
            yield self._unlearn(session)
        term = self._term(session)
        self.terms = [self.terms[0] + term] if self.online and self.terms else [*self.terms, term]

    def _unlearn(self, session: Session) -> Phase:
        """An epoch is a pass over the pooled set."""
        streams = {"pool": self._pool(session)}
        return Phase("forget", self.model, streams, partial(self.loss, session), self.part, self.forget)

    def _learn(self, session: Session) -> Phase:
        rows, held = open_rows(self.model, session)

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["train"]
            ce = {"ce": new_classes_ce(self.model(batch["image"]).logits["fine"], batch["fine"], session)}
            return ce | ({"penalty": self._penalty()} if self.terms else {})

        streams = {"train": session.stream("train")}
        return Phase("learn", self.model, streams, loss, [*self.part, *rows], self.recipe(session), None, held)

    def loss(self, session: Session, batches: dict[str, Batch]) -> dict[str, Tensor]:
        """CE of the pooled batch, and the springs."""
        batch = batches["pool"]
        ce = self.ce(session, self.model(batch["image"]), batch)
        return {"ce": ce, "penalty": self._penalty()}

    def _penalty(self) -> Tensor:
        return self.reg_weight * sum(term(self.part) for term in self.terms)

    def _pool(self, session: Session) -> PooledStream:
        plain = session.stream("plain")
        forget = JoinedStream(session.stream("forget"), plain.items, self.wrong(session, plain))
        return PooledStream((forget, session.stream("retain")))

    def _term(self, session: Session) -> Term:
        return Term(self.importance(session), [parameter.detach().clone() for parameter in self.part])

    def mean_slopes(
        self, session: Session, loss: Callable[[Batch], Tensor], each: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """The mean of a function of the gradient of every single example, for every parameter that moves.

        Args:
            session: whose retained images are the examples, or all those it teaches.
            loss: takes a batch of one example.
            each: of the gradient.
        """
        stream = session.stream("plain" if session.kind == "learn" else "retain_plain")
        how = {"batch_size": 1, "device": self.model.device, "title": "importance", "each": each}
        return [total / len(stream) for total in gradient_sums(self.model, loss, stream, self.part, **how)]

    def state_dict(self) -> dict[str, Tensor]:
        """What training changed, and the terms."""
        stored = {
            f"{PREFIX}{number}.{part}.{place}": value
            for number, term in enumerate(self.terms)
            for part, values in vars(term).items()
            for place, value in enumerate(values)
        }
        return super().state_dict() | stored

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        names = [name.removeprefix(PREFIX) for name in state if name.startswith(PREFIX)]
        count = 1 + max((int(name.split(".")[0]) for name in names), default=-1)

        def values(number: int, part: str) -> list[Tensor]:
            stored = (state[f"{PREFIX}{number}.{part}.{place}"] for place in range(len(self.part)))
            return [value.to(self.model.device) for value in stored]

        self.terms = [Term(values(number, "importance"), values(number, "anchor")) for number in range(count)]
        super().load_state_dict({name: value for name, value in state.items() if not name.startswith(PREFIX)})


class L2Learner(QuadraticLearner):
    """Ω = 1: no weight far from where it was."""

    own_weight = 0.05

    def importance(self, session: Session) -> list[Tensor]:
        """One, of whatever shape."""
        return [torch.ones((), device=self.model.device) for _ in self.part]


class EWCLearner(QuadraticLearner):
    """Ω = the mean over examples of (∂CE/∂θ)²: the empirical Fisher information, example by example.

    Source: Kirkpatrick et al., PNAS 2017, which has the expectation over the model's own labels; with the true ones as
    in GS-LoRA.
    """

    own_weight = 10.0

    def importance(self, session: Session) -> list[Tensor]:
        """The squared gradients of the cross-entropy with the true names."""
        return self.mean_slopes(
            session, lambda batch: self.ce(session, self.model(batch["image"]), batch), torch.square
        )


class MASLearner(QuadraticLearner):
    """Ω = the mean over examples of |∂ mean(z²)/∂θ|, the mean over the logits z; no label is asked for.

    Source: Aljundi et al., Memory Aware Synapses, ECCV 2018, section 4.1, which has the sum of the squares.
    """

    own_weight = 0.005

    def importance(self, session: Session) -> list[Tensor]:
        """The sizes of the gradients of the logits' mean square, summed over the session's levels."""

        def energy(batch: Batch) -> Tensor:
            logits = self.model(batch["image"]).logits
            return sum(logits[level].square().mean() for level in self.levels(session))

        return self.mean_slopes(session, energy, torch.abs)
