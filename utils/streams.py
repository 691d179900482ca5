"""Streams of tensors that are already there, for `utils.loop.fit`."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor


class TensorStream:
    """Rows of equally long tensors, shuffled anew every pass.

    Args:
        fields: name → tensor [N, …]; the batches have the same names.
        shuffle: whether the order changes from pass to pass.
    """

    def __init__(self, fields: Mapping[str, Tensor], shuffle: bool = True):
        self.fields, self.shuffle = dict(fields), shuffle
        lengths = {len(value) for value in self.fields.values()}
        if len(lengths) != 1:
            raise ValueError(f"all fields need the same length, got {sorted(lengths)}")
        self.count = lengths.pop()

    def __len__(self) -> int:
        return self.count

    def batches(self, size: int, seed: int) -> Iterator[dict[str, Tensor]]:
        """One pass in batches of `size`."""
        order = torch.arange(self.count)
        if self.shuffle:
            order = torch.randperm(self.count, generator=torch.Generator().manual_seed(seed))
        for rows in order.split(size):
            yield {name: value[rows] for name, value in self.fields.items()}


class DrawnStream:
    """Rows drawn anew for every pass and then shuffled.

    Args:
        draw: takes a generator and returns name → tensor [N, …].
        count: N, the length of a pass.
    """

    def __init__(self, draw: Callable[[torch.Generator], Mapping[str, Tensor]], count: int):
        self.draw, self.count = draw, count

    def __len__(self) -> int:
        return self.count

    def batches(self, size: int, seed: int) -> Iterator[dict[str, Tensor]]:
        """One pass of fresh rows in batches of `size`."""
        generator = torch.Generator().manual_seed(seed)
        return TensorStream(self.draw(generator)).batches(size, seed)
