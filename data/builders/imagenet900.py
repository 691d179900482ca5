"""The other 900 classes of ImageNet: what a model knew beside ImageNet-100 and is to know still."""

from pathlib import Path

from data.builders.base import Built
from data.builders.imagenet import LAYOUT
from data.builders.imagenet100 import chosen
from data.builders.trees import by_class, need_images
from data.builders.wordnet import imagenet_halves, wnid_folders, wnid_records
from utils.imagenet import imagenet_names


def build(root: Path, *, classes: Path | None = None, seed: int = 1993) -> Built:
    """Index the classes that `imagenet100` leaves out; of each all test images and, for its name, one for training.

    Args:
        root: holds ImageNet's train/ and val/.
        classes: the file that `imagenet100` was given, see there.
        seed: the seed that `imagenet100` was given.

    Raises:
        DataError: the layout is not there, or a listed class has no folder.
    """
    halves, names = imagenet_halves(root, LAYOUT), imagenet_names()
    left_out = set(chosen(halves["train"], classes, seed))
    wnids = [group.name for group in wnid_folders(halves["test"]) if group.name not in left_out]
    train, test = (wnid_records(root, halves[split], names, wnids) for split in ("train", "test"))
    splits = {"train": [group[0] for group in by_class(train).values()], "test": test}
    return Built(root, need_images(splits, root, LAYOUT))
