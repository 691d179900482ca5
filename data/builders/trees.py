"""Folders of images: listing them in a fixed order, splitting them by fraction."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from data.builders.base import Layout, natural, readable
from data.index import Record
from utils.errors import ConfigError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
TEST_FOLDERS = ("test", "val", "valid", "validation")


def is_image(name: str) -> bool:
    """Whether a file's name says that it is an image; hidden files never are."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def subfolders(folder: Path, order: Callable = natural) -> list[Path]:
    """The folders right below a folder, hidden ones left out, sorted by name."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return [folder / name for name in sorted(names, key=order)]


def images_in(folder: Path) -> list[str]:
    """The names of the images right below a folder, sorted."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if is_image(entry.name)]
    return sorted(names, key=natural)


def images_below(folder: Path) -> list[tuple[str, ...]]:
    """All images below a folder as path parts relative to it, sorted part by part."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        parts = Path(place).relative_to(folder).parts
        found += [(*parts, name) for name in names if is_image(name)]
    return sorted(found, key=lambda parts: [natural(part) for part in parts])


def class_records(
    root: Path, folder: Path, name: Callable[[str], str] = readable, order: Callable = natural
) -> list[Record]:
    """The images of a `class/image` tree, one class after the other.

    Args:
        root: what the paths are relative to.
        folder: holds one folder a class, at or below `root`.
        name: from a folder's name to the label, the same on both levels.
        order: sort key of the folders' names.
    """
    records = []
    for group in subfolders(folder, order):
        start, label = group.relative_to(root).as_posix(), name(group.name)
        records += [Record(f"{start}/{image}", label, label) for image in images_in(group)]
    return records


def split_folders(root: Path) -> dict[str, Path] | None:
    """`{"train": …, "test": …}` where both folders are there (`val/` counts as test), else None."""
    tests = [root / name for name in TEST_FOLDERS if (root / name).is_dir()]
    return {"train": root / "train", "test": tests[0]} if tests and (root / "train").is_dir() else None


def by_class(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by fine label, labels in order of appearance."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.fine, []).append(record)
    return groups


def draw(records: list[Record], count: int, seed: int) -> list[Record]:
    """`count` records drawn by seed, in the order they had.

    A record's place in the draw hangs on the seed and its own path alone, so that images added later disturb the
    draw as little as possible, and every machine and Python version draws the same.
    """
    chosen = set(sorted((r.path for r in records), key=lambda path: _lot(path, seed))[:count])
    return [record for record in records if record.path in chosen]


def split_by_fraction(records: list[Record], fraction: float, seed: int) -> dict[str, list[Record]]:
    """Every class split by a fraction, at least one test and one training image each; a lone image is trained on.

    Raises:
        ConfigError: the fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"--test-fraction {fraction}: expected a number between 0 and 1")
    splits: dict[str, list[Record]] = {"train": [], "test": []}
    for group in by_class(records).values():
        held = {r.path for r in draw(group, min(max(1, round(len(group) * fraction)), len(group) - 1), seed)}
        for record in group:
            splits["test" if record.path in held else "train"].append(record)
    return splits


def need_images(splits: dict[str, list[Record]], root: Path, layout: Layout) -> dict[str, list[Record]]:
    """The splits as they are.

    Raises:
        DataError: one of them holds no image ("all" is a set not split yet).
    """
    for split, records in splits.items():
        if not records:
            raise layout.missing(root, "no images" if split == "all" else f"no {split} images")
    return splits


def _lot(path: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{path}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
