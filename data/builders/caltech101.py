"""Caltech-101 (Fei-Fei et al. 2004) without its background class; 30 training images a class, as is usual."""

from pathlib import Path

from data.builders.base import Built, Layout, readable
from data.builders.fetch import fetch
from data.builders.trees import by_class, class_records, draw, need_images
from utils.errors import ConfigError

LAYOUT = Layout(
    "101_ObjectCategories/<class>/image_0001.jpg … in the root or in its caltech101/",
    "CaltechDATA (https://data.caltech.edu/records/mzrjq-6wc02)",
    offered=True,
)
# what CLIP's authors call the classes whose folder names say little
NAMES = {
    "Faces": "off-center face",
    "Faces_easy": "centered face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "airplanes": "airplane",
    "car_side": "side of a car",
}


def build(root: Path, *, download: bool = False, per_class: int = 30, seed: int = 0) -> Built:
    """Index the images: `per_class` of each class drawn by seed for training (one at least is left for the test).

    Raises:
        DataError: the layout is not there, or the download failed.
        ConfigError: `per_class` is not positive.
    """
    if per_class < 1:
        raise ConfigError(f"--per-class {per_class}: expected a positive number of training images")
    places = [root / "caltech101" / "101_ObjectCategories", root / "101_ObjectCategories"]
    if download and not any(place.exists() for place in places):
        fetch("Caltech101", root, LAYOUT, root / "caltech101" / "caltech-101.zip")
    records = class_records(root, LAYOUT.need(*places), lambda name: NAMES.get(name, readable(name)))
    groups = by_class(r for r in records if r.fine != "BACKGROUND Google")
    training = {r.path for group in groups.values() for r in draw(group, min(per_class, max(1, len(group) - 1)), seed)}
    kept = [record for group in groups.values() for record in group]
    splits = {"train": [r for r in kept if r.path in training], "test": [r for r in kept if r.path not in training]}
    return Built(root, need_images(splits, root, LAYOUT))
