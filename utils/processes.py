"""Several processes that train one model, started by torchrun. Alone, nothing here does anything.

Every process goes the same way through the sessions, with the same draws. A batch is computed in parts, one a process,
and what is learned from the parts is joined before anything follows from it. Only the first process writes.
"""

import functools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

log = logging.getLogger("lethe")

Rows = TypeVar("Rows", bound=Sequence | Tensor)


@dataclass(frozen=True)
class Part:
    """One process's share of every batch.

    Attributes:
        index: which one, from 0.
        count: how many there are.
    """

    index: int = 0
    count: int = 1

    def of(self, rows: Rows) -> Rows:
        """Neighbouring rows; the parts differ by one row at most. Fewer rows than parts are everyone's."""
        if len(rows) < self.count:
            return rows
        small, more = divmod(len(rows), self.count)
        start = self.index * small + min(self.index, more)
        return rows[start : start + small + (self.index < more)]


WHOLE = Part()


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Where torchrun started several processes, join them for as long as this lasts.

    Args:
        device: of the run; on GPUs each process takes one of its own.

    Returns:
        This process's device.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    level = log.level
    if not first():
        log.setLevel(logging.ERROR)
    try:
        yield device
        dist.barrier()  # who left early would close connections that others still read from
    finally:
        log.setLevel(level)
        dist.destroy_process_group()


def own_part() -> Part:
    """What this process computes of a batch."""
    return Part(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else WHOLE


def first() -> bool:
    """Whether this process is the one that writes."""
    return own_part().index == 0


def by_the_first(write: Callable[..., None]) -> Callable[..., None]:
    """A function that only the first process carries out; the others wait until it is done."""

    @functools.wraps(write)
    def guarded(*args, **kwargs) -> None:
        try:
            if first():
                write(*args, **kwargs)
        finally:
            if dist.is_initialized():
                dist.barrier()

    return guarded


def mean_of_all(tensors: Sequence[Tensor], weight: float) -> list[Tensor]:
    """Σ weight·tensor / Σ weight over the processes, for tensors that each of them has in the same shapes.

    Args:
        tensors: of this process, on one device.
        weight: of this process, such as the examples it saw.
    """
    if not dist.is_initialized():
        return list(tensors)
    flat = torch.cat([weight * value.flatten() for value in tensors] + [tensors[0].new_tensor([weight])])
    dist.all_reduce(flat)
    parts = (flat[:-1] / flat[-1]).split([value.numel() for value in tensors])
    return [part.view_as(value) for part, value in zip(parts, tensors, strict=True)]


def sum_of_all(tensors: Sequence[Tensor]) -> None:
    """Add up tensors over the processes, in place."""
    if dist.is_initialized():
        for value in tensors:
            dist.all_reduce(value)


def in_order(batches: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """What all processes computed of the batches of one pass, in the order of the pass.

    Args:
        batches: this process's parts of the batches, [its rows, …], on the CPU.
        sizes: how many rows each whole batch has.

    Returns:
        [Σ sizes, …], in every process.
    """
    if not dist.is_initialized():
        return torch.cat(list(batches))
    everyone: list[list[Tensor]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, list(batches))
    rows = zip(zip(*everyone, strict=True), sizes, strict=True)
    return torch.cat([part for parts, size in rows for part in (parts if size >= len(parts) else parts[:1])])


def shown_by_the_first() -> dict[str, bool | None]:
    """Settings of a progress bar: one for all processes, and only on a terminal."""
    return {"disable": None if first() else True, "leave": False}
