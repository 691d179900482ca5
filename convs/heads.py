"""Classifiers over features that grow with the sessions."""

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

    def forward(self, features: Tensor) -> Tensor:
        """[B, dim] → cosines [B, C]."""
        return F.normalize(features, dim=-1) @ F.normalize(self.weight, dim=-1).T
