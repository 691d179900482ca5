"""Image towers by torchvision."""

from pathlib import Path

from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model, get_model_weights
from torchvision.models.vision_transformer import interpolate_embeddings

from convs.backbone import Backbone, Preprocess
from convs.classifier import imagenet_heads
from convs.download import downloading
from convs.files import read_weights, written_by_pretrain
from convs.names import TORCHVISION, TORCHVISION_VITS
from convs.vit import load_ours
from utils.errors import WeightsError, nearest


class TorchvisionBackbone(Backbone):
    """A torchvision vision transformer without its classifier; a feature is the class token behind the last norm."""

    def __init__(self, net: nn.Module, preprocess: Preprocess):
        super().__init__()
        net.heads = nn.Identity()
        self.net, self.preprocess, self.dim = net, preprocess, net.hidden_dim

    @property
    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, first to last."""
        return list(self.net.encoder.layers)

    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → [B, dim]."""
        return self.net(images)


def build_torchvision_vit(name: str, weights: str | None = None, img_size: int | None = None) -> TorchvisionBackbone:
    """A ViT of torchvision.

    Args:
        name: `torchvision:` and one of `TORCHVISION_VITS`.
        weights: None (torchvision's IMAGENET1K_V1), `random`, or a local file: torchvision's, whose classifier is
            known by name where it has ImageNet's 1,000 classes, or one that the `pretrain` learner wrote.
        img_size: input size where it differs from 224; position embeddings are resampled.

    Raises:
        WeightsError: unknown name, a size that the patches do not fill, or weights that cannot be had or do not fit.
    """
    bare = name.removeprefix(TORCHVISION)
    if bare not in TORCHVISION_VITS:
        raise WeightsError(f"convnet_type '{name}' is unknown{nearest(bare, TORCHVISION_VITS)}")
    published = get_model_weights(bare).IMAGENET1K_V1
    look = _preprocess(published, img_size)
    ours = weights not in (None, "random") and written_by_pretrain(Path(weights))
    state = None if ours or weights == "random" else _read(bare, published, weights)
    backbone = TorchvisionBackbone(_create(bare, look.size), look)
    if ours:
        load_ours(backbone, Path(weights))
    elif state is not None:
        _load(backbone, state, weights or name)
    return backbone


def _create(name: str, size: int) -> nn.Module:
    patch = int(name.rsplit("_", 1)[1])
    if size % patch:
        raise WeightsError(f"key 'img_size': {size} is no multiple of {patch}, the side of a patch of {name}")
    return get_model(name, weights=None, image_size=size)


def _preprocess(published: WeightsEnum, img_size: int | None) -> Preprocess:
    look = published.transforms()
    crop, resize = look.crop_size[0], look.resize_size[0]
    return Preprocess(img_size or crop, tuple(look.mean), tuple(look.std), crop / resize, look.interpolation.value)


def _read(name: str, published: WeightsEnum, weights: str | None) -> dict[str, Tensor]:
    if weights is None:
        with downloading(f"{TORCHVISION}{name}", f'"weights": "/path/to/{name}.pth"'):
            return dict(published.get_state_dict(progress=False, check_hash=True))
    state, _ = read_weights(Path(weights))
    return state


def _load(backbone: TorchvisionBackbone, state: dict[str, Tensor], source: str) -> None:
    """Everything strictly; the classifier, which the net has no more, becomes a trained head."""
    net = backbone.net
    classifier = [state.pop(f"heads.head.{part}", None) for part in ("weight", "bias")]
    try:
        net.load_state_dict(interpolate_embeddings(net.image_size, net.patch_size, state))
    except (RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(f"{source}: does not fit this ViT ({' '.join(str(error).split())[:200]})") from error
    backbone.trained_heads = imagenet_heads(*classifier)
