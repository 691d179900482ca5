"""A model in files that other libraries load with nothing of this project at hand."""

import importlib
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from convs.adapter import ParallelAdapter
from convs.backbone import Backbone
from convs.clip import ClipBackbone
from convs.heads import LinearHead
from convs.lora import Place, lora_places, merge_lora, remove_lora
from convs.model import Model
from convs.peft_files import Factors, factors
from convs.vit import VitBackbone
from utils.atomic import write_bytes, write_text
from utils.errors import ConfigError, WeightsError

TOLERANCE = 1e-4  # how far the read-back features may be off, of their largest
OPEN_CLIP_FILE = "open_clip_model.safetensors"
ANY = "torchscript and onnx hold any model"


def check_plain(backbone: Backbone, library: str) -> None:
    """See that a library alone can hold a model, once its LoRAs are merged into its weights.

    Args:
        backbone: of the model.
        library: `open_clip` or `timm`.

    Raises:
        ConfigError: it is no model that the library alone can build, or has adapters, which no weight can take up.
    """
    kind = {"open_clip": ClipBackbone, "timm": VitBackbone}[library]
    if not isinstance(backbone, kind) or backbone.blueprint is None:
        raise ConfigError(f"--to {library}: the run's backbone is no model that {library} alone can build; {ANY}")
    if any(isinstance(module, ParallelAdapter) for module in backbone.modules()):
        raise ConfigError(
            f"--to {library}: the run's parallel adapters have a ReLU inside and cannot be merged into the weights of "
            f"a plain model; {ANY}"
        )


def make_plain(backbone: Backbone, library: str) -> None:
    """Merge LoRAs into the weights, so that nothing but the library's own modules is left.

    Args:
        backbone: changed in place.
        library: `open_clip` or `timm`.

    Raises:
        ConfigError: see `check_plain`.
    """
    check_plain(backbone, library)
    merge_lora(backbone)
    remove_lora(backbone)


def write_open_clip(backbone: ClipBackbone, folder: Path) -> None:
    """What `open_clip.create_model("local-dir:FOLDER")` loads, its tokenizer included.

    open_clip's own pre-processing takes the whole short side, whatever crop the backbone's says.

    Raises:
        WeightsError: what open_clip reads is not the same model.
    """
    import open_clip

    look = backbone.preprocess
    own = {"size": look.size, "mean": look.mean, "std": look.std, "interpolation": look.interpolation}
    _write_json(folder / "open_clip_config.json", {"model_cfg": backbone.blueprint, "preprocess_cfg": own})
    _write_net(folder / OPEN_CLIP_FILE, backbone.net)
    if hasattr(backbone.tokenizer, "save_pretrained"):
        backbone.tokenizer.save_pretrained(folder)
    _check(backbone, lambda: open_clip.create_model(f"local-dir:{folder}").eval().encode_image, "open_clip")


def write_timm(backbone: VitBackbone, folder: Path) -> None:
    """What `timm.create_model("local-dir:FOLDER", pretrained=True)` loads.

    Raises:
        WeightsError: what timm reads is not the same model.
    """
    import timm

    look = backbone.preprocess
    own = {"input_size": (3, look.size, look.size), "mean": look.mean, "std": look.std, "crop_pct": look.crop_pct}
    own |= {"interpolation": look.interpolation, "fixed_input_size": True}
    _write_json(folder / "config.json", {**backbone.blueprint, "num_classes": 0, "pretrained_cfg": own})
    _write_net(folder / "model.safetensors", backbone.net)
    _check(backbone, lambda: timm.create_model(f"local-dir:{folder}", pretrained=True).eval(), "timm")


def write_heads(model: Model, folder: Path) -> dict[str, str]:
    """`heads.safetensors`: by level a weight [C, D], the logit scale inside, and the bias [C] of a linear one.

    Returns:
        Level → "cosine" (logits: normalised features times the weight) or "linear".
    """
    tensors, kinds = {}, {}
    for level, rows in model.rows().items():
        linear = isinstance(model.head(level), LinearHead)
        kinds[level] = "linear" if linear else "cosine"
        weight = rows[:, :-1] if linear else model.scale * F.normalize(rows, dim=-1)
        tensors |= {f"{level}.weight": weight} | ({f"{level}.bias": rows[:, -1]} if linear else {})
    write_bytes(folder / "heads.safetensors", _packed(tensors))
    return kinds


def write_torchscript(module: nn.Module, size: int, folder: Path) -> None:
    """`model.pt`, which `torch.jit.load` reads: the module's forward pass for any number of images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces torch.export, and names what is constant here
        traced = torch.jit.trace(module, torch.zeros(2, 3, size, size), check_trace=False)
        traced.save(str(folder / "model.pt"))


def write_onnx(module: nn.Module, size: int, outputs: Sequence[str], folder: Path) -> None:
    """`model.onnx`: `images` [B, 3, size, size] → the named outputs, for any number of images.

    Raises:
        ConfigError: a package it needs is not installed.
    """
    for package in ("onnx", "onnxscript"):
        _import(package)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (torch.zeros(2, 3, size, size),),
            input_names=["images"],
            output_names=list(outputs),
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
        program.save(str(folder / "model.onnx"))


def _import(package: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(f"--to onnx needs the package '{package}'; pip install onnx onnxscript") from error


def lora_layers(backbone: Backbone, originals: Sequence[Tensor], most: int) -> list[Factors]:
    """What LoRAs have changed since the original, those merged into the weights included, as one LoRA a weight.

    Args:
        backbone: with LoRAs.
        originals: the original weights, in the order of `lora_places`.
        most: the rank of all LoRAs together.

    Raises:
        ConfigError: there are none.
    """
    places = lora_places(backbone)
    if not places:
        raise ConfigError(f"--to peft: the run has no LoRA, so there is nothing for peft to load; {ANY}")
    return [_factored(place, original, most) for place, original in zip(places, originals, strict=True)]


def _factored(place: Place, original: Tensor, most: int) -> Factors:
    if torch.equal(place.weight, original):  # nothing was merged: the LoRA itself, to the last bit
        return Factors(place.name, place.lora.A, place.lora.scale * place.lora.B)
    return Factors(place.name, *factors(place.weight - original + place.lora.weight(), most))


@torch.no_grad()
def _check(backbone: Backbone, read: Callable[[], Callable[[Tensor], Tensor]], library: str) -> None:
    """See that what a library reads computes what the backbone does."""
    images = torch.randn(2, 3, backbone.preprocess.size, backbone.preprocess.size)
    ours = backbone(images)
    try:
        theirs = read()(images)
    except RuntimeError as error:  # tensors of other shapes, such as positions at a size that the library cannot set
        raise WeightsError(f"--to {library}: {library} cannot read this model back ({_start(error)}); {ANY}") from error
    if (ours - theirs).abs().max() > TOLERANCE * ours.abs().max():
        raise WeightsError(f"--to {library}: {library} builds another model of these files; {ANY}")


def _start(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _write_net(file: Path, net: nn.Module) -> None:
    write_bytes(file, _packed(net.state_dict()))


def _packed(tensors: dict[str, Tensor]) -> bytes:
    return save({name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, {"format": "pt"})


def _write_json(file: Path, content: dict) -> None:
    write_text(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
