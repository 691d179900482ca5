"""Elements of parameters that stay as they are, whatever an optimizer does."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class Held:
    """Elements of parameters that must not move; an instance is a phase's `after_step`.

    They are put back after every step, which is exact for every optimizer, also with momentum and weight decay. For an
    optimizer that works element by element (SGD, Adam, AdamW) the others move as if the gradient had been masked.

    Args:
        parts: (parameter, which of its elements may move). The second is bool, of the parameter's shape or one that
            spreads to it: [C, 1] for rows.

    Raises:
        ValueError: a mask is not bool, or does not spread to its parameter.
    """

    def __init__(self, parts: Iterable[tuple[nn.Parameter, Tensor]]):
        self._parts = [(param, _fitting(mask, param), param.detach().clone()) for param, mask in parts]

    @torch.no_grad()
    def __call__(self) -> None:
        """Put the held elements back to what they were when this was made."""
        for param, movable, start in self._parts:
            param.copy_(torch.where(movable, param, start))


def top_share(values: Sequence[Tensor], share: float) -> list[Tensor]:
    """Which elements of all tensors together are the largest by magnitude.

    Args:
        values: tensors of any shapes.
        share: how many to take, 0 to 1; the count is rounded to the nearest whole number.

    Returns:
        A bool mask for each tensor. Of equal magnitudes at the limit only as many are taken as the share allows.

    Raises:
        ValueError: the share is not within 0 … 1.

    Source: the saliency mask of Fan et al., SalUn, ICLR 2024, section 4, which ranks over all weights.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies between 0 and 1, got {share}")
    flat = torch.cat([value.detach().abs().flatten() for value in values])
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[flat.topk(round(share * len(flat)), sorted=False).indices] = True
    parts = chosen.split([value.numel() for value in values])
    return [part.view(value.shape) for part, value in zip(parts, values, strict=True)]


def _fitting(mask: Tensor, param: Tensor) -> Tensor:
    spread = list(reversed(list(zip(reversed(mask.shape), reversed(param.shape), strict=False))))
    fits = mask.ndim <= param.ndim and all(size in (1, full) for size, full in spread)
    if mask.dtype != torch.bool or not fits:
        raise ValueError(f"a mask for {list(param.shape)} must be bool and spread to it, got {list(mask.shape)}")
    return mask.to(param.device)
