"""Image–text models by open_clip."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import open_clip
import timm
import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer as OpenTransformer
from torch import Tensor, nn

from convs.backbone import Backbone, Preprocess
from convs.download import downloading
from convs.files import read_weights, written_by_pretrain
from convs.names import LIT, SHIPPED
from convs.text import encode_tokens
from convs.vit import TINY_PREPROCESS, build_vit, is_plain, load_ours, tokens_of
from utils.errors import WeightsError, nearest

TINY_ARCHITECTURE = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 128, "layers": 4, "head_width": 32},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3},
}
LIT_TEXT = {"context_length": 32, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 4}
TEXT_BATCH = 256

Tokenizer = Callable[[list[str]], Tensor]


class ClipBackbone(Backbone):
    """The image tower of an open_clip model, its text tower at hand.

    Args:
        net: the model.
        preprocess: the input its weights were made for.
        tokenizer: texts → tokens [T, length]; None: CLIP's own.
    """

    def __init__(self, net: nn.Module, preprocess: Preprocess, tokenizer: Tokenizer | None = None):
        super().__init__()
        self.net, self.preprocess = net, preprocess
        self.tokenizer = tokenizer or open_clip.SimpleTokenizer(context_length=net.context_length)
        self.dim = self._embedding_width()

    @property
    def blocks(self) -> list[nn.Module]:
        """The image tower's transformer blocks, first to last.

        Raises:
            WeightsError: the tower is no transformer.
        """
        visual = self.net.visual
        holder, name = (visual.trunk, "blocks") if hasattr(visual, "trunk") else (visual, "transformer")
        found = getattr(holder, name, None)
        if found is None:
            raise WeightsError(f"the image tower ({type(holder).__name__}) has no transformer blocks; choose a ViT")
        return list(found if name == "blocks" else found.resblocks)

    @property
    def text_blocks(self) -> list[nn.Module]:
        """The text tower's transformer blocks, first to last.

        Raises:
            WeightsError: the tower is not open_clip's own transformer.
        """
        tower = getattr(self.net, "text", self.net)
        if not hasattr(getattr(tower, "transformer", None), "resblocks"):
            raise WeightsError(f"the text tower ({type(tower).__name__}) has no transformer blocks of open_clip's own")
        return list(tower.transformer.resblocks)

    @property
    def tuned_text(self) -> list[nn.Module]:
        """The blocks of the text tower that take adapters."""
        return self.text_blocks[-(self.tune_blocks or 0) :]

    @property
    def scale(self) -> Tensor:
        """exp(logit_scale), as a constant."""
        return self.net.logit_scale.detach().exp()

    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → projected, not normalised embeddings [B, dim]."""
        return self.net.encode_image(images)

    @property
    def image_net(self) -> nn.Module:
        """The image tower."""
        return self.net.visual

    def splits(self) -> bool:
        """Whether its image tower is open_clip's own transformer, or timm's plain one."""
        visual = self.net.visual
        own = type(visual) is OpenTransformer and visual.transformer.batch_first and not visual.output_tokens
        return own or (hasattr(visual, "trunk") and is_plain(visual.trunk))

    def enter(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → what enters the first block, [B, tokens, width]."""
        visual = self.net.visual
        return tokens_of(visual.trunk, images) if hasattr(visual, "trunk") else visual._embeds(images)

    def leave(self, hidden: Tensor) -> Tensor:
        """What the last block puts out, [B, tokens, width] → [B, dim]."""
        visual = self.net.visual
        if hasattr(visual, "trunk"):
            return visual.head(visual.trunk.forward_head(visual.trunk.norm(hidden)))
        pooled, _ = visual._pool(hidden)
        return pooled if visual.proj is None else pooled @ visual.proj

    def encode_text(self, texts: list[str]) -> Tensor:
        """[T] texts → embeddings [T, dim], not normalised."""
        device = self.net.logit_scale.device
        parts = [texts[i : i + TEXT_BATCH] for i in range(0, len(texts), TEXT_BATCH)]
        with self.casting():
            found = [encode_tokens(self.net, self.tokenizer(part).to(device)) for part in parts]
        return torch.cat(found).float() if self.half else torch.cat(found)

    def name_features(self, names: list[str], templates: tuple[str, ...]) -> Tensor:
        """Ensemble features of class names: normalised per template, averaged, normalised again.

        Args:
            names: n class names.
            templates: texts with `{}` for the name.

        Returns:
            [n, dim].

        Source: Radford et al., CLIP, ICML 2021, section 3.1.4.
        """
        texts = [template.replace("{}", name) for name in names for template in templates]
        features = F.normalize(self.encode_text(texts), dim=-1)
        return F.normalize(features.view(len(names), len(templates), -1).mean(1), dim=-1)

    @torch.no_grad()
    def _embedding_width(self) -> int:
        """The width both towers share; image towers of different libraries keep theirs in different places."""
        return self.encode_text([""]).shape[1]


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
    backbone = ClipBackbone(open_clip.CLIP(**TINY_ARCHITECTURE), TINY_PREPROCESS)
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
    backbone = ClipBackbone(net, image.preprocess)
    backbone.blueprint = model_cfg | {"custom_text": True}
    if ours:
        load_ours(backbone, Path(weights))
    return backbone
