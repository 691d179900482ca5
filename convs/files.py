"""Weights as tensors only: nothing read here can run code."""

import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from utils.errors import WeightsError

# all that torch's restricted unpickler raises on bytes that are no pickle of tensors: it runs them as a small program
DAMAGED = (
    pickle.UnpicklingError, OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
    AssertionError, ArithmeticError, MemoryError, struct.error,
)  # fmt: skip


def read_weights(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a weights file, in fp32, and its metadata; notes of `utils.checkpoint.write_tensors` lie open.

    Args:
        file: `.safetensors`, or a checkpoint that `torch.load` reads with `weights_only`; a state dict may lie below
            the keys `state_dict` or `model`.

    Raises:
        WeightsError: the file is missing, damaged, or holds more than tensors.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: no such weights file")
    tensors, metadata = _read_safetensors(file) if file.suffix == ".safetensors" else (_read_torch(file), {})
    return {name: _float(value) for name, value in tensors.items()}, metadata


def written_by_pretrain(file: Path) -> bool:
    """Whether the `pretrain` learner wrote a file: its tower's names start with `net.`; no tensor is read."""
    try:
        with safe_open(file, framework="pt") as opened:
            return any(name.startswith("net.") for name in opened.keys())  # noqa: SIM118
    except (SafetensorError, OSError):
        return False  # whatever is wrong with it, reading it will say


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
            notes = json.loads(metadata.pop("lethe", "{}"))
            return {name: opened.get_tensor(name) for name in opened.keys()}, metadata | notes  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{file}: damaged or not safetensors ({error})") from error


def _read_torch(file: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{file}: not a file of plain tensors, and nothing else is loaded ({reason})") from error
    for key in ("state_dict", "model"):
        content = content.get(key, content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{file}: holds no state dict of tensors")
    return {name.removeprefix("module."): value for name, value in content.items()}


def _float(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
