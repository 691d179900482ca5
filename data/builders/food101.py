"""Food-101 (Bossard et al., ECCV 2014) with its own split."""

import json
from pathlib import Path

from data.builders.base import Built, Layout, natural, readable
from data.builders.fetch import fetch
from data.builders.trees import need_images
from data.index import Record
from utils.errors import DataError

LAYOUT = Layout(
    "images/<class>/*.jpg and meta/{train,test}.json in the root or in its food-101/",
    "the Food-101 page of ETH Zurich (https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/)",
    offered=True,
)


def build(root: Path, *, download: bool = False) -> Built:
    """Index the split lists, classes sorted by name.

    Raises:
        DataError: the layout is not there, a list is damaged, or the download failed.
    """
    places = [root / "food-101" / "meta", root / "meta"]
    if download and not any(place.exists() for place in places):
        fetch("Food101", root, LAYOUT, root / "food-101.tar.gz")
    meta = LAYOUT.need(*places)
    start = (meta.parent / "images").relative_to(root).as_posix()
    splits = {split: _records(LAYOUT.need(meta / f"{split}.json"), start) for split in ("train", "test")}
    return Built(root, need_images(splits, root, LAYOUT))


def _records(file: Path, start: str) -> list[Record]:
    """One list: `{"apple_pie": ["apple_pie/1005649", …], …}`."""
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
        return [
            Record(f"{start}/{image}.jpg", readable(name), readable(name))
            for name in sorted(listed)
            for image in sorted(listed[name], key=natural)
        ]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{file}: not a list of images by class ({error})") from error
