"""ImageNet-1k (Russakovsky et al., IJCV 2015), its validation images as test."""

from pathlib import Path

from data.builders.base import Built, Layout
from data.builders.trees import need_images
from data.builders.wordnet import imagenet_halves, wnid_folders, wnid_records
from utils.imagenet import imagenet_names

LAYOUT = Layout(
    "train/ and val/ with folders such as n01440764/ in the root (so does torchvision.datasets.ImageNet unpack them)",
    "ImageNet's site (https://www.image-net.org; ILSVRC2012, after registration)",
)


def build(root: Path) -> Built:
    """Index all classes that are there, in the order of their wnids.

    Raises:
        DataError: train/ or val/ is missing or not sorted into classes.
    """
    halves, names = imagenet_halves(root, LAYOUT), imagenet_names()
    splits = {
        split: wnid_records(root, folder, names, [group.name for group in wnid_folders(folder)])
        for split, folder in halves.items()
    }
    return Built(root, need_images(splits, root, LAYOUT))
