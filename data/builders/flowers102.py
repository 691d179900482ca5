"""Oxford Flowers-102 (Nilsback & Zisserman 2008): training and validation images for training, the rest as test."""

from pathlib import Path

from data.builders import mat
from data.builders.base import Built, Layout, readable
from data.builders.fetch import fetch
from data.builders.trees import need_images
from data.index import Record
from utils.errors import DataError

LAYOUT = Layout(
    "jpg/image_00001.jpg …, imagelabels.mat and setid.mat in the root or in its flowers-102/",
    "the 102 Category Flower page of VGG, Oxford (https://www.robots.ox.ac.uk/~vgg/data/flowers/102/)",
    offered=True,
)
PARTS = {"train": ("trnid", "valid"), "test": ("tstid",)}


def build(root: Path, *, download: bool = False) -> Built:
    """Index the images by the set's own lists, classes in the set's own order.

    Raises:
        DataError: the layout is not there, a list is damaged, or the download failed.
    """
    places = [root / "flowers-102" / "imagelabels.mat", root / "imagelabels.mat"]
    if download and not any(place.exists() for place in places):
        fetch("Flowers102", root, LAYOUT, root / "flowers-102" / "102flowers.tgz")
    base = LAYOUT.need(*places).parent
    labels, parts = _lists(base / "imagelabels.mat", LAYOUT.need(base / "setid.mat"))
    names, start = _names(), (base / "jpg").relative_to(root).as_posix()
    splits: dict[str, list[Record]] = {}
    for split, keys in PARTS.items():
        numbers = sorted((labels[number - 1], number) for key in keys for number in parts[key])
        splits[split] = [Record(f"{start}/image_{n:05d}.jpg", names[at - 1], names[at - 1]) for at, n in numbers]
    return Built(root, need_images(splits, root, LAYOUT))


def _lists(labels: Path, parts: Path) -> tuple[list[int], dict[str, list[int]]]:
    """The label of every image (from 1, image 1 first) and the image numbers of every part."""
    of_image = mat.load(labels, "labels")[0].ravel().tolist()
    keys = [key for of_split in PARTS.values() for key in of_split]
    numbers = {key: part.ravel().tolist() for key, part in zip(keys, mat.load(parts, *keys), strict=True)}
    if not all(0 < number <= len(of_image) for part in numbers.values() for number in part):
        raise DataError(f"{parts}: names images that {labels.name} has no label for")
    return of_image, numbers


def _names() -> list[str]:
    from torchvision.datasets import Flowers102

    return [readable(name).rstrip("?") for name in Flowers102.classes]
