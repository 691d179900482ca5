"""SUN397 scenes (Xiao et al., CVPR 2010): the first official partition where its lists are there, else in halves."""

from pathlib import Path

from data.builders.base import Built, Layout, read_lines, readable
from data.builders.fetch import fetch
from data.builders.trees import images_below, need_images, split_by_fraction
from data.index import Record

LAYOUT = Layout(
    "a/abbey/sun_*.jpg … in the root or in its SUN397/, with Training_01.txt and Testing_01.txt there for the official "
    "partition",
    "the SUN Database of Princeton (https://vision.princeton.edu/projects/2010/SUN/)",
    offered=True,
)
LISTS = {"train": "Training_01.txt", "test": "Testing_01.txt"}


def build(root: Path, *, download: bool = False, test_fraction: float = 0.5, seed: int = 0) -> Built:
    """Index the scenes; classes sorted by their path, `/a/apartment_building/outdoor` is "apartment building outdoor".

    Raises:
        DataError: the layout is not there, or the download failed.
        ConfigError: the fraction is not between 0 and 1.
    """
    places = [root / "SUN397", root / "a"]
    if download and not any(place.exists() for place in places):
        fetch("SUN397", root, LAYOUT, root / "SUN397.tar.gz")
    found = LAYOUT.need(*places)
    base = found if found.name == "SUN397" else root
    lists = {split: base / name for split, name in LISTS.items()}
    if all(file.exists() for file in lists.values()):
        splits = {split: _records(root, base, _listed(file)) for split, file in lists.items()}
    else:
        images = [parts for parts in images_below(base) if len(parts) > 2]
        splits = split_by_fraction(_records(root, base, images), test_fraction, seed)
    return Built(root, need_images(splits, root, LAYOUT))


def _listed(file: Path) -> list[tuple[str, ...]]:
    return sorted(tuple(line.strip("/").split("/")) for _, line in read_lines(file))


def _records(root: Path, base: Path, images: list[tuple[str, ...]]) -> list[Record]:
    """Path parts: the letter, the scene, perhaps indoor or outdoor, the image."""
    records = []
    for parts in images:
        label = readable(" ".join(parts[1:-1]))
        records.append(Record(base.joinpath(*parts).relative_to(root).as_posix(), label, label))
    return records
