"""The backbones' names, without importing any library: what `--list` shows and what published files call them."""

import re
from pathlib import Path

SHIPPED = Path(__file__).parent / "weights"

TINY = {
    "tiny_vit": "a small ViT (64 px) that knows the embedded world; timm architecture, shipped with the project",
    "tiny_clip": "a small CLIP (64 px) of the embedded world; open_clip architecture, shipped with the project",
}

# the published face transformers by depth; `_overlap`: their patches overlap
FACES = {
    f"face_vit_p8_d{depth}{ending}": f"the face ViT of GS-LoRA (112 px, {depth} blocks, {patches})"
    for depth in (6, 12, 18)
    for ending, patches in (("", "patches of 8 px"), ("_overlap", "overlapping patches of 12 px"))
} | {"face_vit_small": "the face ViT for few images (48 px, 4 blocks of width 128, overlapping patches of 12 px)"}

# What PILOT, PyCIL and SSIAT call their backbones → the timm models they load. The variants named after a
# method are the same weights; what is injected is the learner's business.
PILOT = {
    "pretrained_vit_b16_224": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit_base_patch16_224": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "pretrained_vit_b16_224_in21k": "vit_base_patch16_224.augreg_in21k",
    "vit_base_patch16_224_in21k": "vit_base_patch16_224.augreg_in21k",
    "pretrained_vit_b16_224_adapter": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "pretrained_vit_b16_224_in21k_adapter": "vit_base_patch16_224.augreg_in21k",
    "vit_base_patch16_224_adapter": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit_base_patch16_224_in21k_adapter": "vit_base_patch16_224.augreg_in21k",
} | {
    f"vit_base_patch16_224{pretrained}_{method}": f"vit_base_patch16_224.augreg_in21k{tuned}"
    for method in ("ease", "l2p", "dualprompt", "coda_prompt", "mos")
    for pretrained, tuned in (("", "_ft_in1k"), ("_in21k", ""))
}

TORCHVISION = "torchvision:"  # `torchvision:<its name>`; with the weights that it calls IMAGENET1K_V1
TORCHVISION_VITS = ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32")
LIT = "lit:"  # `lit:<timm name>`: that tower, locked, beside a text tower of ours


def describe() -> dict[str, str]:
    """Name → one line, for every name that is ours or PILOT's."""
    ours = TINY | FACES
    ours |= {name: f"timm's {target}" for name, target in PILOT.items()}
    ours |= {f"{TORCHVISION}{name}": "torchvision's, with its ImageNet-1k classifier" for name in TORCHVISION_VITS}
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


def everyday_names(step: int = 10) -> tuple[str, ...]:
    """Names of all kinds of things: every tenth of the 1,000 classes of ImageNet, as open_clip words them."""
    from open_clip import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES[::step])
