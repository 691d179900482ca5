"""Classifiers over features that grow with the sessions."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.losses import arcface, cosface, sface


class Head(nn.Module):
    """A row for every class; sessions append rows.

    Args:
        width: of a row.
    """

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.rows = nn.ParameterList()

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.rows)

    @property
    def weight(self) -> Tensor:
        """All rows, [C, width]."""
        return torch.cat(list(self.rows)) if len(self.rows) else torch.empty(0, self.width)

    def grow(self, rows: Tensor) -> nn.Parameter:
        """Append rows [n, width] and return them as the parameter they became."""
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise ValueError(f"rows must be [n, {self.width}], got {list(rows.shape)}")
        self.rows.append(nn.Parameter(rows.detach().clone()))
        return self.rows[-1]

    @torch.no_grad()
    def replace(self, fresh: Mapping[int, Tensor]) -> None:
        """Overwrite single rows: label → row [width]."""
        for rows, start in self._parts():
            for label in fresh:
                if start <= label < start + len(rows):
                    rows[label - start] = fresh[label]

    def movable(self, labels: Collection[int]) -> list[tuple[nn.Parameter, Tensor]]:
        """Every parameter of rows with a mask [n, 1] of those rows that belong to `labels`."""
        wanted = set(labels)
        return [
            (rows, torch.tensor([[start + i in wanted] for i in range(len(rows))], device=rows.device))
            for rows, start in self._parts()
        ]

    def _parts(self) -> list[tuple[nn.Parameter, int]]:
        """The parameters of rows, each with the label of its first row."""
        starts = [0]
        for rows in self.rows:
            starts.append(starts[-1] + len(rows))
        return list(zip(self.rows, starts, strict=False))


class CosineHead(Head):
    """Rows that are compared with features by their angle; for classes of whatever origin.

    Args:
        dim: width of the features, and of a row.
    """

    def forward(self, features: Tensor) -> Tensor:
        """[B, dim] → cosines [B, C]."""
        return cosines(features, self.weight)


class LinearHead(Head):
    """Rows w, b of a linear classifier that came with the weights: w·f + b.

    Args:
        dim: width of the features; a row has one column more.
    """

    def __init__(self, dim: int):
        super().__init__(dim + 1)

    def forward(self, features: Tensor) -> Tensor:
        """[B, dim] → logits [B, C]."""
        return linear(features, self.weight)


def logits(features: Tensor, rows: Tensor, scale: Tensor | float) -> Tensor:
    """Features [B, D] against rows → logits [B, C]; the width of the rows says what they are.

    Args:
        features: not normalised.
        rows: [C, D] of a `CosineHead`, or [C, D + 1] of a `LinearHead`.
        scale: on cosines; the logits of a linear classifier have a scale of their own.
    """
    if rows.shape[1] == features.shape[1] + 1:
        return linear(features, rows)
    return scale * cosines(features, rows)


def linear(features: Tensor, rows: Tensor) -> Tensor:
    """Features [B, D] and rows [C, D + 1], the bias in the last column → w·f + b, [B, C]."""
    return F.linear(features, rows[:, :-1], rows[:, -1])


def cosines(features: Tensor, rows: Tensor) -> Tensor:
    """Features [B, D] and rows [C, D] → cosines [B, C]."""
    return F.normalize(features, dim=-1) @ F.normalize(rows, dim=-1).T


@dataclass(frozen=True)
class Margin:
    """How a classifier of cosines is trained.

    Attributes:
        loss: (cosines [B, C], labels [B], scale, margin) → the mean over the batch.
        margin: its own, where none is given; None where it knows no margin.
    """

    loss: Callable[[Tensor, Tensor, Tensor | float, float], Tensor]
    margin: float | None = None


# The margin is part of training alone: accuracy, distillation and the losses that forget see s·cos as it is (the
# published code of GS-LoRA lowers the true logit everywhere, in the accuracy of test images, too).
MARGINS = {
    "softmax": Margin(lambda cosines, labels, scale, _: F.cross_entropy(scale * cosines, labels)),
    "cosface": Margin(lambda cosines, labels, scale, margin: cosface(scale * cosines, labels, scale * margin), 0.35),
    "arcface": Margin(lambda cosines, labels, scale, margin: arcface(cosines, labels, margin, scale), 0.5),
    "sface": Margin(lambda cosines, labels, scale, _: sface(cosines, labels, scale)),
}
