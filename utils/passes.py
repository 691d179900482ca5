"""One pass over a stream at fixed weights: what a model says of its examples, and the gradients of a loss on them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor, nn
from tqdm import tqdm

from utils.errors import DivergenceError
from utils.loop import Stream
from utils.pieces import Batch, to_device
from utils.processes import WHOLE, Part, in_order, own_part, shown_by_the_first, sum_of_all


@torch.no_grad()
def gather(
    module: nn.Module,
    compute: Callable[[Batch], Mapping[str, Tensor]],
    stream: Stream,
    *,
    device: torch.device | str = "cpu",
    batch_size: int | Sequence[int] = 128,
    title: str | None = None,
) -> dict[str, Tensor]:
    """Run `compute` over one pass of a stream without gradients, the module in evaluation mode.

    Args:
        module: put into evaluation mode meanwhile.
        compute: takes a batch, returns name → tensor [B, …].
        stream: of N examples.
        device: where the batches go.
        batch_size: examples of a batch; or of every batch, N together, where the stream takes such.
        title: of the progress bar.

    Returns:
        The concatenated outputs, on the CPU, in the stream's order.
    """
    was_training = module.training
    module.eval()
    parts: dict[str, list[Tensor]] = {}
    for batch in _shown(stream, batch_size, 0, title, own_part()):
        for name, value in compute(to_device(batch, device)).items():
            parts.setdefault(name, []).append(value.cpu())
    module.train(was_training)
    return {name: in_order(values, _sizes(batch_size, len(stream))) for name, values in parts.items()}


def gradient_sums(
    module: nn.Module,
    loss: Callable[[Batch], Tensor],
    stream: Stream,
    params: Iterable[nn.Parameter],
    *,
    batch_size: int = 48,
    device: torch.device | str = "cpu",
    seed: int = 0,
    title: str | None = None,
    each: Callable[[Tensor], Tensor] | None = None,
) -> list[Tensor]:
    """The gradients of a loss summed over the batches of one pass, at fixed weights and in evaluation mode.

    What is no sum of gradients but of a function of them, such as their squares, takes one by `each`; with batches of
    one example it is a function of the gradients of the examples.

    Args:
        module: put into evaluation mode meanwhile.
        loss: takes a batch, returns a scalar.
        stream: its last batch may be smaller and counts as much as the others.
        params: what to differentiate by; their `grad` is left as it is.
        batch_size: examples of a batch.
        device: where the batches go.
        seed: of the pass.
        title: of the progress bar.
        each: applied to every batch's gradient by every parameter before it is added; None: added as it is.

    Returns:
        Σ_batches each(∂loss/∂param) for every parameter; a loss that does not depend on one has gradient 0 by it.

    Raises:
        DivergenceError: a sum is not finite.
    """
    params, was_training = list(params), module.training
    sums = [torch.zeros_like(param) for param in params]
    module.eval()
    mine = own_part()
    for batch in islice(_shown(stream, batch_size, seed, title), mine.index, None, mine.count):
        slopes = torch.autograd.grad(loss(to_device(batch, device)), params, materialize_grads=True)
        for total, slope in zip(sums, slopes, strict=True):
            total.add_(each(slope) if each else slope)
    sum_of_all(sums)
    module.train(was_training)
    if not all(total.isfinite().all() for total in sums):
        raise DivergenceError("the gradients at the weights before training are not finite; look at the data")
    return sums


def _sizes(size: int | Sequence[int], count: int) -> Sequence[int]:
    """Of the batches of so many examples."""
    return [min(size, count - start) for start in range(0, count, size)] if isinstance(size, int) else size


def _shown(
    stream: Stream, size: int | Sequence[int], seed: int, title: str | None, part: Part = WHOLE
) -> Iterable[Batch]:
    """One pass under a progress bar."""
    total = len(_sizes(size, len(stream)))
    return tqdm(stream.batches(size, seed, part), total=total, desc=title, **shown_by_the_first())
