"""ImageNet-R (Hendrycks et al., ICCV 2021): 200 ImageNet classes as art, toys and sketches."""

from pathlib import Path

from data.builders.base import Built, Layout
from data.builders.wordnet import build_variant

LAYOUT = Layout(
    "folders such as n01443537/ in the root or in its imagenet-r/, or PILOT's train/ and test/ with such folders",
    "the imagenet-r repository of hendrycks (https://github.com/hendrycks/imagenet-r)",
)


def build(root: Path, *, test_fraction: float = 0.2, seed: int = 0) -> Built:
    """Index PILOT's split, or split the original folder 80/20 by seed (it has no split of its own).

    Raises:
        DataError: the layout is not there.
    """
    return build_variant(root, "imagenet-r", LAYOUT, test_fraction, seed)
