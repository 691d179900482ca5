"""Image–text models by name, as open_clip builds and loads them."""

import json
import logging
import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import open_clip
import timm

from convs.backbone import Preprocess
from convs.clip import ClipBackbone, Tokenizer
from convs.download import downloading
from convs.files import read_weights, written_by_pretrain
from convs.names import LIT, SHIPPED
from convs.vit import TINY_PREPROCESS, build_vit, load_ours
from utils.errors import WeightsError, nearest

TINY_ARCHITECTURE = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 128, "layers": 4, "head_width": 32},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3},
}
CONFIG = "open_clip_config.json"
LIT_TEXT = {"context_length": 32, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 4}
log = logging.getLogger("lethe")


def build_clip(name: str, weights: str | None = None, img_size: int | None = None) -> ClipBackbone:
    """An image–text model by open_clip's name, `lit:<timm name>`, or `tiny_clip`.

    Args:
        name: the model.
        weights: a pre-training tag of open_clip (`openai`, `laion2b_s32b_b82k`, …), a local file, `random`, or None
            where the name says which weights are meant (`hf-hub:…`, `local-dir:…`, `tiny_clip`). A local file is
            open_clip's, or one that the `pretrain` learner wrote.
        img_size: input size where it differs from the weights' own.

    Raises:
        WeightsError: unknown name or tag, weights that cannot be had or do not fit, or an activation (QuickGELU)
            that is not the weights' own.
    """
    if name == "tiny_clip":
        return _build_tiny(weights)
    if name.startswith(LIT):
        return _build_lit(name.removeprefix(LIT), weights, img_size)
    _check_names(name, weights)
    backbone = _create(name, weights, img_size)
    if _is_file(weights):
        _load_file(backbone, name, Path(weights))
    return backbone


def _create(name: str, weights: str | None, img_size: int | None) -> ClipBackbone:
    """The model and its tokenizer, with the hub's weights; with random ones where a file is loaded afterwards."""
    bare = weights == "random" or _is_file(weights)
    options = {"load_weights": False, "pretrained_text": False} if bare else {"pretrained": weights}
    fetching = downloading(f"{name} ({weights or 'hub'})", f'"weights": "/path/to/{name}.safetensors"')
    with nullcontext() if bare and _is_local(name) else fetching:
        net = open_clip.create_model(name, force_image_size=img_size, **options)
        tokenizer = open_clip.get_tokenizer(name)
    config = open_clip.get_model_preprocess_cfg(net)
    size = config["size"] if isinstance(config["size"], int) else config["size"][0]
    look = Preprocess(size, tuple(config["mean"]), tuple(config["std"]), 1.0, config["interpolation"])
    backbone = ClipBackbone(net, look, tokenizer)
    model_cfg = open_clip.get_model_config(name)
    backbone.blueprint = model_cfg | {"vision_cfg": model_cfg["vision_cfg"] | {"image_size": size}}
    return backbone


def _is_local(name: str) -> bool:
    """Whether architecture and tokenizer come with open_clip; some models have theirs on the hub."""
    return ":" not in name and not any(key.startswith("hf_") for key in open_clip.get_model_config(name)["text_cfg"])


def _is_file(weights: str | None) -> bool:
    return weights not in (None, "random") and Path(weights).is_file()


def _load_file(backbone: ClipBackbone, name: str, file: Path) -> None:
    if written_by_pretrain(file):
        load_ours(backbone, file)
        return
    state, _ = read_weights(file)
    if "input_resolution" in state or re.search("openai|quickgelu", file.name.lower()):
        _check_activation(name, True, str(file))  # other files do not tell which activation they were trained with
    try:
        open_clip.load_checkpoint(backbone.net, str(file))
    except (RuntimeError, KeyError) as error:
        raise WeightsError(f"{file}: does not fit {name} ({' '.join(str(error).split())[:200]})") from error
    backbone.preprocess = _look_of(file, name, backbone.preprocess)


def _look_of(file: Path, name: str, usual: Preprocess) -> Preprocess:
    """How images have to look for the weights of a file: as the config beside it says, which hubs have, or as usual."""
    beside = file.with_name(CONFIG)
    if beside.is_file():
        return _told(beside, usual)
    tags = open_clip.list_pretrained_tags_by_model(name)
    others = [
        tag for tag in tags if tuple(open_clip.get_pretrained_cfg(name, tag).get("mean", usual.mean)) != usual.mean
    ]
    if others:
        log.warning(
            "%s does not say how its images were normalised: taken for mean %s, but weights of '%s' such as '%s' have "
            "another; put their %s beside the file",
            file, ", ".join(f"{value:.3g}" for value in usual.mean), name, others[0], CONFIG,
        )  # fmt: skip
    return usual


def _told(file: Path, usual: Preprocess) -> Preprocess:
    try:
        return usual.changed(json.loads(file.read_text(encoding="utf-8"))["preprocess_cfg"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise WeightsError(f"{file}: does not say how images are to look ({error!r}); remove or mend it") from error


def _check_names(name: str, weights: str | None) -> None:
    if name.startswith(("hf-hub:", "local-dir:")):
        if weights not in (None, "random") and not _is_file(weights):
            raise WeightsError(f"{weights}: no such weights file; '{name}' names its own weights, leave 'weights' out")
        return
    if name not in open_clip.list_models():
        raise WeightsError(f"convnet_type '{name}' is unknown to open_clip{nearest(name, open_clip.list_models())}")
    if weights == "random" or _is_file(weights):
        return
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights not in tags:
        raise WeightsError(
            f"weights {weights!r} of '{name}' are neither a file nor a tag of open_clip; "
            f'tags: {", ".join(tags) or "none"}; or "random"'
        )
    _check_activation(name, bool(open_clip.get_pretrained_cfg(name, weights).get("quick_gelu")), f"tag '{weights}'")


def _check_activation(name: str, weights_quick: bool, weights: str) -> None:
    """Refuse weights trained with QuickGELU in a model without it, and the other way round."""
    config = open_clip.get_model_config(name) or {}
    if "timm_model_name" in config.get("vision_cfg", {}) or bool(config.get("quick_gelu")) == weights_quick:
        return
    base = name.removesuffix("-quickgelu")
    other = f"{base}-quickgelu" if weights_quick else base
    activation = "QuickGELU" if weights_quick else "GELU"
    raise WeightsError(f"{weights} was trained with {activation}, '{name}' has another activation; use '{other}'")


def _build_tiny(weights: str | None) -> ClipBackbone:
    backbone = ClipBackbone(open_clip.CLIP(**TINY_ARCHITECTURE), TINY_PREPROCESS, _own_tokenizer(TINY_ARCHITECTURE))
    backbone.blueprint = TINY_ARCHITECTURE
    if weights != "random":
        load_ours(backbone, Path(weights) if weights else SHIPPED / "tiny_clip.safetensors")
    return backbone


def _build_lit(tower: str, weights: str | None, img_size: int | None) -> ClipBackbone:
    """A locked timm tower beside a text tower in its feature space; `weights` is the tower's file, or all of both."""
    if tower.split(".")[0] not in timm.list_models():
        raise WeightsError(f"convnet_type '{LIT}{tower}' is unknown to timm{nearest(tower, timm.list_models())}")
    ours = _is_file(weights) and written_by_pretrain(Path(weights))
    image = build_vit(tower, "random" if ours else weights, img_size)
    vision = {
        "timm_model_name": tower,
        "timm_proj": "none",
        "timm_pool": image.net.global_pool,
        "image_size": image.preprocess.size,
    }
    model_cfg = {"embed_dim": image.dim, "vision_cfg": vision, "text_cfg": LIT_TEXT}
    net = open_clip.CustomTextCLIP(**model_cfg)
    net.visual.trunk = image.net
    backbone = ClipBackbone(net, image.preprocess, _own_tokenizer(model_cfg))
    backbone.blueprint = model_cfg | {"custom_text": True}
    if ours:
        load_ours(backbone, Path(weights))
    return backbone


def _own_tokenizer(model_cfg: Mapping) -> Tokenizer:
    """CLIP's own tokenizer, for the length of a model's texts."""
    return open_clip.SimpleTokenizer(context_length=model_cfg["text_cfg"]["context_length"])
