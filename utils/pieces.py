"""The batches of a step cut into pieces that fit into memory."""

import logging
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

log = logging.getLogger("lethe")

Batch = dict[str, Tensor]


def rows_of(batches: Mapping[str, Batch]) -> int:
    """Examples of the first stream."""
    return len(next(iter(next(iter(batches.values())).values())))


class Pieces:
    """How the batches of a step go through memory.

    Args:
        count: in how many pieces, as long as there are enough examples.
        device: where they are computed.
    """

    def __init__(self, count: int, device: torch.device | str):
        self.count, self.device = count, device

    def of(self, batches: dict[str, Batch]) -> Iterator[tuple[float, dict[str, Batch]]]:
        """The pieces, none empty, each with its share of the first stream's examples."""
        count = min(self.count, self.most(batches))
        cut = {name: _chunks(batch, count) for name, batch in batches.items()}
        for i in range(count):
            piece = {name: to_device(chunks[i], self.device) for name, chunks in cut.items()}
            yield rows_of(piece) / rows_of(batches), piece

    def become_smaller(self, batches: dict[str, Batch], phase: str) -> None:
        """Twice as many, as far as there are examples, for the rest of the phase."""
        self.count = min(2 * self.count, self.most(batches))
        log.warning("Out of memory in phase '%s': its steps go on in %d pieces", phase, self.count)
        torch.cuda.empty_cache()

    @staticmethod
    def most(batches: dict[str, Batch]) -> int:
        """How many pieces can be made of a step's batches."""
        return min(rows_of({name: batch}) for name, batch in batches.items())


def _chunks(batch: Batch, count: int) -> list[Batch]:
    split = {name: value.tensor_split(count) for name, value in batch.items()}
    return [{name: values[i] for name, values in split.items()} for i in range(count)]


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """A batch where it is computed."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
