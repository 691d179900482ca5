"""Image towers by timm."""

import json
from pathlib import Path

import timm
from timm.models import VisionTransformer
from torch import Tensor, nn

from convs.backbone import Backbone, Preprocess, TrainedHead
from convs.classifier import CLASSES, imagenet_heads
from convs.download import downloading
from convs.files import read_weights, written_by_pretrain
from convs.names import PILOT, SHIPPED
from utils.errors import WeightsError, nearest

TINY_PREPROCESS = Preprocess(64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), crop_pct=0.9, interpolation="bilinear")
TINY_ARCHITECTURE = {"img_size": 64, "patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4}


class VitBackbone(Backbone):
    """A timm vision transformer without its classifier."""

    def __init__(self, net: nn.Module, preprocess: Preprocess):
        super().__init__()
        self.net, self.preprocess, self.dim = net, preprocess, net.num_features

    @property
    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, first to last."""
        return list(self.net.blocks)

    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → [B, dim]."""
        return self.net.forward_head(self.net.forward_features(images), pre_logits=True)

    def splits(self) -> bool:
        """Whether it is timm's plain transformer: relatives of it hand more than tokens from block to block."""
        return is_plain(self.net)

    def enter(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → what enters the first block, [B, tokens, width]."""
        return tokens_of(self.net, images)

    def leave(self, hidden: Tensor) -> Tensor:
        """What the last block puts out, [B, tokens, width] → [B, dim]."""
        return self.net.forward_head(self.net.norm(hidden), pre_logits=True)


def is_plain(net: nn.Module) -> bool:
    """Whether a timm net computes its features as a plain vision transformer does."""
    return isinstance(net, VisionTransformer) and type(net).forward_features is VisionTransformer.forward_features


def tokens_of(net: VisionTransformer, images: Tensor) -> Tensor:
    """[B, 3, size, size] → what enters the first block of a plain timm transformer, [B, tokens, width]."""
    return net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(images))))


def build_vit(name: str, weights: str | None = None, img_size: int | None = None) -> VitBackbone:
    """A timm ViT by its own or PILOT's name.

    Where the weights have a linear classifier of ImageNet-1k, its classes are known by name.

    Args:
        name: `tiny_vit`, a timm name with or without tag, or one of PILOT's.
        weights: None (the hub's, or the shipped ones), `random`, or a local file: timm's, or one that the `pretrain`
            learner wrote.
        img_size: input size where it differs from the weights' own; position embeddings are resampled.

    Raises:
        WeightsError: unknown name, no transformer, or weights that cannot be had or do not fit.
    """
    if name == "tiny_vit":
        return _build_tiny(weights)
    name = PILOT.get(name, name)
    _check_name(name)
    ours = weights not in (None, "random") and written_by_pretrain(Path(weights))
    net, heads = _create(name, "random" if ours else weights, img_size)
    if not all(hasattr(net, part) for part in ("blocks", "patch_embed", "forward_features")):  # some CNNs have blocks
        raise WeightsError(f"convnet_type '{name}' has no transformer blocks; choose a ViT")
    backbone = VitBackbone(net, _preprocess(net, img_size))
    backbone.trained_heads = heads
    sized = {"img_size": img_size} if img_size else {}
    backbone.blueprint = {"architecture": net.pretrained_cfg["architecture"], "model_args": sized}
    if ours:
        load_ours(backbone, Path(weights))
    return backbone


def _check_name(name: str) -> None:
    """Refuse what timm does not know: an architecture, or a tag of one."""
    if name.startswith("hf-hub:"):
        return
    architecture, _, tag = name.partition(".")
    known = timm.list_models()
    if tag and architecture in known:
        known = timm.list_pretrained(f"{architecture}.*")
    if name not in known:
        raise WeightsError(f"convnet_type '{name}' is unknown to timm{nearest(name, known)}")


def _create(name: str, weights: str | None, img_size: int | None) -> tuple[nn.Module, dict[str, TrainedHead]]:
    """The tower without a classifier, and the classifier."""
    sized = {"img_size": img_size} if img_size else {}
    options = {"num_classes": 0} | sized
    if weights == "random" and not name.startswith("hf-hub:"):
        return timm.create_model(name, pretrained=False, **options), {}
    if weights in (None, "random"):  # the hub's models have their architecture there
        options = sized if weights is None and _knows_imagenet(name) else options
        with downloading(name, f'"weights": "/path/to/{name}.safetensors"'):
            net = timm.create_model(name, pretrained=weights is None, **options)
        return net, _behead(net)
    overlay, heads = _overlay(name, Path(weights))
    try:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options), heads
    except (RuntimeError, KeyError) as error:
        raise WeightsError(f"{weights}: does not fit {name} ({_first_line(error)})") from error


def _knows_imagenet(name: str) -> bool:
    """Whether timm's weights of that name have one linear classifier of ImageNet-1k."""
    config = None if name.startswith("hf-hub:") else timm.get_pretrained_cfg(name)
    return config is not None and config.num_classes == CLASSES and isinstance(config.classifier, str)


def _behead(net: nn.Module) -> dict[str, TrainedHead]:
    """Take the classifier out of a net."""
    layer = net.get_classifier() if hasattr(net, "get_classifier") else None
    if not isinstance(layer, nn.Linear):
        return {}
    net.reset_classifier(0)
    return imagenet_heads(layer.weight, layer.bias)


def _overlay(name: str, file: Path) -> tuple[dict, dict[str, TrainedHead]]:
    """What makes timm load a local file strictly, and the file's classifier.

    Timm is lenient wherever the number of classes is not the file's.
    """
    state, _ = read_weights(file)
    config = timm.get_pretrained_cfg(name)
    classifier = (config and config.classifier) or "head"
    layers = (classifier,) if isinstance(classifier, str) else classifier
    taken = [[state.pop(f"{layer}.{part}", None) for part in ("weight", "bias")] for layer in layers]
    heads = imagenet_heads(*taken[0]) if len(layers) == 1 else {}  # two that are averaged are not one of a feature
    return {"state_dict": state, "num_classes": 0, "label_offset": 0}, heads


def _preprocess(net: nn.Module, img_size: int | None) -> Preprocess:
    config = net.pretrained_cfg
    size = img_size or config["input_size"][-1]
    return Preprocess(size, tuple(config["mean"]), tuple(config["std"]), interpolation=config["interpolation"])


def _build_tiny(weights: str | None) -> VitBackbone:
    backbone = VitBackbone(VisionTransformer(num_classes=0, **TINY_ARCHITECTURE), TINY_PREPROCESS)
    backbone.blueprint = {"architecture": "vit_tiny_patch16_224", "model_args": TINY_ARCHITECTURE}
    if weights != "random":
        load_ours(backbone, Path(weights) if weights else SHIPPED / "tiny_vit.safetensors")
    return backbone


def load_ours(backbone: Backbone, file: Path) -> None:
    """Load a file that the `pretrain` learner wrote: the tower, its classifier rows, and how its images looked.

    Raises:
        WeightsError: the file is missing or belongs to another architecture.
    """
    tensors, metadata = read_weights(file)
    tower = {key.removeprefix("net."): value for key, value in tensors.items() if key.startswith("net.")}
    try:
        backbone.net.load_state_dict(tower)
    except RuntimeError as error:
        raise WeightsError(f"{file}: does not fit this backbone ({_first_line(error)})") from error
    backbone.preprocess = backbone.preprocess.changed(
        json.loads(metadata.get("preprocess", "{}"))
    )  # older ones: as usual
    names = json.loads(metadata.get("classes", "{}"))
    heads = {level: tensors.get(f"heads.{level}") for level in names}
    backbone.trained_heads = {
        level: TrainedHead(tuple(names[level]), rows) for level, rows in heads.items() if rows is not None
    }


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
