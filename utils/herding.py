"""Which few examples stand best for many."""

import torch
from torch import Tensor


def herding(features: Tensor, count: int) -> Tensor:
    """Examples whose mean, of the first k for every k, is as close to the mean of all as one more example can make it.

    Args:
        features: [N, D], N ≥ 1.
        count: how many to choose, 0 or more.

    Returns:
        Their places, in the order of choice, [min(count, N)]; no example is chosen twice, of equally good ones the
        first is.

    Source: Rebuffi et al., iCaRL, CVPR 2017, algorithm 4.
    """
    features = features.double()
    mean, total = features.mean(0), torch.zeros_like(features[0])
    free, chosen = torch.ones(len(features), dtype=torch.bool, device=features.device), []
    for size in range(1, min(count, len(features)) + 1):
        distance = ((total + features) / size - mean).norm(dim=1)
        best = distance.where(free, torch.inf).argmin()
        free[best] = False
        total = total + features[best]
        chosen.append(best.item())
    return torch.tensor(chosen, dtype=torch.long)
