"""Folders that are named by WordNet ids: ImageNet and its variants."""

import re
from collections.abc import Iterable
from pathlib import Path

from data.builders.base import Built, Layout, read_lines, readable
from data.builders.trees import class_records, images_in, need_images, split_by_fraction, split_folders, subfolders
from data.index import Record
from utils.imagenet import imagenet_names

WNID = re.compile(r"n\d{8}")


def readme_names(file: Path) -> dict[str, str]:
    """Wnid → name from lines such as `n01443537 goldfish` among other text."""
    lines = (line.split(maxsplit=1) for _, line in read_lines(file))
    return {row[0]: readable(row[1]) for row in lines if len(row) == 2 and WNID.fullmatch(row[0])}


def wnid_folders(folder: Path) -> list[Path]:
    """The folders named by a wnid right below a folder, sorted."""
    return [group for group in subfolders(folder) if WNID.fullmatch(group.name)]


def wnid_records(root: Path, folder: Path, names: dict[str, str], wnids: Iterable[str]) -> list[Record]:
    """The images of some classes, one class after the other, in the order of `wnids`."""
    start = folder.relative_to(root).as_posix()
    return [
        Record(f"{start}/{wnid}/{image}", names.get(wnid, wnid), names.get(wnid, wnid))
        for wnid in wnids
        for image in images_in(folder / wnid)
    ]


def imagenet_halves(root: Path, layout: Layout) -> dict[str, Path]:
    """ImageNet's `train/` and `val/`, which must both hold wnid folders.

    Raises:
        DataError: one is missing or not sorted into classes.
    """
    halves = {"train": layout.need(root / "train"), "test": layout.need(root / "val", root / "test")}
    for folder in halves.values():
        if not wnid_folders(folder):
            raise layout.missing(folder / "n01440764")
    return halves


def build_variant(root: Path, home: str, layout: Layout, test_fraction: float, seed: int) -> Built:
    """ImageNet-R or -A: split by PILOT into train/ and test/, or the original single folder, which is split here.

    Args:
        root: the data's folder or the one above it.
        home: the folder's own name in the original archive.
        layout: for messages.
        test_fraction: held out of the original, class by class.
        seed: of that split.
    """
    base = next((place for place in (root, root / home) if place.is_dir() and _has_classes(place)), None)
    if base is None:
        raise layout.missing(root / home)
    named = readme_names(base / "README.txt") if (base / "README.txt").exists() else {}
    names = named or imagenet_names()
    folders = split_folders(base)
    if folders:
        splits = {
            split: class_records(root, folder, lambda wnid: names.get(wnid, wnid)) for split, folder in folders.items()
        }
    else:
        wnids = [folder.name for folder in wnid_folders(base)]
        splits = split_by_fraction(wnid_records(root, base, names, wnids), test_fraction, seed)
    return Built(root, need_images(splits, root, layout))


def _has_classes(place: Path) -> bool:
    return split_folders(place) is not None or bool(wnid_folders(place))
