"""The losses of knowledge-tracing unlearning: a `forget` term over the levels to forget, a `keep` term over the rest.

A request decides which levels are forgotten: at goal `fine` forgotten = {fine}, kept = {coarse}; at goal `coarse`
forgotten = {fine, coarse}, kept = {}; on a set of one level forgotten = {fine}, kept = {}. A loss never asks for the
goal. z are the logits of the model in training, o those of the frozen original, y the labels, CE a mean over the batch.

Source of the rule and of every default: Tan & Gong, arXiv 2506.11253 (2025); its settings for dogs. The code published
with it differs: NPO takes log σ of the batch-mean difference and drops the coarse KLs at goal `coarse`; maximum entropy
adds the fine CE there instead of the coarse entropy; the hinge masks the true logit with 0, not −∞; a random label may
be the true one; gradient ascent has no branch; the coarse margin defaults to 1 (here to the fine one, 2).
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.errors import ConfigError, nearest
from utils.losses import elementwise_kl, without_true


@dataclass(frozen=True)
class View:
    """One level of a batch.

    Attributes:
        logits: of the model in training, [B, C].
        original: of the frozen original, [B, C].
        labels: the true columns, [B].
        wrong: another label for each, drawn once per session, [B]; for the losses that relabel.

    Raises:
        ValueError: the two logits differ in shape.
    """

    logits: Tensor
    original: Tensor
    labels: Tensor
    wrong: Tensor | None = None

    def __post_init__(self):
        if self.logits.shape != self.original.shape:
            shapes = f"{list(self.logits.shape)} and {list(self.original.shape)}"
            raise ValueError(f"logits and the original's need one shape, got {shapes}")


Views = Mapping[str, View]


def masked_kl(logits: Tensor, original: Tensor, labels: Tensor) -> Tensor:
    """How far all but the true class have moved against each other: `elementwise_kl` without the true columns.

    Args:
        logits: of the model in training, [B, C].
        original: of the frozen original, [B, C].
        labels: the true columns, [B].

    Returns:
        A scalar, the sum of the divergences over B·(C − 1); 0 where there is one class only.
    """
    return elementwise_kl(without_true(logits, labels), without_true(original, labels))


def hinge(logits: Tensor, labels: Tensor, margin: float) -> Tensor:
    """How much is missing until another class leads the true one by a margin: mean max(0, z_y − max_{j≠y} z_j + m).

    Args:
        logits: [B, C].
        labels: [B].
        margin: in units of the logits.

    Raises:
        ValueError: there is one class only, so none that could lead.
    """
    if logits.shape[1] < 2:
        raise ValueError("the hinge loss needs at least 2 classes: none can lead the only one")
    true = logits.gather(1, labels[:, None])[:, 0]  # [B]
    return F.relu(true - without_true(logits, labels).amax(1) + margin).mean()


def entropy_gap(logits: Tensor) -> Tensor:
    """KL(uniform ‖ softmax z), the mean over the batch; 0 where every class is as likely as any other."""
    return (-log(logits.shape[1]) - F.log_softmax(logits, 1).mean(1)).mean()


def wrong_labels(labels: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """For every label another one, uniform over the other classes.

    Args:
        labels: [N], 0 … classes − 1.
        classes: how many there are.
        generator: the source of randomness, on the CPU.

    Raises:
        ValueError: there is one class only, so no wrong label.
    """
    if classes < 2:
        raise ValueError(f"a wrong label needs at least 2 classes, got {classes}")
    drawn = torch.randint(classes - 1, labels.shape, generator=generator).to(labels)
    return drawn + (drawn >= labels)


class UnlearnLoss(ABC):
    """What one step of unlearning minimises.

    Attributes:
        needs_rival: whether a forgotten level must have a second class, for which the examples can be taken.
    """

    needs_rival: ClassVar[bool] = False

    @abstractmethod
    def forget(self, views: Views) -> Tensor:
        """The term over the levels to forget (at least one), a scalar."""

    def keep(self, forgotten: Views, kept: Views) -> Tensor | None:
        """The term over what is to stay, a weighted scalar; None where the loss has none."""
        return None

    def __call__(self, forgotten: Views, kept: Views) -> dict[str, Tensor]:
        """The named terms; their sum is minimised."""
        keep = self.keep(forgotten, kept)
        return {"forget": self.forget(forgotten)} | ({} if keep is None else {"keep": keep})


class KeepByKL(UnlearnLoss):
    """Losses that stay near the original by λ·KL: whole on kept levels, without the true column on forgotten ones.

    Args:
        kl_fine: λ on fine logits.
        kl_coarse: λ on coarse logits.

    Raises:
        ValueError: one is negative.
    """

    def __init__(self, kl_fine: float, kl_coarse: float):
        if min(kl_fine, kl_coarse) < 0:
            raise ValueError(f"the weights of the KLs must be ≥ 0, got {kl_fine} and {kl_coarse}")
        self.kl = {"fine": kl_fine, "coarse": kl_coarse}

    def keep(self, forgotten: Views, kept: Views) -> Tensor:
        """Σ λ·kl over all levels."""
        moved = [self.kl[level] * masked_kl(v.logits, v.original, v.labels) for level, v in forgotten.items()]
        return sum(moved + [self.kl[level] * elementwise_kl(v.logits, v.original) for level, v in kept.items()])


class KeepByLabels(UnlearnLoss):
    """Losses that keep a level by its labels: CE on the kept levels, nothing where none is kept."""

    def keep(self, forgotten: Views, kept: Views) -> Tensor | None:
        """Σ CE over the kept levels."""
        return _cross_entropy(kept).mean() if kept else None


class GradientAscent(UnlearnLoss):
    """GA: −CE on the forgotten levels, and nothing that keeps."""

    def forget(self, views: Views) -> Tensor:
        """−Σ CE."""
        return -_cross_entropy(views).mean()


class GradientDifference(KeepByLabels, GradientAscent):
    """GDiff: −CE on the forgotten levels, CE on the kept ones (Liu et al., CoLLAs 2022)."""


class KLAscent(KeepByKL, GradientAscent):
    """GA+KL: −CE on the forgotten levels, near the original on all others.

    Args:
        kl_fine, kl_coarse: see `KeepByKL`.
    """

    def __init__(self, kl_fine: float = 20.0, kl_coarse: float = 20.0):
        super().__init__(kl_fine, kl_coarse)


class NPO(KeepByKL):
    """Negative preference: mean_i −(2/β)·log σ(β·(CE_i − CE_i of the original)), CE_i summed over forgotten levels.

    Args:
        npo_beta: β > 0; towards 0 it becomes gradient ascent.
        kl_fine, kl_coarse: see `KeepByKL`.

    Raises:
        ValueError: β is not above 0.

    Source: Zhang et al., Negative Preference Optimization, COLM 2024, equation 3.
    """

    def __init__(self, npo_beta: float = 0.5, kl_fine: float = 20.0, kl_coarse: float = 5.0):
        super().__init__(kl_fine, kl_coarse)
        if npo_beta <= 0:
            raise ValueError(f"npo_beta must be above 0, got {npo_beta}")
        self.beta = npo_beta

    def forget(self, views: Views) -> Tensor:
        """2/β·log 2 at the original's own weights, towards 0 as the true classes become unlikely."""
        before = {level: View(v.original, v.original, v.labels) for level, v in views.items()}
        gain = _cross_entropy(views) - _cross_entropy(before)  # [B]
        return -2 / self.beta * F.logsigmoid(self.beta * gain).mean()


class Hinge(KeepByKL):
    """NHL+KL: on every forgotten level another class must lead the true one by the level's margin.

    Args:
        margin_fine, margin_coarse: in units of the logits.
        kl_fine, kl_coarse: see `KeepByKL`.
    """

    needs_rival = True

    def __init__(
        self,
        margin_fine: float = 2.0,
        margin_coarse: float = 2.0,
        kl_fine: float = 20.0,
        kl_coarse: float = 10.0,
    ):
        super().__init__(kl_fine, kl_coarse)
        self.margins = {"fine": margin_fine, "coarse": margin_coarse}

    def forget(self, views: Views) -> Tensor:
        """Σ hinge; 0, and without gradient, once every example is past its margin."""
        return sum(hinge(view.logits, view.labels, self.margins[level]) for level, view in views.items())


class Relabeling(UnlearnLoss):
    """CE with the wrong labels of the highest forgotten level; also SalUn's, whose mask is not the loss's."""

    needs_rival = True

    def forget(self, views: Views) -> Tensor:
        """CE with `wrong`.

        Raises:
            ValueError: the level has one class only, or its view no wrong labels.
        """
        view = views["coarse" if "coarse" in views else "fine"]
        if view.wrong is None or view.logits.shape[1] < 2:
            raise ValueError("relabeling needs wrong labels, and at least 2 classes for there to be any")
        return F.cross_entropy(view.logits, view.wrong)


class MaximumEntropy(KeepByLabels):
    """ME+GD: every class as likely as any other on the forgotten levels, CE on the kept ones.

    Source: Yuan et al., A Closer Look at Machine Unlearning for Large Language Models, ICLR 2025.
    """

    def forget(self, views: Views) -> Tensor:
        """Σ KL(uniform ‖ softmax z)."""
        return sum(entropy_gap(view.logits) for view in views.values())


class Negation(UnlearnLoss):
    """The fine-tuning before a task vector is subtracted: CE on the forgotten levels, a little −CE on the kept ones.

    Args:
        negation_coarse: the weight of the kept levels' −CE.

    Source: Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023; two levels as in arXiv 2506.11253.
    """

    def __init__(self, negation_coarse: float = 0.05):
        self.share = negation_coarse

    def forget(self, views: Views) -> Tensor:
        """Σ CE: learned better here, to be unlearned by the negation."""
        return _cross_entropy(views).mean()

    def keep(self, forgotten: Views, kept: Views) -> Tensor | None:
        """−share·Σ CE over the kept levels: unlearned here, to be restored by the negation."""
        return -self.share * _cross_entropy(kept).mean() if kept else None


# `unlearn_loss` of an experiment → its class
LOSSES: dict[str, type[UnlearnLoss]] = {
    "ga": GradientAscent,
    "gdiff": GradientDifference,
    "kl": KLAscent,
    "npo": NPO,
    "hinge": Hinge,
    "relabeling": Relabeling,
    "me": MaximumEntropy,
}


def build_loss(name: str, **settings: float | None) -> UnlearnLoss:
    """A loss by its name in an experiment.

    Args:
        name: a key of `LOSSES`.
        settings: keys of the experiment; those the loss does not have are left aside, and None is its own default.

    Raises:
        ConfigError: unknown name.
    """
    if name not in LOSSES:
        raise ConfigError(f"key 'unlearn_loss': no loss '{name}'{nearest(name, LOSSES)}")
    known = inspect.signature(LOSSES[name]).parameters
    return LOSSES[name](**{key: value for key, value in settings.items() if key in known and value is not None})


def _cross_entropy(views: Views) -> Tensor:
    """CE of every example, summed over the levels, [B]."""
    return sum(F.cross_entropy(view.logits, view.labels, reduction="none") for view in views.values())
