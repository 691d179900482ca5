"""ImageNet-100: 100 classes of ImageNet, listed in a file or the first 100 of a seeded shuffle."""

from pathlib import Path

from data.builders.base import Built, read_lines
from data.builders.imagenet import LAYOUT
from data.builders.trees import need_images
from data.builders.wordnet import imagenet_halves, wnid_folders, wnid_records
from utils.errors import DataError, nearest
from utils.imagenet import imagenet_names

COUNT = 100


def build(root: Path, *, classes: Path | None = None, seed: int = 1993) -> Built:
    """Index some classes in the order of the list or of the shuffle.

    Args:
        root: holds ImageNet's train/ and val/.
        classes: a file with one wnid a line (anything after it is ignored). Without it, numpy's legacy permutation of
            the sorted wnids by `seed`, the first 100, which with 1993 is the ImageNet-Subset of iCaRL's successors.
        seed: of that shuffle.

    Raises:
        DataError: the layout is not there, or a listed class has no folder.
    """
    halves = imagenet_halves(root, LAYOUT)
    wnids = chosen(halves["train"], classes, seed)
    for wnid in wnids:
        LAYOUT.need(halves["test"] / wnid)
    names = imagenet_names()
    splits = {split: wnid_records(root, folder, names, wnids) for split, folder in halves.items()}
    return Built(root, need_images(splits, root, LAYOUT))


def chosen(train: Path, classes: Path | None, seed: int) -> list[str]:
    """The wnids of the listed classes, or of those that the shuffle puts first.

    Raises:
        DataError: a listed class has no folder, or there are too few to draw from.
    """
    known = [group.name for group in wnid_folders(train)]
    return _listed(classes, known) if classes else _shuffled(known, seed)


def _listed(file: Path, known: list[str]) -> list[str]:
    wnids = []
    for place, line in read_lines(file):
        wnid = line.split()[0]
        if wnid not in known:
            raise DataError(f"{place}: train/ has no folder '{wnid}'{nearest(wnid, known)}")
        wnids.append(wnid)
    return list(dict.fromkeys(wnids))


def _shuffled(known: list[str], seed: int) -> list[str]:
    import numpy as np

    if len(known) < COUNT:
        raise DataError(f"ImageNet-100 needs {COUNT} classes, train/ has {len(known)}; name the classes with --classes")
    return [known[at] for at in np.random.RandomState(seed).permutation(len(known))[:COUNT]]
