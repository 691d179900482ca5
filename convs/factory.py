"""From a `convnet_type` to a backbone."""

from functools import partial

from convs.backbone import Backbone
from convs.names import FACES, TORCHVISION, is_clip


def build_backbone(name: str, weights: str | None = None, img_size: int | None = None) -> Backbone:
    """The backbone a config asks for: open_clip's where the name is a CLIP's, a face ViT, torchvision's, or timm's.

    Raises:
        WeightsError: see `build_vit`, `build_torchvision_vit`, `build_face` and `build_clip`.
    """
    backbone = _build(name, weights, img_size)
    backbone.rebuilt = partial(build_backbone, name, img_size=img_size)
    return backbone


def _build(name: str, weights: str | None, img_size: int | None) -> Backbone:
    if name in FACES:
        from convs.face import build_face

        return build_face(name, weights, img_size)
    if name.startswith(TORCHVISION):
        from convs.torchvision_vit import build_torchvision_vit

        return build_torchvision_vit(name, weights, img_size)
    if is_clip(name):
        from convs.clip_models import build_clip

        return build_clip(name, weights, img_size)
    from convs.vit import build_vit

    return build_vit(name, weights, img_size)
