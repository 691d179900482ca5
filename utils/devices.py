"""Where a run computes, and what it takes of it."""

import logging
import resource
from pathlib import Path

import torch

from utils.errors import WeightsError

CPUINFO = Path("/proc/cpuinfo")

log = logging.getLogger("lethe")


def choose_device(wish: str, strict: bool) -> torch.device:
    """The device a config or the command line asks for.

    Args:
        wish: `auto`, `cpu`, `cuda` or `cuda:1`.
        strict: whether a missing GPU is an error; otherwise the CPU takes its place with a warning.

    Raises:
        WeightsError: there is no such GPU and `strict` is set.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wish == "auto":
        return torch.device("cuda" if count else "cpu")
    device = torch.device(wish)
    if device.type == "cpu" or (device.index or 0) < count:
        return device
    if strict:
        raise WeightsError(f"--device {wish}: this machine has {count} usable GPU(s); use --device cpu or auto")
    log.warning("device '%s' of the config is not there (%d GPUs); running on the CPU", wish, count)
    return torch.device("cpu")


def choose_half(wish: str, device: torch.device) -> bool:
    """Whether towers compute in bfloat16: as asked, or where the hardware multiplies it faster than single precision.

    Without such instructions a CPU emulates bfloat16, tens of times slower.

    Args:
        wish: `auto`, `fp32` or `bf16`.
        device: where the model lives.
    """
    if wish != "auto":
        return wish == "bf16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere and later
    flags = CPUINFO.read_text().split() if CPUINFO.is_file() else []
    return "avx512_bf16" in flags or "amx_bf16" in flags


def peak_mb(device: torch.device) -> float:
    """The most memory in use so far, MB: of the GPU where the model is on one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
