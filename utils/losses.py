"""Losses as pure functions of tensors."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def cosface(logits: Tensor, labels: Tensor, margin: float = 0.0) -> Tensor:
    """Large-margin cosine loss: the true class must win by a margin.

    Args:
        logits: scaled cosines s·z, [B, C].
        labels: columns of the true classes, [B].
        margin: subtracted from the true logit, already scaled (s·m).

    Returns:
        The mean over the batch; with margin 0 the plain cross-entropy.

    Source: Wang et al., CosFace, CVPR 2018, equation 4; SSIAT, CVPR 2024, section 3.
    """
    return F.cross_entropy(logits - margin * F.one_hot(labels, logits.shape[1]).to(logits), labels)


def arcface(cosines: Tensor, labels: Tensor, margin: float = 0.5, scale: float = 64.0) -> Tensor:
    """Additive angular margin loss: the true class must win by an angle.

    Where the true angle and the margin together exceed π, cos(θ + m) would rise again; there it is continued by
    cos θ − m·sin m, as in the paper's code.

    Args:
        cosines: of features and class rows, [B, C]; rounding may have carried them past ±1.
        labels: columns of the true classes, [B].
        margin: m, in radians, added to the angle of the true class.
        scale: s.

    Returns:
        The mean over the batch; with margin 0 the cross-entropy of s·cos.

    Source: Deng et al., ArcFace, CVPR 2019, equation 3.
    """
    cosine = cosines.gather(1, labels[:, None])  # [B, 1]
    # the sine's slope is infinite at ±1: held there at as good as 0, it moves nothing
    sine = (1 - cosine * cosine).clamp_min(torch.finfo(cosines.dtype).tiny).sqrt()
    turned = cosine * math.cos(margin) - sine * math.sin(margin)
    turned = torch.where(cosine > -math.cos(margin), turned, cosine - margin * math.sin(margin))
    return F.cross_entropy(scale * cosines.scatter(1, labels[:, None], turned), labels)


def sface(
    cosines: Tensor, labels: Tensor, scale: float = 64.0, k: float = 80.0, a: float = 0.80, b: float = 1.22
) -> Tensor:
    """Sigmoid-constrained hypersphere loss: pulls the true class and pushes the others, each as far as it needs.

    Every cosine moves with the weight s·σ(k(θ_y − a)) for the true class and s·σ(k(b − θ_j)) for another, which are
    constants to the gradient: nearer than a, or farther than b, nothing is done any more.

    Args:
        cosines: of features and class rows, [B, C].
        labels: columns of the true classes, [B].
        scale: s.
        k: steepness of both sigmoids, per radian.
        a: the angle, in radians, within which the true class is left alone.
        b: the angle beyond which the others are.

    Returns:
        The mean over the batch of Σ_{j≠y} [weight_j] cos θ_j − [weight_y] cos θ_y; it may be negative.

    Source: Zhong et al., SFace, IEEE TIP 30 (2021), section III.
    """
    true = F.one_hot(labels, cosines.shape[1]).bool()
    with torch.no_grad():
        angles = cosines.clamp(-1, 1).acos()  # [B, C]
        weights = scale * torch.where(true, -torch.sigmoid(k * (angles - a)), torch.sigmoid(k * (b - angles)))
    return (weights * cosines).sum(1).mean()


def contrastive(image: Tensor, text: Tensor, positive: Tensor, scale: Tensor | float) -> Tensor:
    """Image–text contrast in which an image may have several captions and a caption several images.

    Args:
        image: L2-normalised features, [B, D].
        text: L2-normalised features, [T, D].
        positive: whether caption t fits image b, bool [B, T]; every image has a caption and every caption an image.
        scale: the inverse temperature.

    Returns:
        Half the sum of the two directions' losses, each the mean cross-entropy against the uniform distribution over
        the positives. With one positive a row this is CLIP's loss.

    Source: Radford et al., CLIP, ICML 2021, figure 3; several positives as in Yang et al., UniCL, CVPR 2022, eq. 3.
    """
    logits = scale * image @ text.T  # [B, T]
    target = positive.to(logits.dtype)
    rows = F.cross_entropy(logits, target / target.sum(1, keepdim=True))
    columns = F.cross_entropy(logits.T, (target / target.sum(0, keepdim=True)).T)
    return (rows + columns) / 2


def same(first: Tensor, second: Tensor) -> Tensor:
    """Which entries of two label vectors [B] and [T] agree: bool [B, T]."""
    return first[:, None] == second[None, :]


def without_true(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits of all classes but the true one, in their order.

    The column is dropped, not masked: −∞ would make a KL and its gradient NaN.

    Args:
        logits: [B, C].
        labels: columns of the true classes, [B].

    Returns:
        [B, C − 1].
    """
    columns = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, columns + (columns >= labels[:, None]).long())


def elementwise_kl(logits: Tensor, original: Tensor) -> Tensor:
    """Σ KL(softmax original ‖ softmax logits), divided by the number of elements B·C.

    Args:
        logits: of the model in training, [B, C].
        original: what they are held to, [B, C].

    Returns:
        A scalar; 0 where there is no column. The mean over the batch, as KLs are mostly averaged, is C times as much.

    Source: the normalisation is that of Tan & Gong, arXiv 2506.11253 (2025), to which its weights refer.
    """
    new, old = F.log_softmax(logits, 1), F.log_softmax(original, 1)
    return F.kl_div(new, old, reduction="sum", log_target=True) / max(1, logits.numel())


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher/T) ‖ softmax(logits/T)), the mean over the batch.

    Its gradient falls with T²; a method that makes up for that, as the source proposes, multiplies by T² itself.

    Args:
        logits: of the model in training, [B, C].
        teacher: what it is held to, [B, C].
        temperature: T, above 0.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2.
    """
    new, old = F.log_softmax(logits / temperature, 1), F.log_softmax(teacher / temperature, 1)
    return F.kl_div(new, old, reduction="batchmean", log_target=True)


def relative_drift(after: Tensor, before: Tensor) -> Tensor:
    """How far features have moved, squared, in units of their own length: mean ‖f' − f‖² / ‖f‖².

    Args:
        after: features now, [B, D].
        before: the same examples' features before, [B, D]; none is zero.

    Source: ours.
    """
    return ((after - before).square().sum(1) / before.square().sum(1)).mean()


def without_direction(vectors: Tensor, directions: Tensor) -> Tensor:
    """Vectors without what they have along others, row by row.

    Args:
        vectors: [N, D].
        directions: of unit norm, [N, D].
    """
    return vectors - (vectors * directions).sum(1, keepdim=True) * directions
