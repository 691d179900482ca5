"""Images with their labels in csv tables: one table with a split of its own or without, or train.csv and test.csv."""

import csv
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.builders.base import Built, Layout, natural
from data.builders.labels import class_after_class, find_columns, read_columns, told_apart
from data.builders.trees import divided, split_named, train_and_test
from data.index import Record
from utils.errors import DataError

LAYOUT = Layout(
    "a table (.csv or .tsv) in the root, or train.csv and test.csv there, with a header and a row an image: its file, "
    "its class and, if there are any, its parent and its split",
    "your own table; set --root to the folder from which its files are named, --table to a table elsewhere",
)
SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t"
log = logging.getLogger("lethe")


@dataclass(frozen=True)
class Row:
    """One image: where that is said (`file:line`), its path below the root, its labels as written, and its split."""

    place: str
    path: str
    labels: tuple[str, str]
    split: str


def build(
    root: Path,
    *,
    table: Path | None = None,
    columns: str = "",
    test_fraction: float = 0.25,
    seed: int = 0,
    exclude_small: int = 0,
) -> Built:
    """Index the images of one table or of two.

    Args:
        root: the folder from which the tables name their images.
        table: where it lies elsewhere, or is not the only one.
        columns: which columns say what, `image=…,class=…,parent=…,split=…`, where their names do not.
        test_fraction: the part of each class that is held out where the tables have no split of their own.
        seed: of that split.
        exclude_small: classes with fewer images (both splits counted) are left out.

    Raises:
        DataError: there is no table or no image, a column is missing, a row is short, or its image is not there.
        ConfigError: `columns` cannot be read, or the fraction is not between 0 and 1.
    """
    given = read_columns(columns)
    rows = [row for split, file in _tables(root, table).items() for row in _rows(file, root, split, given)]
    labels = told_apart({row.labels for row in rows})
    every = ((row.split, Record(row.path, *labels[row.labels])) for row in rows)
    images = class_after_class(dict.fromkeys(every))  # an image may have rows for several things in it
    return Built(root, divided(images, root, LAYOUT, test_fraction, seed, exclude_small))


def _tables(root: Path, table: Path | None) -> dict[str, Path]:
    """Split, or "all", → its table."""
    if table is not None:
        return {"all": table}
    found = [file for file in root.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
    found.sort(key=lambda file: natural(file.name))
    if not found:
        raise LAYOUT.missing(root, "no table")
    tables = train_and_test({file: file.stem for file in found}) or {"all": found[0]}
    if len(tables) < len(found):
        others = ", ".join(file.name for file in found if file not in tables.values())
        if "all" in tables:
            raise DataError(f"{root}: holds {found[0].name}, {others}; say which with --table")
        log.info("%s: passed over beside its train and test tables: %s", root, others)
    return tables


def _rows(file: Path, root: Path, split: str, given: dict[str, str]) -> Iterator[Row]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            header = opened.readline()
            opened.seek(0)
            reader = csv.DictReader(opened, delimiter=max(DELIMITERS, key=header.count), strict=True)
            names = _columns(file, reader.fieldnames or [], given)
            for row in reader:
                yield _row(row, f"{file}:{reader.line_num}", root, split, names)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as csv ({getattr(error, 'strerror', None) or error})") from error


def _columns(file: Path, header: list[str], given: dict[str, str]) -> dict[str, str]:
    names = find_columns(header, given)
    absent = [what for what in ("image", "class", *given) if names.get(what) not in header]
    if absent:
        called = f"no column '{given[absent[0]]}'" if absent[0] in given else f"no column tells the {absent[0]}"
        raise DataError(
            f"{file}:1: {called} among {', '.join(map(repr, header)) or 'none'}; say which columns do with "
            "--columns image=…,class=…,parent=…,split=…"
        )
    return names


def _row(row: dict, place: str, root: Path, split: str, names: dict[str, str]) -> Row:
    said = {what: (row.get(name) or "").strip() for what, name in names.items()}
    empty = next((what for what, text in said.items() if not text), None)
    if empty or None in row:
        raise DataError(f"{place}: {f'the {empty} is empty' if empty else 'more fields than the header has columns'}")
    if split == "all" and "split" in said:
        split = split_named(said["split"])
        if split is None:
            raise DataError(f"{place}: split '{said['split']}'; expected train, or test or val")
    return Row(place, _below(root, said["image"], place), (said.get("parent", said["class"]), said["class"]), split)


def _below(root: Path, path: str, place: str) -> str:
    """The path of an image that is there, relative to the root."""
    relative = os.path.relpath(os.path.join(root, path), root)
    if relative.split(os.sep)[0] == os.pardir:
        raise DataError(f"{place}: image '{path}' leads out of {root}; set --root to a folder above it")
    if not (root / relative).is_file():
        raise DataError(f"{place}: image '{path}' does not exist in {root}; set --root to where the paths start")
    return Path(relative).as_posix()
