"""The linear classifiers that supervised weights came with, as rows of named classes."""

import torch
from torch import Tensor

from convs.backbone import TrainedHead
from utils.imagenet import imagenet_names

CLASSES = 1000


def imagenet_heads(weight: Tensor | None, bias: Tensor | None) -> dict[str, TrainedHead]:
    """Level → rows of a classifier of ImageNet-1k, named as the data sets name its classes.

    Args:
        weight: [n, D], or None where the weights brought no classifier.
        bias: [n], or None.

    Returns:
        Nothing unless n is 1,000: of other classifiers nobody says which classes they know.
    """
    if weight is None or bias is None or len(weight) != CLASSES:
        return {}
    rows = torch.cat([weight.detach(), bias.detach()[:, None]], dim=1)
    return {"fine": TrainedHead(tuple(imagenet_names().values()), rows)}
