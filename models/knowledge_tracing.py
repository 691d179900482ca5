"""The adapter learner's forget sessions: exemplars of the concept, no retained image."""

import math
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convs.clip import ClipBackbone
from convs.model import LEVELS
from data.sessions import Session
from models.adapter import AdapterLearner, moved
from models.exemplars import check_rivals, exemplar_fields, original_fields, request_fields, request_terms
from models.unlearn_losses import build_loss
from models.wording import Rows, Wording, ensemble_rows, reword
from utils.gaussians import ClassStatistics, class_means, cross_modal_statistics, pooled_factor, text_error
from utils.held import Held
from utils.loop import Batch, Phase
from utils.losses import relative_drift, without_direction
from utils.streams import DrawnStream, JoinedStream

SHRINK = 1.0  # τ: a prototype moves in full only where the exemplars around it weigh much more


class KnowledgeTracingLearner(AdapterLearner):
    """Learn as SSIAT does; forget by adapters, correct what is retained, realign, erase.

    Args:
        context, options: see `AdapterLearner`. `ssca` also turns the correction in forget sessions, `ca` the
            realignment.
        unlearn_loss: name of the loss on the exemplars, see `build_loss`.
        kl_fine, kl_coarse, npo_beta, margin_fine, margin_coarse: its settings; None is its own default.
        feature_weight: of how far the exemplars' features move, see `relative_drift`. The KLs leave directions free in
            which no known name lies, and other classes may drift along them.
        name_weight: where the text tower has adapters, of how far the names to keep move. Of what is to be kept there
            is no image, but there are the names.

    Source: ours; the losses are those of Tan & Gong, Knowledge-Tracing Unlearning, 2025, the learn sessions those of
    SSIAT, CVPR 2024.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"learn", "forget"})

    def __init__(
        self,
        *context,
        unlearn_loss: str = "hinge",
        kl_fine: float | None = None,
        kl_coarse: float | None = None,
        npo_beta: float | None = None,
        margin_fine: float | None = None,
        margin_coarse: float | None = None,
        feature_weight: float = 0.0,
        name_weight: float = 10.0,
        **options,
    ):
        super().__init__(*context, **options)
        self.feature_weight, self.name_weight = feature_weight, name_weight
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
        directions = self._name_directions(session)
        yield self._unlearn(session, before)
        after = self.features(plain)
        if self.ssca and retained:
            retained = self._followed(retained, before, after, labels, directions)
        if self.text_moves:
            self._reword(session)
        elif self.ca and retained:
            self._move_rows(start, retained, before.norm(dim=1).mean())
        if self.ca and retained and (self.statistics or not self.text_moves):
            yield self._realign(session, retained, self._seen_again(session, after, labels))
        self._erase(session, retained)

    @property
    def text_moves(self) -> bool:
        """Whether names will read otherwise after a forget session."""
        return self.adapter_towers == "both"

    def _reword(self, session: Session) -> None:
        """Rows of classes that were never taught are what their names are now."""
        untaught = [label for label in session.seen if label not in self.statistics]
        taught = set(session.order.coarse_of(tuple(self.statistics)))
        parents = [label for label in session.order.coarse_of(tuple(untaught)) if label not in taught]
        reword(self.model, session.order, {"fine": untaught, "coarse": parents})

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
        self,
        retained: Mapping[int, ClassStatistics],
        before: Tensor,
        after: Tensor,
        labels: Tensor,
        directions: Tensor,
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
            drift = without_direction(after - before, directions[labels])
            wider = math.hypot(width, text_error(directions, before, labels))
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
        own = {level: rows.detach() for level, rows in self.model.rows().items()}
        wording, originals, kept = self._wording(session), self._originals(session, own), kept_labels(session)
        fields = exemplar_fields(self.model, session, features, originals) | {"feature.before": features}

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["forget"]
            image = self.model.backbone(batch["image"])
            template = wording.draw() if wording else 0
            rows = {"rows": own} | ({"names": wording.rows(template)} if wording else {})
            logits = {source: self.model.logits(image, rows[source]) for source in originals}
            parts = [request_terms(self.rule, session, found, batch, source) for source, found in logits.items()]
            terms = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
            if self.feature_weight:
                terms["features"] = self.feature_weight * relative_drift(image, batch["feature.before"])
            if self.text_moves and self.name_weight:
                terms["names"] = self.name_weight * _drift(rows["names"], wording.originals[template], kept)
            return terms

        streams = {"forget": JoinedStream(session.stream("forget"), session.stream("plain").items, fields)}
        return Phase("forget", self.model, streams, loss, self._adapters(), self.forget)

    def _wording(self, session: Session) -> Wording | None:
        if isinstance(self.model.backbone, ClipBackbone):
            return Wording(self.model, session.order, self.text_moves, remember=True)
        return None

    def _originals(self, session: Session, own: Rows) -> dict[str, Rows]:
        """By what the exemplars are recognised, and the original's rows for it.

        Rows that will follow their names, because none was taught, are no source of their own.
        """
        sources = {} if self.text_moves and not self.statistics else {"rows": own}
        if isinstance(self.model.backbone, ClipBackbone):
            sources["names"] = ensemble_rows(self.model, session.order)
        return sources

    def _seen_again(self, session: Session, features: Tensor, labels: Tensor) -> dict[int, ClassStatistics]:
        """The forgotten classes as the trained adapters see their exemplars, around a pooled covariance."""
        ridge, factor = self._diagonal(features, labels), pooled_factor(features, labels)
        means = zip(session.classes, class_means(features, labels, session.classes), strict=True)
        parents, lesson = session.order.parents, last_lesson(session)
        return {c: ClassStatistics(mean, factor, ridge, len(features), parents[c], lesson) for c, mean in means}

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


def kept_labels(session: Session) -> dict[str, list[int]]:
    """Level → labels that a request leaves: a parent goes only with all its children."""
    staying = [label for label, goal in session.goals.items() if goal == "fine"]
    return {"fine": list(session.alive), "coarse": list(session.order.coarse_of((*session.alive, *staying)))}


def _drift(after: Rows, before: Rows, labels: Mapping[str, list[int]]) -> Tensor:
    """How far some rows have moved, summed over the levels that have such."""
    levels = [level for level in after if labels[level]]
    parts = [relative_drift(after[level][labels[level]], before[level][labels[level]]) for level in levels]
    return sum(parts, after["fine"].new_zeros(()))


def _parent_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy to the parents of what is forgotten at the fine level: a parent may have no other samples."""
    stays = batch["goal"] == LEVELS.index("fine")
    return (stays * F.cross_entropy(logits, batch["coarse"], reduction="none")).mean()
