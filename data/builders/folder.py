"""Any tree of images: class/*.jpg, or coarse/fine/*.jpg, split by its own train/ and test/ or by fraction."""

from pathlib import Path

from data.builders.base import Built, Layout, readable
from data.builders.trees import by_class, images_below, need_images, split_by_fraction, split_folders
from data.index import Record
from utils.errors import DataError

LAYOUT = Layout(
    "class/*.jpg or coarse/fine/*.jpg below the root, or the same below train/ and test/ (or val/)",
    "your own photographs; set --root to the folder that holds them",
)


def build(root: Path, *, test_fraction: float = 0.25, seed: int = 0, exclude_small: int = 0) -> Built:
    """Index a tree of images.

    Args:
        root: the folder that holds the classes, or train/ and test/ with the classes.
        test_fraction: the part of each class that is held out where the tree has no split of its own.
        seed: of that split.
        exclude_small: classes with fewer images (both splits counted) are left out.

    Raises:
        DataError: there is no image, or some lie deeper than others.
        ConfigError: the fraction is not between 0 and 1.
    """
    folders = split_folders(root) or {"all": root}
    found = {split: images_below(folder) for split, folder in folders.items()}
    _same_depth([(folders[split], parts) for split in found for parts in found[split]])
    labels = _labels({parts[:-1] for split in found.values() for parts in split})
    splits = {
        split: [Record((folders[split].joinpath(*p)).relative_to(root).as_posix(), *labels[p[:-1]]) for p in images]
        for split, images in found.items()
    }
    splits = need_images(_without_small(splits, exclude_small), root, LAYOUT)
    return Built(root, split_by_fraction(splits["all"], test_fraction, seed) if "all" in splits else splits)


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


def _labels(groups: set[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, str]]:
    """Folders → (coarse, fine); a fine name that stands under several parents gets its parent's name before it."""
    parents: dict[str, set[str]] = {}
    for group in groups:
        parents.setdefault(readable(group[-1]), set()).add(readable(group[0]))
    labels = {}
    for group in groups:
        coarse, fine = readable(group[0]), readable(group[-1])
        labels[group] = (coarse, f"{coarse} {fine}" if len(group) == 2 and len(parents[fine]) > 1 else fine)
    return labels


def _without_small(splits: dict[str, list[Record]], least: int) -> dict[str, list[Record]]:
    sizes = {fine: len(group) for fine, group in by_class(r for split in splits.values() for r in split).items()}
    return {split: [r for r in records if sizes[r.fine] >= least] for split, records in splits.items()}
