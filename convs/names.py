"""The backbones' names, without importing any library: what `--list` shows and what published files call them."""

import re
from pathlib import Path

SHIPPED = Path(__file__).parent / "weights"

TINY = {
    "tiny_vit": "a small ViT (64 px) that knows the embedded world; timm architecture, shipped with the project",
    "tiny_clip": "a small CLIP (64 px) of the embedded world; open_clip architecture, shipped with the project",
}

# What PILOT, PyCIL and SSIAT call their backbones → the timm models they load. The `_adapter` variants are the same
# weights; whether adapters are injected is the learner's business.
PILOT = {
    "pretrained_vit_b16_224": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit_base_patch16_224": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "pretrained_vit_b16_224_in21k": "vit_base_patch16_224.augreg_in21k",
    "vit_base_patch16_224_in21k": "vit_base_patch16_224.augreg_in21k",
    "pretrained_vit_b16_224_adapter": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "pretrained_vit_b16_224_in21k_adapter": "vit_base_patch16_224.augreg_in21k",
    "vit_base_patch16_224_adapter": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit_base_patch16_224_in21k_adapter": "vit_base_patch16_224.augreg_in21k",
}

LIT = "lit:"  # `lit:<timm name>`: that tower, locked, beside a text tower of ours


def describe() -> dict[str, str]:
    """Name → one line, for every name that is ours or PILOT's."""
    ours = dict(TINY)
    ours |= {name: f"timm's {target}" for name, target in PILOT.items()}
    ours[f"{LIT}NAME"] = "any timm tower, locked, with a text tower to be trained beside it"
    return ours


def is_clip(name: str) -> bool:
    """Whether a backbone name means an image–text model.

    That is open_clip's way of writing (`ViT-B-16`, `RN50`, `EVA02-L-14`, `PE-Core-B-16`), any name with `clip` in it,
    or `lit:`; timm's image towers that only came from a CLIP (`vit_base_patch16_clip_224`) are ViTs.
    """
    bare = name.removeprefix("hf-hub:").removeprefix("timm/")
    if re.match(r"(naflex)?(vit|eva|deit)\w*_", bare):
        return False
    return "clip" in bare.lower() or bool(re.match(r"lit:|local-dir:|ViT|RN\d|EVA|PE-|coca_|\S*-ViT-", bare))
