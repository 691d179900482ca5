"""Losses as pure functions of tensors."""

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
