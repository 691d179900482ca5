"""Ridge regression that is learned in parts, and never sees a part again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

AT_A_TIME = 1024  # examples in memory
RIDGES = tuple(10.0**power for power in range(-8, 9))

Rows = Callable[[Tensor], Tensor]  # positions [n] → those examples, [n, M]


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
    examples: Rows,
    width: int,
    targets: Tensor,
    generator: torch.Generator,
    *,
    share: float = 0.8,
    ridges: Sequence[float] = RIDGES,
) -> float:
    """The λ with which a part of the examples predicts the others best.

    No more than a few examples are there at a time, and a matrix of as many rows and columns as there are examples or
    as they are wide, whichever is less.

    Args:
        examples: positions [n] → those examples, [n, M]; of N ≥ 2 in all.
        width: M.
        targets: [N, C], in double precision.
        generator: draws the split, on the CPU.
        share: how many of the examples are learned from; at least one is, and one is not.
        ridges: to choose from; of equally good ones the first is taken. Those below the rounding of the products count
            as that, as in `Regression.solution`.

    Source: McDonnell et al., RanPAC, NeurIPS 2023, which takes 4 in 5 and the mean squared error. In its code the
    examples to predict are the last of the list.
    """
    order = torch.randperm(len(targets), generator=generator).to(targets.device)
    count = min(max(1, round(share * len(order))), len(order) - 1)
    seen, other = order[:count], order[count:]

    def rows(places: Tensor) -> Tensor:
        return examples(places).to(targets)

    # one decomposition serves every λ, of h·hᵀ between examples or of Σ hᵀ·h between columns, as in kernel regression
    decomposed = _by_examples if count <= width else _by_columns
    values, along, across = decomposed(rows, seen, other, targets)
    rounding = torch.finfo(values.dtype).eps * values.sum().item()

    def error(ridge: float) -> float:
        guess = along @ (across / (values.clamp(min=0) + max(ridge, rounding))[:, None])
        return F.mse_loss(guess, targets[other]).item()

    return min(ridges, key=error)


def _by_examples(rows: Rows, seen: Tensor, other: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues of the products between the examples seen [n], and what the others and the targets are along them."""
    values, vectors = torch.linalg.eigh(_products(rows, seen, seen))
    return values, _products(rows, other, seen) @ vectors, vectors.T @ targets[seen]


def _by_columns(rows: Rows, seen: Tensor, other: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues of the products between the columns [M], and what the others and the targets are along them."""
    gram, cross = 0, 0
    for some in seen.split(AT_A_TIME):
        part = rows(some)
        gram, cross = gram + part.T @ part, cross + part.T @ targets[some]
    values, vectors = torch.linalg.eigh(gram)
    return values, torch.cat([rows(some) @ vectors for some in other.split(AT_A_TIME)]), vectors.T @ cross


def _products(rows: Rows, left: Tensor, right: Tensor) -> Tensor:
    """h·hᵀ between two lots of examples, [n, m]."""
    found = torch.empty(len(left), len(right), dtype=torch.float64, device=left.device)
    for i in range(0, len(left), AT_A_TIME):
        part = rows(left[i : i + AT_A_TIME])
        for j in range(0, len(right), AT_A_TIME):
            found[i : i + AT_A_TIME, j : j + AT_A_TIME] = part @ rows(right[j : j + AT_A_TIME]).T
    return found
