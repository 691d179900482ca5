"""Folders of photographs and files of names as people hand them over: read, or refused with what is to be mended."""

import json
from collections.abc import Iterable
from pathlib import Path

from data.builders import folder as tree
from data.builders.base import Built, read_lines, readable
from data.builders.trees import by_class, images_below, split_folders, subfolders
from data.index import SPLITS
from utils.errors import DataError
from utils.plain import Twin, no_twins, writable

LEAST = 2  # images of a class: one to show, one to test by


def photographs(folder: Path, test_fraction: float) -> Built:
    """A folder of class/*.jpg or parent/class/*.jpg, or of either below train/ and test/.

    Args:
        folder: holds the classes' folders.
        test_fraction: of each class's images that is held out where the folder has no split of its own; at least one,
            and never all.

    Raises:
        DataError: the folder is missing or of another layout, a class has no image or too few, or two folders name one
            class.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of photographs (seen from {Path.cwd()})")
    for place in (split_folders(folder) or {"all": folder}).values():
        _no_empty_class(place)
    built = tree.build(folder, test_fraction=test_fraction)
    _one_folder_a_class(built, folder)
    _enough_images(built, folder)
    return built


def _no_empty_class(folder: Path) -> None:
    classes = subfolders(folder)
    empty = [place for place in classes if not images_below(place)]
    if not classes or empty:
        raise DataError(f"{[*empty, folder][0]}: holds no image; expected {tree.LAYOUT.expects}")


def _one_folder_a_class(built: Built, folder: Path) -> None:
    named: dict[str, set[str]] = {}
    for split in built.splits.values():
        for record in split:
            named.setdefault(record.fine.casefold(), set()).add(Path(record.path).parent.name)
    twins = next((sorted(names) for names in named.values() if len(names) > 1), None)
    if twins:
        raise DataError(f"{folder}: the folders '{twins[0]}' and '{twins[1]}' name one class; put them together")


def _enough_images(built: Built, folder: Path) -> None:
    counts = {split: by_class(built.splits[split]) for split in SPLITS}
    for name in sorted({*counts["train"], *counts["test"]}):
        shown, tested = (len(counts[split].get(name, ())) for split in SPLITS)
        if not shown or not tested:
            raise DataError(
                f"{folder}: '{name}' has {shown + tested} image(s), {shown} to show and {tested} to test by; at least "
                f"{LEAST} are needed, one of each"
            )


def read_names(file: Path) -> dict[str, str | None]:
    """Names, and the parents of those that have one.

    Args:
        file: `.json` with an object {name: parent or null} or a list of names; else a text of one name a line.

    Returns:
        Name → parent or None; as for folders, underscores are spaces.

    Raises:
        DataError: it cannot be read, holds something else or nothing, or two of its names differ in case at most.
    """
    found = _read_json(file) if file.suffix == ".json" else [line for _, line in read_lines(file)]
    pairs = list(found.items()) if isinstance(found, dict) else [(name, None) for name in found]
    if not pairs or not all(_is_name(name) and (parent is None or _is_name(parent)) for name, parent in pairs):
        raise DataError(f'{file}: expected names, as {{"name": "parent"}} or as a list, each of them text')
    pairs = [(readable(name), parent and readable(parent)) for name, parent in pairs]
    no_two_alike((name for name, _ in pairs), str(file))
    return dict(pairs)


def no_two_alike(names: Iterable[str], place: str) -> None:
    """See that names differ by more than their case.

    Args:
        names: to be told apart.
        place: where they stand, for the message.

    Raises:
        DataError: two do not; names both.
    """
    seen: dict[str, str] = {}
    for name in names:
        if name.casefold() in seen:
            raise DataError(f"{place}: '{seen[name.casefold()]}' and '{name}' are one name to a text tower; keep one")
        seen[name.casefold()] = name


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(readable(value)) and writable(value)


def _read_json(file: Path) -> dict | list:
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=no_twins)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    except (Twin, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(f"{file}: not readable as JSON ({reason})") from error
    return found if isinstance(found, dict | list) else []
