"""Ridge regression that is learned in parts, and never sees a part again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGES = tuple(10.0**power for power in range(-8, 9))


@dataclass(frozen=True)
class Regression:
    """What the least squares of all examples so far depend on.

    Attributes:
        gram: Σ h·hᵀ over the examples h, [M, M].
        cross: Σ h·yᵀ over the examples and their targets y, [M, C].
    """

    gram: Tensor
    cross: Tensor

    @classmethod
    def of_nothing(cls, width: int, device: torch.device | str = "cpu") -> Regression:
        """Before the first example, in double precision: the small eigenvalues decide beside a small ridge."""
        empty = {"dtype": torch.float64, "device": device}
        return cls(torch.zeros(width, width, **empty), torch.zeros(width, 0, **empty))

    def grown(self, examples: Tensor, labels: Tensor, classes: int) -> Regression:
        """With further examples, whose targets are one-hot.

        Args:
            examples: [N, M].
            labels: [N], below `classes`.
            classes: C, how many there are by now.
        """
        examples, targets = examples.to(self.gram), F.one_hot(labels, classes).to(self.gram)
        cross = F.pad(self.cross, (0, classes - self.cross.shape[1]))
        return Regression(torch.addmm(self.gram, examples.T, examples), torch.addmm(cross, examples.T, targets))

    def solution(self, ridge: float) -> Tensor:
        """(Σ h·hᵀ + λI)⁻¹ Σ h·yᵀ, [M, C].

        Args:
            ridge: λ, above 0; raised to the rounding of the sums where it is below that, which else would decide.
        """
        rounding = torch.finfo(self.gram.dtype).eps * self.gram.trace().item()
        gram = self.gram.clone()
        gram.diagonal().add_(max(ridge, rounding))
        return torch.linalg.solve(gram, self.cross)


def best_ridge(
    examples: Tensor,
    targets: Tensor,
    generator: torch.Generator,
    *,
    share: float = 0.8,
    ridges: Sequence[float] = RIDGES,
) -> float:
    """The λ with which a part of the examples predicts the others best.

    Args:
        examples: [N, M], N ≥ 2.
        targets: [N, C].
        generator: draws the split, on the CPU.
        share: how many of the examples are learned from; at least one is, and one is not.
        ridges: to choose from; of equally good ones the first is taken.

    Source: McDonnell et al., RanPAC, NeurIPS 2023, which takes 4 in 5 and the mean squared error. In its code the
    examples to predict are the last of the list.
    """
    order = torch.randperm(len(examples), generator=generator).to(examples.device)
    count = min(max(1, round(share * len(order))), len(order) - 1)
    seen, other = order[:count], order[count:]
    # one decomposition serves every λ: the solution is V·s/(s² + λ)·Uᵀ·y
    left, singular, right = torch.linalg.svd(examples[seen], full_matrices=False)
    along, across = examples[other] @ right.T, left.T @ targets[seen]

    def error(ridge: float) -> float:
        guess = (along * (singular / (singular.square() + ridge))) @ across
        return F.mse_loss(guess, targets[other]).item()

    return min(ridges, key=error)
