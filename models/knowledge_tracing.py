"""The adapter learner's forget sessions: exemplars of the concept, no retained image."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convs.clip import ClipBackbone
from convs.model import LEVELS, Model
from data.sessions import Session
from models.adapter import AdapterLearner, moved
from models.exemplars import check_rivals, exemplar_fields, original_fields, request_fields, request_terms
from models.unlearn_losses import build_loss
from models.wording import Rows, ensemble_rows, worded_rows
from utils.gaussians import ClassStatistics, cross_modal_statistics, pooled_factor, text_error
from utils.held import Held
from utils.loop import Batch, Phase, Recipe
from utils.losses import relative_drift, without_direction
from utils.streams import DrawnStream, JoinedStream

SHRINK = 1.0  # τ: a prototype moves in full only where the exemplars around it weigh much more


class KnowledgeTracingLearner(AdapterLearner):
    """Learn as SSIAT does; forget by adapters, correct what is retained, realign, erase.

    Args:
        model, first, later, forget: see `Learner`.
        unlearn_loss: name of the loss on the exemplars, see `build_loss`.
        kl_fine, kl_coarse, npo_beta, margin_fine, margin_coarse: its settings; None is its own default.
        feature_weight: of how far the exemplars' features move, see `relative_drift`. The KLs leave directions free in
            which no known name lies, and other classes may drift along them.
        options: see `AdapterLearner`. `ssca` also turns the correction in forget sessions, `ca` the realignment.

    Source: ours; the losses are those of Tan & Gong, Knowledge-Tracing Unlearning, 2025, the learn sessions those of
    SSIAT, CVPR 2024.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"learn", "forget"})

    def __init__(
        self,
        model: Model,
        first: Recipe,
        later: Recipe,
        forget: Recipe | None = None,
        *,
        unlearn_loss: str = "hinge",
        kl_fine: float | None = None,
        kl_coarse: float | None = None,
        npo_beta: float | None = None,
        margin_fine: float | None = None,
        margin_coarse: float | None = None,
        feature_weight: float = 0.0,
        **options,
    ):
        super().__init__(model, first, later, forget, **options)
        self.feature_weight = feature_weight
        margins = {"margin_fine": margin_fine, "margin_coarse": margin_coarse}
        self.rule = build_loss(unlearn_loss, kl_fine=kl_fine, kl_coarse=kl_coarse, npo_beta=npo_beta, **margins)

    def check(self, session: Session) -> None:
        """See that the loss can serve a request."""
        check_rivals(self.rule, session, self._named(session))

    def phases(self, session: Session) -> Iterator[Phase]:
        """Those of the request's kind."""
        return super().phases(session) if session.kind == "learn" else self._forget_phases(session)

    def _forget_phases(self, session: Session) -> Iterator[Phase]:
        """Forget; then correct, realign and erase."""
        plain = session.stream("plain")
        labels, before = plain.labels("fine"), self.features(plain)
        retained = start = self._retained(session, before, labels)
        yield self._unlearn(session, before)
        after = self.features(plain)
        if self.ssca and retained:
            retained = self._followed(session, retained, before, after, labels)
        if self.ca and retained:
            self._move_rows(start, retained, before.norm(dim=1).mean())
            yield self._realign(session, retained, self._seen_again(session, after, labels))
        self._erase(session, retained)

    def _retained(self, session: Session, features: Tensor, labels: Tensor) -> dict[int, ClassStatistics]:
        """The classes to keep: what was remembered of taught ones, and for the others text moved to where images are.

        The latter come from images of the forgotten classes, so they live no longer than the session.
        """
        untaught = [label for label in session.alive if label not in self.statistics]
        made = self._made_of_text(session, untaught, features, labels) if untaught else {}
        return {label: self.statistics.get(label) or made[label] for label in session.alive}

    def _made_of_text(
        self, session: Session, classes: list[int], features: Tensor, labels: Tensor
    ) -> dict[int, ClassStatistics]:
        rows = self._name_directions(session)
        ridge, parents = self._diagonal(features, labels), session.order.parents
        return cross_modal_statistics(
            rows, features, labels, classes, ridge, parents=parents, session=last_lesson(session)
        )

    def _followed(
        self, session: Session, retained: Mapping[int, ClassStatistics], before: Tensor, after: Tensor, labels: Tensor
    ) -> dict[int, ClassStatistics]:
        """The classes to keep, corrected by the drift of the exemplars around them.

        Classes made of text are known less well, so their kernel is wider by the error of that guess; and what an
        exemplar moves along its own name is the forgetting itself, which they do not follow.
        """
        width, kernel = self._width(before, labels), {"floor": 0.0, "shrink": SHRINK}
        taught = {label: item for label, item in retained.items() if label in self.statistics}
        made = {label: item for label, item in retained.items() if label not in taught}
        found = moved(taught, before, after, width, **kernel) if taught else {}
        if made:
            rows = self._name_directions(session)
            drift = without_direction(after - before, rows[labels])
            wider = math.hypot(width, text_error(rows, before, labels))
            found |= moved(made, before, before + drift, wider, **kernel)
        return {label: found[label] for label in retained}

    @torch.no_grad()
    def _move_rows(
        self, before: Mapping[int, ClassStatistics], after: Mapping[int, ClassStatistics], norm: Tensor
    ) -> None:
        """Rows of classes that were never taught go along with their prototypes.

        They were right for images that nobody has seen; samples drawn around a guess of these would bend them to it.
        """
        head = self.model.head("fine")
        if head.width != self.model.backbone.dim:
            return  # a linear classifier's rows are no directions
        rows, untaught = head.weight, [label for label in before if label not in self.statistics]
        drift = {label: (after[label].mean - before[label].mean).to(rows) / norm.to(rows) for label in untaught}
        head.replace({label: rows[label] + rows[label].norm() * drift[label] for label in untaught})

    def _name_directions(self, session: Session) -> Tensor:
        return F.normalize(self._pretrained_rows(session), dim=-1).cpu()

    @torch.no_grad()
    def _pretrained_rows(self, session: Session) -> Tensor:
        """The plain names of all classes seen; without a text tower the rows they were recalled as, or taught."""
        if isinstance(self.model.backbone, ClipBackbone):
            return self.model.known_rows("fine", [session.order.fine[label] for label in session.seen])
        return self.model.head("fine").weight[:, : self.model.backbone.dim]  # the bias of a linear row is no direction

    def _unlearn(self, session: Session, features: Tensor) -> Phase:
        """The adapters alone, by the loss of the request; over a CLIP by the rows and by the plain names alike."""
        sources = self._sources(session)
        originals = {source: rows for source, (rows, _) in sources.items()}
        fields = exemplar_fields(self.model, session, features, originals) | {"feature.before": features}

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["forget"]
            image = self.model.backbone(batch["image"])
            parts = [
                request_terms(self.rule, session, self.model.logits(image, rows()), batch, source)
                for source, (_, rows) in sources.items()
            ]
            terms = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
            if self.feature_weight:
                terms["features"] = self.feature_weight * relative_drift(image, batch["feature.before"])
            return terms

        streams = {"forget": JoinedStream(session.stream("forget"), session.stream("plain").items, fields)}
        return Phase("forget", self.model, streams, loss, self._adapters(), self.forget)

    def _sources(self, session: Session) -> dict[str, tuple[Rows, Callable[[], Rows]]]:
        """By what the exemplars are recognised: name → the original's rows, and a function giving a step's."""
        own = {level: rows.detach() for level, rows in self.model.rows().items()}
        sources = {"rows": (own, lambda: own)}
        if isinstance(self.model.backbone, ClipBackbone):
            worded = worded_rows(self.model, session.order, text_moves=False)
            sources["names"] = (ensemble_rows(self.model, session.order), worded)
        return sources

    def _seen_again(self, session: Session, features: Tensor, labels: Tensor) -> dict[int, ClassStatistics]:
        """The forgotten classes as the trained adapters see their exemplars, around a pooled covariance."""
        ridge, factor = self._diagonal(features, labels), pooled_factor(features, labels)
        means = {label: features[labels == label].mean(0) for label in session.classes}
        parents, lesson = session.order.parents, last_lesson(session)
        return {c: ClassStatistics(mean, factor, ridge, len(features), parents[c], lesson) for c, mean in means.items()}

    def _realign(
        self, session: Session, retained: Mapping[int, ClassStatistics], gone: Mapping[int, ClassStatistics]
    ) -> Phase:
        """The rows alone: retained classes are recognised, forgotten ones are not, their parents still are.

        Rows of classes that were never taught stay; see `_move_rows`.
        """

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            kept, lost = batches["retained"], batches["gone"]
            logits = self.model.classify(kept["feature"]).logits
            terms = {level: F.cross_entropy(values, kept[level]) for level, values in logits.items()}
            logits = self.model.classify(lost["feature"]).logits
            terms["forget"] = request_terms(self.rule, session, logits, lost, "rows")["forget"]
            return terms | ({"parent": _parent_loss(logits["coarse"], lost)} if "coarse" in logits else {})

        streams = {"retained": self._drawn(retained, last_lesson(session)), "gone": self._drawn_gone(session, gone)}
        held = Held(self._realigned(session))
        parameters = self.model.heads.parameters()
        return Phase("realign", self.model, streams, loss, parameters, self._alignment(), None, held)

    def _realigned(self, session: Session) -> list[tuple[torch.nn.Parameter, Tensor]]:
        """All rows, with masks of those that move."""
        fine = {*session.classes, *(label for label in session.alive if label in self.statistics)}
        labels = {"fine": fine, "coarse": session.order.coarse_of((*session.classes, *session.alive))}
        return [part for level in LEVELS for part in self.model.head(level).movable(labels[level])]

    def _drawn_gone(self, session: Session, gone: Mapping[int, ClassStatistics]) -> DrawnStream:
        """Features of the forgotten classes, with what the loss of the request needs."""
        stream = self._drawn(gone, last_lesson(session))
        rows = {level: weight.detach().clone() for level, weight in self.model.rows().items()}
        counts = {level: len(weight) for level, weight in rows.items()}

        def sample(generator: torch.Generator) -> dict[str, Tensor]:
            batch = stream.draw(generator)
            fields = request_fields(session, {level: batch[level] for level in LEVELS}, counts, generator)
            return {**batch, **fields, **original_fields(self.model, batch["feature"], rows, "rows")}

        return DrawnStream(sample, len(stream))

    def _erase(self, session: Session, retained: Mapping[int, ClassStatistics]) -> None:
        """What was known of the forgotten classes goes; so does what was made of their images."""
        taught = [label for label in session.alive if label in self.statistics]
        self.statistics = {label: retained[label] for label in taught}


def last_lesson(session: Session) -> int:
    """The number of the last learn session, from 0; also 0 where there was none yet."""
    return max(session.learned - 1, 0)


def _parent_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy to the parents of what is forgotten at the fine level: a parent may have no other samples."""
    stays = batch["goal"] == LEVELS.index("fine")
    return (stays * F.cross_entropy(logits, batch["coarse"], reduction="none")).mean()
