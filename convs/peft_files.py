"""LoRAs in the file format of the peft library: a folder with a configuration and the factors."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from convs.files import read_weights
from utils.atomic import write_bytes, write_text
from utils.errors import WeightsError

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
BASE = "base_model.model."  # what peft puts before the names of the model it wraps
JOINT = ".in_proj_weight"  # of an `nn.MultiheadAttention`
OUT = "base_layer.out_proj"
UNREAD = ("rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "fan_in_fan_out")


class Factors(NamedTuple):
    """What is added to a weight, up to a scale: `B @ A`.

    Attributes:
        name: of the weight, as the model calls it.
        A: [rank, dim_in].
        B: [dim_out, rank].
    """

    name: str
    A: Tensor
    B: Tensor


def factors(delta: Tensor, most: int | None = None) -> tuple[Tensor, Tensor]:
    """A matrix as the product of two whose common width is its numerical rank (1 for a zero matrix).

    Args:
        delta: [dim_out, dim_in].
        most: the rank that it is known to have at most; what lies beyond is rounding.

    Returns:
        A [rank, dim_in] and B [dim_out, rank] with B @ A = delta, both of one norm; on the CPU.
    """
    left, values, right = torch.linalg.svd(delta.detach().cpu().double(), full_matrices=False)
    least = values[0] * max(delta.shape) * torch.finfo(delta.dtype).eps
    rank = max(1, min(int((values > least).sum()), most or len(values)))
    root = values[:rank].sqrt()
    return (root[:, None] * right[:rank]).to(delta.dtype), (left[:, :rank] * root).to(delta.dtype)


def write_lora(folder: Path, layers: Sequence[Factors], scale: float = 1.0) -> None:
    """Write LoRAs as peft writes an adapter.

    `peft.PeftModel.from_pretrained(model, folder, adapter_name=…)` puts them onto a model whose weights have these
    names; several folders act together after `model.base_model.set_adapter([…])`.

    Args:
        folder: made if it is not there.
        layers: the factors of every weight; those of lower rank than others are padded with zeros, for peft wants one
            rank.
        scale: what is added to a weight is `scale · B @ A`.

    Raises:
        ValueError: there is no layer.
        WriteError: the disk is full or the folder cannot be written.
    """
    if not layers:
        raise ValueError("there are no LoRAs to write")
    rank = max(len(layer.A) for layer in layers)
    tensors = {f"{BASE}{name}": value for layer in layers for name, value in _named(layer, rank)}
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(_module(layer.name) for layer in layers),
    }
    write_bytes(folder / TENSORS, save(tensors, {"format": "pt"}))
    write_text(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def read_lora(folder: Path) -> tuple[list[Factors], float]:
    """Read what `write_lora` wrote.

    Returns:
        The factors, sorted by name and padded to one rank, and their scale.

    Raises:
        WeightsError: a file is missing or damaged, or it is another kind of adapter than plain LoRA.
    """
    config = _read_config(folder / CONFIG)
    tensors, _ = read_weights(folder / TENSORS)
    found = []
    for key in sorted(key for key in tensors if key.endswith(".lora_A.weight") and OUT not in key):
        module = key.removesuffix(".lora_A.weight")
        joint = f"{module}.{OUT}.lora_A.weight" in tensors
        name = module.removeprefix(BASE) + (JOINT if joint else ".weight")
        if f"{module}.lora_B.weight" not in tensors:
            raise WeightsError(f"{folder / TENSORS}: '{key}' has no '{module}.lora_B.weight' beside it; write it anew")
        found.append(Factors(name, tensors[key], tensors[f"{module}.lora_B.weight"]))
    return found, config["lora_alpha"] / config["r"]


def _read_config(file: Path) -> Mapping:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file}: not the configuration of a peft adapter ({error})") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA" or not config.get("r"):
        raise WeightsError(f"{file}: not the configuration of a LoRA")
    if odd := [key for key in UNREAD if config.get(key)]:
        raise WeightsError(f"{file}: key '{odd[0]}' is set; only plain LoRA of one rank can be read")
    return config


def _named(layer: Factors, rank: int) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a layer by peft's names.

    On an attention peft adapts the joint projection and the output projection, never one alone: the latter's are zero.
    """
    module, more = _module(layer.name), rank - len(layer.A)
    A, B = (matrix.detach().cpu() for matrix in (layer.A, layer.B))
    yield f"{module}.lora_A.weight", F.pad(A, (0, 0, 0, more)).contiguous()
    yield f"{module}.lora_B.weight", F.pad(B, (0, more)).contiguous()
    if layer.name.endswith(JOINT):
        width = A.shape[1]
        yield f"{module}.{OUT}.lora_A.weight", A.new_zeros(rank, width)
        yield f"{module}.{OUT}.lora_B.weight", A.new_zeros(width, rank)


def _module(name: str) -> str:
    """The layer that has a weight of this name."""
    return name.removesuffix(JOINT).removesuffix(".weight")
