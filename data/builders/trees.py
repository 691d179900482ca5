"""Folders of images: listing them in a fixed order, splitting them by what is said of them or by fraction."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from data.builders.base import Layout, natural, readable
from data.index import Record
from utils.errors import ConfigError

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".avif"}
)
SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_WORDS |= dict.fromkeys(("val", "valid", "validation"), "val")
log = logging.getLogger("lethe")


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


def passed_over(folder: Path) -> str:
    """The files below a folder that are no images by their names, as `3 .heic, 1 .txt`; or nothing."""
    counts = Counter[str]()
    for _, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        others = [name for name in names if not is_image(name) and not name.startswith(".")]
        counts.update(os.path.splitext(name)[1].lower() or "without suffix" for name in others)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())


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


def split_named(name: str) -> str | None:
    """`train`, `test` or `val`, where a name says so in any of the usual words and in any case."""
    return SPLIT_WORDS.get(name.casefold())


def train_and_test(names: Mapping[Path, str]) -> dict[str, Path] | None:
    """`{"train": …, "test": …}` where places have such names (`val` counts as test if there is none), else None."""
    named: dict[str, Path] = {}
    for place, name in names.items():
        named.setdefault(split_named(name) or "", place)
    test = named.get("test", named.get("val"))
    return {"train": named["train"], "test": test} if "train" in named and test else None


def split_folders(root: Path) -> dict[str, Path] | None:
    """The folders of a tree's own split, see `train_and_test`; None where it has none."""
    return train_and_test({folder: folder.name for folder in subfolders(root)}) if root.is_dir() else None


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


def divided(
    images: Iterable[tuple[str, Record]], root: Path, layout: Layout, fraction: float, seed: int, least: int = 0
) -> dict[str, list[Record]]:
    """Images as train and test.

    Args:
        images: what is said of each, `train`, `test` or `val`, and its record; `all` of all where nothing is said.
        root: where they lie, for messages.
        layout: what was expected there.
        fraction: of each class that is held out where nothing is said.
        seed: of that draw.
        least: classes with fewer images, both splits counted, are left out.

    Raises:
        DataError: a split has no image.
        ConfigError: the fraction is not between 0 and 1.
    """
    splits: dict[str, list[Record]] = {}
    for split, record in images:
        splits.setdefault(split, []).append(record)
    if "val" in splits and "test" not in splits:
        splits["test"] = splits.pop("val")
    if "val" in splits:
        log.info("%s: passed over beside test: %d images of val", root, len(splits.pop("val")))
    if "all" not in splits:
        splits = {split: splits.get(split, []) for split in (("train", "test") if splits else ("all",))}
    splits = need_images(_without_small(splits, least), root, layout)
    return split_by_fraction(splits["all"], fraction, seed) if "all" in splits else splits


def _without_small(splits: dict[str, list[Record]], least: int) -> dict[str, list[Record]]:
    sizes = {fine: len(group) for fine, group in by_class(r for split in splits.values() for r in split).items()}
    return {split: [r for r in records if sizes[r.fine] >= least] for split, records in splits.items()}


def _lot(path: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{path}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
