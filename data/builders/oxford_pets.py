"""Oxford-IIIT Pets (Parkhi et al., CVPR 2012): breeds under cat and dog."""

from pathlib import Path

from data.builders.base import Built, Layout, natural, read_rows
from data.builders.fetch import fetch
from data.builders.trees import need_images
from data.index import Record

LAYOUT = Layout(
    "images/*.jpg and annotations/{trainval,test}.txt in the root or in its oxford-iiit-pet/",
    "the Pets page of VGG, Oxford (https://www.robots.ox.ac.uk/~vgg/data/pets/)",
    offered=True,
)
FILES = {"train": "trainval.txt", "test": "test.txt"}
SPECIES = {"1": "cat", "2": "dog"}


def build(root: Path, *, download: bool = False) -> Built:
    """Index the set's own split, classes in the set's own order.

    Raises:
        DataError: the layout is not there, a list is damaged, or the download failed.
    """
    places = [root / "oxford-iiit-pet" / "annotations", root / "annotations"]
    if download and not any(place.exists() for place in places):
        fetch("OxfordIIITPet", root, LAYOUT, root / "oxford-iiit-pet" / "images.tar.gz")
    lists = LAYOUT.need(*places)
    start = (lists.parent / "images").relative_to(root).as_posix()
    splits = {split: _records(LAYOUT.need(lists / name), start) for split, name in FILES.items()}
    return Built(root, need_images(splits, root, LAYOUT))


def _records(file: Path, start: str) -> list[Record]:
    """Rows such as `Abyssinian_100 1 1 1`: image, class, species, breed within the species."""
    rows = sorted(read_rows(file, 4), key=lambda row: (natural(row[1]), natural(row[0])))
    return [Record(f"{start}/{image}.jpg", SPECIES.get(kind, kind), _breed(image)) for image, _, kind, _ in rows]


def _breed(image: str) -> str:
    return " ".join(word.title() for word in image.split("_")[:-1])
