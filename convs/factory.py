"""From a `convnet_type` to a backbone."""

from convs.backbone import Backbone
from convs.names import is_clip


def build_backbone(name: str, weights: str | None = None, img_size: int | None = None) -> Backbone:
    """The backbone a config asks for: open_clip's where the name is a CLIP's, timm's otherwise.

    Raises:
        WeightsError: see `convs.vit.build_vit` and `convs.clip.build_clip`.
    """
    if is_clip(name):
        from convs.clip import build_clip

        return build_clip(name, weights, img_size)
    from convs.vit import build_vit

    return build_vit(name, weights, img_size)
