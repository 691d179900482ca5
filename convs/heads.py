"""Classifiers over features that grow with the sessions."""

from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CosineHead(nn.Module):
    """Cosines of features and class rows; every session appends rows.

    Args:
        dim: width of the features.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.rows = nn.ParameterList()

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.rows)

    @property
    def weight(self) -> Tensor:
        """All rows, [C, dim]."""
        return torch.cat(list(self.rows)) if len(self.rows) else torch.empty(0, self.dim)

    def grow(self, rows: Tensor) -> nn.Parameter:
        """Append rows [n, dim] and return them as the parameter they became."""
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ValueError(f"rows must be [n, {self.dim}], got {list(rows.shape)}")
        self.rows.append(nn.Parameter(rows.detach().clone()))
        return self.rows[-1]

    @torch.no_grad()
    def replace(self, fresh: Mapping[int, Tensor]) -> None:
        """Overwrite single rows: label → row [dim]."""
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

    def forward(self, features: Tensor) -> Tensor:
        """[B, dim] → cosines [B, C]."""
        return cosines(features, self.weight)


def cosines(features: Tensor, rows: Tensor) -> Tensor:
    """Features [B, D] and rows [C, D] → cosines [B, C]."""
    return F.normalize(features, dim=-1) @ F.normalize(rows, dim=-1).T
