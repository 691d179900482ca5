"""ImageNet-A (Hendrycks et al., CVPR 2021): photographs of 200 ImageNet classes that mislead a ResNet-50."""

from pathlib import Path

from data.builders.base import Built, Layout
from data.builders.wordnet import build_variant

LAYOUT = Layout(
    "folders such as n01498041/ in the root or in its imagenet-a/, or PILOT's train/ and test/ with such folders",
    "the natural-adv-examples repository of hendrycks (https://github.com/hendrycks/natural-adv-examples)",
)


def build(root: Path, *, test_fraction: float = 0.2, seed: int = 0) -> Built:
    """Index PILOT's split, or split the original folder 80/20 by seed (it has no split of its own).

    Raises:
        DataError: the layout is not there.
    """
    return build_variant(root, "imagenet-a", LAYOUT, test_fraction, seed)
