"""LIRF: the lower half of the network unlearns, and looks elsewhere than the model before."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convs.backbone import Backbone
from convs.model import freeze
from data.sessions import Session
from models.replay import PLAIN, ReplayLearner
from utils.loop import Batch, Phase
from utils.losses import distillation
from utils.passes import gather
from utils.streams import JoinedStream

# the settings that GS-LoRA's baselines were run with
SHARE, TEMPERATURE = 0.1, 10.0  # a and T
KEEP_WEIGHT = 10.0
FLOOR = 0.005  # less attention than this counts as none


class LIRFLearner(ReplayLearner):
    """(1 − a)·CE(forget, wrong names) − λ·AT + 10·aT²·KD + λ_r·CE(retain), a = 0.1, T = 10.

    AT is the mean squared difference of the student's and the teacher's attention on the exemplars, halfway up: their
    representations are pushed apart. The KD, on the exemplars too, is between the columns of the classes that stay (in
    the published code: the last columns). All above the middle block is frozen. The deposit network, which the
    published code never optimises and which is there to undo the forgetting, is left out.

    Args:
        context, options: see `Learner`.
        reg_weight: λ; None: 300.
        retain_weight: λ_r; None: 5.

    Attributes:
        middle: the last block that is trained.

    Source: Ye et al., Learning with Recoverable Forgetting, ECCV 2022, as in GS-LoRA, CVPR 2024, section 5.
    """

    def __init__(self, *context, reg_weight: float | None = None, retain_weight: float | None = None, **options):
        super().__init__(*context, **options)
        self.reg_weight = 300.0 if reg_weight is None else reg_weight
        self.retain_weight = 5.0 if retain_weight is None else retain_weight

    def moved(self) -> list[nn.Parameter]:
        """Freeze the model but for the lower half of its image tower, embeddings of patches and places included."""
        blocks = self.model.backbone.blocks
        self.middle = blocks[(len(blocks) - 1) // 2]
        whole = super().moved()
        lower = upstream(self.model.backbone, self.middle, whole)
        freeze(self.model)
        for parameter in lower:
            parameter.requires_grad_(True)
        return lower

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase; an epoch is a pass over the exemplars."""
        plain = session.stream(PLAIN["forget"])
        seen = gather(self.model, self._attention, plain, device=self.model.device)
        streams = {
            "forget": JoinedStream(self.taught(session, "forget"), plain.items, seen),
            "retain": self.taught(session, "retain"),
        }
        alive = {"fine": session.alive, "coarse": session.order.coarse_of(session.alive)}
        columns = {level: torch.tensor(alive[level], device=self.model.device) for level in self.levels(session)}
        yield Phase("forget", self.model, streams, partial(self.loss, session, columns), self.part, self.forget)

    def loss(self, session: Session, columns: Mapping[str, Tensor], batches: dict[str, Batch]) -> dict[str, Tensor]:
        """The weighted terms of a step; `columns` are those of the classes that stay."""
        forget, retain = batches["forget"], batches["retain"]
        with heard(self.middle) as tokens:
            outputs = self.outputs({"forget": forget, "retain": retain})
        apart = F.mse_loss(attention(tokens[0][: len(forget["image"])]), forget["teacher.attention"])
        logits = outputs["forget"].logits
        kept = sum(distillation(logits[k][:, c], forget[f"teacher.{k}"][:, c], TEMPERATURE) for k, c in columns.items())
        return {
            "forget": (1 - SHARE) * self.ce(session, outputs["forget"], forget, "wrong."),
            "attention": -self.reg_weight * apart,
            "keep": KEEP_WEIGHT * SHARE * TEMPERATURE**2 * kept,
            "retain": self.retain_weight * self.ce(session, outputs["retain"], retain),
        }

    def _attention(self, batch: Batch) -> dict[str, Tensor]:
        with heard(self.middle) as tokens:
            self.model.backbone(batch["image"])
        return {"teacher.attention": attention(tokens[0])}


def attention(tokens: Tensor) -> Tensor:
    """Where the energy of tokens [B, …, D] lies: the mean of their squares, L2-normalised, [B, D]; crumbs become 0."""
    energy = F.normalize(tokens.square().flatten(1, -2).mean(1), dim=1)
    return energy.where(energy >= FLOOR, 0.0)


@contextmanager
def heard(block: nn.Module) -> Iterator[list[Tensor]]:
    """What a block has put out, call by call, while this lasts."""
    outputs: list[Tensor] = []
    hook = block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()


def upstream(backbone: Backbone, block: nn.Module, params: list[nn.Parameter]) -> list[nn.Parameter]:
    """Those of the parameters that a block's output depends on.

    Autograd finds them, for every library has other names for what stands before its blocks and behind them.
    """
    size = backbone.preprocess.size
    with heard(block) as tokens:
        backbone(torch.zeros(1, 3, size, size, device=params[0].device))
    slopes = torch.autograd.grad(tokens[0].sum(), params, allow_unused=True)
    return [param for param, slope in zip(params, slopes, strict=True) if slope is not None]
