"""Any tree of images: class/*.jpg, or coarse/fine/*.jpg, split by its own train/ and test/ or by fraction."""

import logging
from pathlib import Path

from data.builders.base import Built, Layout
from data.builders.labels import told_apart
from data.builders.trees import divided, images_below, passed_over, split_folders, split_named, subfolders
from data.index import Record
from utils.errors import DataError

LAYOUT = Layout(
    "class/*.jpg or coarse/fine/*.jpg below the root, or the same below train/ and test/ (or val/)",
    "your own photographs; set --root to the folder that holds them",
)
log = logging.getLogger("lethe")


def build(root: Path, *, test_fraction: float = 0.25, seed: int = 0, exclude_small: int = 0) -> Built:
    """Index a tree of images.

    Args:
        root: the folder that holds the classes, or train/ and test/ with the classes.
        test_fraction: the part of each class that is held out where the tree has no split of its own.
        seed: of that split.
        exclude_small: classes with fewer images (both splits counted) are left out.

    Raises:
        DataError: there is no image, some lie deeper than others, or half of a split is missing.
        ConfigError: the fraction is not between 0 and 1.
    """
    folders = split_folders(root) or {"all": _whole(root)}
    found = {split: images_below(folder) for split, folder in folders.items()}
    _same_depth([(folders[split], parts) for split in found for parts in found[split]])
    labels = told_apart({(parts[0], parts[-2]) for split in found.values() for parts in split})
    images = [
        (split, Record(folders[split].joinpath(*parts).relative_to(root).as_posix(), *labels[parts[0], parts[-2]]))
        for split, split_parts in found.items()
        for parts in split_parts
    ]
    _say_passed_over(root, folders)
    return Built(root, divided(images, root, LAYOUT, test_fraction, seed, exclude_small))


def _whole(root: Path) -> Path:
    """A root without a split of its own; half of one would pass for parents or classes."""
    names = [folder.name for folder in subfolders(root)]
    if names and all(map(split_named, names)):
        raise DataError(f"{root}: holds {' and '.join(names)} alone; expected {LAYOUT.expects}")
    return root


def _say_passed_over(root: Path, folders: dict[str, Path]) -> None:
    beside = [] if "all" in folders else [folder for folder in subfolders(root) if folder not in folders.values()]
    others = [*(f"{folder.name}/" for folder in beside), *filter(None, map(passed_over, folders.values()))]
    if others:
        log.info("%s: passed over: %s", root, ", ".join(others))


def _same_depth(images: list[tuple[Path, tuple[str, ...]]]) -> None:
    """One or two folders above every image, the same number above all."""
    if not images:
        return
    folder, first = images[0]
    for start, parts in images:
        if len(parts) != len(first) or len(parts) not in (2, 3):
            raise DataError(
                f"{start.joinpath(*parts)}: {len(parts) - 1} folders above this image, "
                f"{len(first) - 1} above {folder.joinpath(*first)}; expected {LAYOUT.expects}"
            )
