"""What the baselines of unlearning share: one phase on the exemplars, by one loss."""

from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from convs.clip import ClipBackbone
from convs.model import Model
from data.sessions import Session
from models.exemplars import check_rivals, exemplar_fields, request_terms
from models.learner import Learner
from models.tuning import tuned_part
from models.unlearn_losses import UnlearnLoss, build_loss
from models.wording import Rows, Wording, reword
from utils.loop import Batch, Phase, Recipe, Stream
from utils.streams import JoinedStream, TensorStream


class Unlearner(Learner):
    """Minimise one loss over the exemplars of a request, from a model that knows them.

    The model being trained words all names by one random template a step; the original, and every evaluation, average
    over the templates. Without a text tower both are taken against the classifier's rows.

    Args:
        model, first, later, forget: see `Learner`.
        tune: what moves, see `tuned_part`.
        ffn_num, adapter_scale, adapter_dropout: of adapters, see `inject_adapters`.
        lora_rank, lora_alpha: of LoRA, see `inject_lora`.
        settings: of the loss, see `build_loss`; None is the loss's own default.

    Attributes:
        loss: the name of the loss in `unlearn_losses.LOSSES`.

    Source: Tan & Gong, Knowledge-Tracing Unlearning, 2025, sections 3 and 4.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"forget"})
    loss: ClassVar[str]

    def __init__(
        self,
        model: Model,
        first: Recipe,
        later: Recipe,
        forget: Recipe,
        *,
        tune: str = "all",
        ffn_num: int = 64,
        adapter_scale: float = 0.1,
        adapter_dropout: float = 0.1,
        lora_rank: int = 8,
        lora_alpha: float = 1.0,
        kl_fine: float | None = None,
        kl_coarse: float | None = None,
        npo_beta: float | None = None,
        margin_fine: float | None = None,
        margin_coarse: float | None = None,
    ):
        super().__init__(model, first, later, forget)
        margins = {"margin_fine": margin_fine, "margin_coarse": margin_coarse}
        self.rule = self.build_rule(kl_fine=kl_fine, kl_coarse=kl_coarse, npo_beta=npo_beta, **margins)
        self.tune = tune
        self.part = tuned_part(
            model,
            tune,
            ffn_num=ffn_num,
            adapter_scale=adapter_scale,
            adapter_dropout=adapter_dropout,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
        )

    def build_rule(self, **settings: float | None) -> UnlearnLoss:
        """The loss, by the settings of the experiment."""
        return build_loss(self.loss, **settings)

    @property
    def text_moves(self) -> bool:
        """Whether names will read otherwise after training."""
        return isinstance(self.model.backbone, ClipBackbone) and self.tune in ("all", "text")

    def check(self, session: Session) -> None:
        """See that the loss can serve a request."""
        check_rivals(self.rule, session, self.model.rows())

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase; then the rows are worded anew where the text tower has moved."""
        yield self._forget(session, self._exemplars(session))
        self._reword(session)

    def _forget(self, session: Session, stream: Stream, **hooks: Callable[[], None]) -> Phase:
        rows = self._step_rows(session)

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["forget"]
            logits = self.model.logits(self._encode(batch), rows())
            return request_terms(self.rule, session, logits, batch, "original")

        return Phase("forget", self.model, {"forget": stream}, loss, self.part, self.forget, **hooks)

    def _step_rows(self, session: Session) -> Callable[[], Rows]:
        if isinstance(self.model.backbone, ClipBackbone):
            wording = Wording(self.model, session.order, self.text_moves)
            return lambda: wording.rows(wording.draw())
        return self.model.rows

    def _encode(self, batch: Batch) -> Tensor:
        return batch["feature"] if "feature" in batch else self.model.backbone(batch["image"])

    def _exemplars(self, session: Session) -> Stream:
        """The exemplars, with what the original said of them; as features where the image tower is frozen."""
        plain = session.stream("plain")
        features = self.features(plain)
        fields = exemplar_fields(self.model, session, features, {"original": self.model.rows()})
        if self.tune == "text":
            return TensorStream({"feature": features} | fields)
        return JoinedStream(session.stream("forget"), plain.items, fields)

    @torch.no_grad()
    def _reword(self, session: Session) -> None:
        if self.text_moves:
            everything = {level: range(len(rows)) for level, rows in self.model.rows().items()}
            reword(self.model, session.order, everything)


class GradientAscentLearner(Unlearner):
    """GA: ascend on the exemplars, and nothing that keeps the rest."""

    loss = "ga"


class GradientDifferenceLearner(Unlearner):
    """GDiff: ascend on the forgotten level, descend on the kept one."""

    loss = "gdiff"


class KLAscentLearner(Unlearner):
    """GA+KL: ascend, near the original on all other classes."""

    loss = "kl"


class NPOLearner(Unlearner):
    """NPO+KL: negative preference, near the original on all other classes."""

    loss = "npo"


class HingeLearner(Unlearner):
    """NHL+KL: another class must lead by a margin, near the original on all other classes."""

    loss = "hinge"


class MaximumEntropyLearner(Unlearner):
    """ME+GD: every class as likely as any other on the forgotten level, descend on the kept one."""

    loss = "me"
