"""Streams of tensors that are already there, for `utils.loop.fit`."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from utils.loop import Stream
from utils.processes import WHOLE, Part
from utils.seeds import derive_seed


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

    def batches(self, size: int, seed: int, part: Part = WHOLE) -> Iterator[dict[str, Tensor]]:
        """One pass in batches of `size`, of each a part."""
        order = torch.arange(self.count)
        if self.shuffle:
            order = torch.randperm(self.count, generator=torch.Generator().manual_seed(seed))
        for rows in map(part.of, order.split(size)):
            yield {name: value[rows] for name, value in self.fields.items()}


class DrawnStream:
    """Rows drawn anew for every pass and then shuffled.

    Args:
        draw: takes a generator and returns name → tensor [N, …]. It may fill the same memory every time: batches are
            copies, and a pass is over before the next is drawn.
        count: N, the length of a pass.
    """

    def __init__(self, draw: Callable[[torch.Generator], Mapping[str, Tensor]], count: int):
        self.draw, self.count = draw, count

    def __len__(self) -> int:
        return self.count

    def batches(self, size: int, seed: int, part: Part = WHOLE) -> Iterator[dict[str, Tensor]]:
        """One pass of fresh rows in batches of `size`, of each a part."""
        generator = torch.Generator().manual_seed(seed)
        return TensorStream(self.draw(generator)).batches(size, seed, part)


class ChainedStream:
    """Several passes as one: all batches of the first stream, then all of the second, and so on.

    Args:
        streams: in their order; one may stand there more than once and is shuffled anew each time.
    """

    def __init__(self, streams: Sequence[Stream]):
        self.streams = tuple(streams)

    def __len__(self) -> int:
        return sum(map(len, self.streams))

    def batches(self, size: int, seed: int, part: Part = WHOLE) -> Iterator[dict[str, Tensor]]:
        """One pass, a part of each batch; no batch holds examples of two streams."""
        for turn, stream in enumerate(self.streams):
            yield from stream.batches(size, derive_seed(seed, turn), part)


class LimitedStream:
    """Passes of so many examples: the first of a pass of a longer stream, several passes of a shorter one.

    Args:
        stream: not empty.
        count: the examples of a pass.
    """

    def __init__(self, stream: Stream, count: int):
        self.stream, self.count = stream, count

    def __len__(self) -> int:
        return self.count

    def batches(self, size: int, seed: int, part: Part = WHOLE) -> Iterator[dict[str, Tensor]]:
        """One pass in batches of `size`, of each a part, which is taken when the whole is there."""
        turns = (batch for turn in itertools.count() for batch in self.stream.batches(size, derive_seed(seed, turn)))
        endless = _Portions(turns)
        for start in range(0, self.count, size):
            batch = endless.take(min(size, self.count - start))
            yield {name: part.of(rows) for name, rows in batch.items()}


class PooledStream:
    """Several streams as one shuffled set: a batch holds examples of all of them, mixed at random.

    No more than a batch of each stream is in memory. A pass is drawn as from one set that holds the examples of all, if
    the streams shuffle theirs.

    Args:
        streams: their batches have the same fields, of which the examples' shapes agree.
    """

    def __init__(self, streams: Sequence[Stream]):
        self.streams = tuple(streams)

    def __len__(self) -> int:
        return sum(map(len, self.streams))

    def batches(self, size: int, seed: int, part: Part = WHOLE) -> Iterator[dict[str, Tensor]]:
        """One pass in batches of `size`, the examples of the first stream first in each.

        A part of a batch is taken when the whole is there: which examples it mixes is known only then.
        """
        owners = torch.arange(len(self.streams)).repeat_interleave(torch.tensor([len(each) for each in self.streams]))
        mixed = owners[torch.randperm(len(owners), generator=torch.Generator().manual_seed(derive_seed(seed, "mix")))]
        passes = [_Portions(stream.batches(size, derive_seed(seed, i))) for i, stream in enumerate(self.streams)]
        for batch in mixed.split(size):
            counts = batch.bincount(minlength=len(passes)).tolist()
            parts = [each.take(count) for each, count in zip(passes, counts, strict=True) if count]
            yield {name: part.of(torch.cat([some[name] for some in parts])) for name in parts[0]}


class _Portions:
    """Batches of which so many examples are taken at a time, whatever the size of each."""

    def __init__(self, batches: Iterator[dict[str, Tensor]]):
        self.batches, self.rest = batches, {}

    def take(self, count: int) -> dict[str, Tensor]:
        while (there := len(next(iter(self.rest.values()), ()))) < count:
            fresh = next(self.batches)
            self.rest = {k: torch.cat([self.rest[k], v]) for k, v in fresh.items()} if there else fresh
        taken = {name: value[:count] for name, value in self.rest.items()}
        self.rest = {name: value[count:] for name, value in self.rest.items()}
        return taken


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

    def batches(self, size: int, seed: int, part: Part = WHOLE) -> Iterator[dict[str, Tensor]]:
        """One pass of the stream, a part of every batch with the further fields.

        Raises:
            ValueError: an item has no row.
        """
        for batch in self.stream.batches(size, seed, part):
            rows = self._rows_of(batch["item"])
            yield batch | {name: value[rows] for name, value in self.fields.items()}

    def _rows_of(self, items: Tensor) -> Tensor:
        """The row of every item, [B]."""
        places = torch.searchsorted(self._items, items).clamp(max=len(self._items) - 1)
        unknown = items[self._items[places] != items] if len(self._items) else items
        if len(unknown):
            raise ValueError(f"no fields are joined to item {unknown[0].item()}")
        return self._rows[places]
