"""Streams of tensors that are already there, for `utils.loop.fit`."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from utils.loop import Stream


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


class JoinedStream:
    """A stream whose examples carry further fields, looked up by their `item`.

    What is computed once for every example (logits of the original, a label drawn per session) so follows it through
    every shuffled pass.

    Args:
        stream: its batches hold "item" [B].
        items: to which item row i of every field belongs, [N], each item once.
        fields: name → tensor [N, …]; one named like a field of the stream replaces it.

    Raises:
        ValueError: the fields and `items` differ in length, or an item stands there twice.
    """

    def __init__(self, stream: Stream, items: Tensor, fields: Mapping[str, Tensor]):
        lengths = {len(items)} | {len(value) for value in fields.values()}
        if len(lengths) != 1 or len(items.unique()) != len(items):
            raise ValueError(f"every item needs one row of every field, got lengths {sorted(lengths)}")
        self.stream, self.fields = stream, dict(fields)
        self._items, self._rows = items.sort()

    def __len__(self) -> int:
        return len(self.stream)

    def batches(self, size: int, seed: int) -> Iterator[dict[str, Tensor]]:
        """One pass of the stream, every batch with the further fields.

        Raises:
            ValueError: an item has no row.
        """
        for batch in self.stream.batches(size, seed):
            rows = self._rows_of(batch["item"])
            yield batch | {name: value[rows] for name, value in self.fields.items()}

    def _rows_of(self, items: Tensor) -> Tensor:
        """The row of every item, [B]."""
        places = torch.searchsorted(self._items, items).clamp(max=len(self._items) - 1)
        unknown = items[self._items[places] != items] if len(self._items) else items
        if len(unknown):
            raise ValueError(f"no fields are joined to item {unknown[0].item()}")
        return self._rows[places]
