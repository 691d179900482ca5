"""What calls take: time in turns, the memory they ask for, and the floor that their matrix products set."""

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from utils.devices import choose_half

Call = Callable[[], object]


def medians(calls: Sequence[Call], device: torch.device, rounds: int, limit: float) -> list[float]:
    """Median seconds of calls that take turns, so that what else the machine does weighs on all of them.

    Args:
        calls: all are taken to be warm.
        device: where they compute.
        rounds: turns of each, at most.
        limit: no further round begins after so many seconds; one is always made.
    """
    taken, begun = [], time.perf_counter()
    while not taken or (len(taken) < rounds and time.perf_counter() - begun < limit):
        taken.append([seconds(call, device) for call in calls])
    return [median(each) for each in zip(*taken, strict=True)]


def seconds(call: Call, device: torch.device) -> float:
    """How long a call takes until the device has done all of it.

    Where one thread computes, it is the processor's time: what else the machine does then counts for less.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    _wait(device)
    begun = clock()
    call()
    _wait(device)
    return clock() - begun


def peak_extra(call: Call, device: torch.device) -> int:
    """The most bytes that a call holds at once beyond what was held before it.

    On both kinds of device it is what torch's allocator hands out, so it does not depend on what else runs, and counts
    neither the buffers of BLAS nor pages that were touched before. What a call frees of what was there before it makes
    no room on a CPU.
    """
    if device.type == "cuda":
        _wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        _wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        call()
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def matrix_flops(call: Call) -> int:
    """FLOPs of the matrix products, convolutions and attentions of a call, a multiplication and an addition each."""
    with FlopCounterMode(display=False, custom_mapping=ATTENTION_ON_CPU) as counter:
        call()
    return counter.get_total_flops()


def _attention(query, key, value, *args, **options) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad, query, key, value, *args, **options) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


# torch counts the fused attentions of GPUs alone
ATTENTION_ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def product(device: torch.device, side: int = 2048) -> tuple[Call, int]:
    """A large product of matrices, and its FLOPs: what the machine can do at best.

    In bfloat16 where the towers compute in it, else in single precision.
    """
    kind = torch.bfloat16 if in_bfloat16(device) else torch.float32
    left, right = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    left @ right  # the first is slow
    return lambda: left @ right, 2 * side**3


def in_bfloat16(device: torch.device) -> bool:
    """Whether towers are measured in bfloat16: on GPUs that have it, as in a run.

    On CPUs always in single precision, so that both sides compute in the same one.
    """
    return device.type == "cuda" and choose_half("auto", device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
