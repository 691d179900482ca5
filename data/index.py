"""The jsonl index: one image a line, with its fine and its coarse label.

A data set is a folder of `train.jsonl`, `test.jsonl` and `set.json` (`{"root": …}`: what image paths are relative to;
optionally `"aliases": {fine name: [other names]}`, `"descriptions": {fine name: what is seen, without its name}` and,
of classes that need no image, `"names": {fine name: coarse name}`).
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from utils.atomic import write_text
from utils.errors import DataError
from utils.plain import writable

FIELDS = ("img_path", "coarse_label", "fine_label")
SPLITS = ("train", "test")
BESIDE = ("aliases", "names", "descriptions")  # what `set.json` says of classes, in the order of the fields


@dataclass(frozen=True)
class Record:
    """One image: its path relative to the data root (or absolute) and its labels."""

    path: str
    coarse: str
    fine: str


@dataclass(frozen=True)
class IndexedSet:
    """A data set as its index describes it, nothing decoded yet.

    Attributes:
        name: what the set is called in a config.
        folder: where `train.jsonl` and `test.jsonl` lie.
        root: what relative image paths start from.
        splits: split name → records in file order; record `i` stands on line `i + 1`.
        aliases: fine name → other names of the same class.
        names: fine name → coarse name of classes that need no image, because a model may know them by their names.
        descriptions: fine name → what its images show, in words that do not name it.
    """

    name: str
    folder: Path
    root: Path
    splits: dict[str, list[Record]]
    aliases: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)

    def place(self, split: str, position: int) -> str:
        """Where record `position` of a split is written, as `file:line`."""
        return f"{self.folder / split}.jsonl:{position + 1}"

    def file(self, split: str, position: int) -> Path:
        """The image file of record `position` of a split."""
        return self.root / self.splits[split][position].path


def read_set(name: str, folder: Path, root: Path | None = None, outside: bool = False) -> IndexedSet:
    """Read both splits of a data set.

    Args:
        name: the set's name.
        folder: holds `train.jsonl`, `test.jsonl` and `set.json`.
        root: overrides the root that `set.json` names; absolute paths of the index that start with the named root
            are moved below it.
        outside: whether image paths may lead out of the root. An index may come from a stranger, who is not to choose
            which files are read.

    Raises:
        DataError: a file is missing, a line is not what it should be, or its path leads out of the root.
    """
    about = _read_about(folder / "set.json")
    named_root = (folder / about.get("root", ".")).resolve()
    splits = {split: read_index(folder / f"{split}.jsonl") for split in SPLITS}
    if root is not None:
        splits = {split: _rerooted(records, named_root) for split, records in splits.items()}
    beside = [about.get(key, {}) for key in BESIDE]
    found = IndexedSet(name, folder, (root or named_root).resolve(), splits, *beside)
    if not outside:
        _check_inside(found)
    return found


def _check_inside(indexed: IndexedSet) -> None:
    inside = os.path.join(indexed.root, "")
    for split, records in indexed.splits.items():
        for position, record in enumerate(records):
            if not os.path.normpath(os.path.join(inside, record.path)).startswith(inside):
                raise DataError(
                    f"{indexed.place(split, position)}: image path {record.path!r} leads out of the set's root "
                    f"{indexed.root}; name another 'root' in {indexed.folder / 'set.json'}, or set 'outside_root' to "
                    "true if you trust the index"
                )


def write_set(
    folder: Path,
    root: Path,
    splits: dict[str, Iterable[Record]],
    aliases: dict | None = None,
    names: dict | None = None,
) -> None:
    """Write the index of a data set; a root inside or beside the folder is kept relative to it.

    What `set.json` says of classes already stays, where nothing else is said of the same ones now, but for parents of
    classes that had no image and have one.

    Raises:
        DataError: a `set.json` is there and cannot be read.
        WriteError: a file cannot be written.
    """
    splits = {split: list(records) for split, records in splits.items()}
    about = _read_about(folder / "set.json") | {"root": _portable(root, folder)}
    pictured = {record.fine for records in splits.values() for record in records}
    if "names" in about:
        about["names"] = {name: parent for name, parent in about["names"].items() if name not in pictured}
    for key, said in {"aliases": aliases, "names": names}.items():
        about |= {key: about.get(key, {}) | said} if said else {}
    for split, records in splits.items():
        write_index(folder / f"{split}.jsonl", records)
    write_text(folder / "set.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def read_index(file: Path) -> list[Record]:
    """The records of one jsonl file, one a line.

    Raises:
        DataError: the file is missing or empty, a line is not JSON, lacks a field or holds something else than text.
    """
    try:
        # not splitlines(): file names may hold U+2028 and its like
        lines = file.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except OSError as error:
        raise DataError(f"{file}: no such index; write it with 'python main.py prepare'") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    if lines == [""]:
        raise DataError(f"{file}: the index is empty; it needs one JSON object a line")
    return [_record(line, f"{file}:{number}") for number, line in enumerate(lines, 1)]


def write_index(file: Path, records: Iterable[Record]) -> None:
    """Write records as jsonl, replacing the file at once."""
    rows = ({"img_path": r.path, "coarse_label": r.coarse, "fine_label": r.fine} for r in records)
    write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def check_files(indexed: IndexedSet, split: str, positions: Iterable[int]) -> None:
    """See that image files are there, before anything is trained on them; every folder is listed once.

    Raises:
        DataError: a file is missing; names it and its line.
    """
    listed: dict[Path, set[str]] = {}
    for position in positions:
        file = indexed.file(split, position)
        if file.parent not in listed:
            listed[file.parent] = set(os.listdir(file.parent)) if file.parent.is_dir() else set()
        if file.name not in listed[file.parent]:
            raise DataError(
                f"{indexed.place(split, position)}: image {file} does not exist; mend the index or set 'data_root'"
            )


def _record(line: str, place: str) -> Record:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON ({error.msg} at column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not readable as JSON ({_reason(error)})") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: expected an object with {', '.join(FIELDS)}, got {type(row).__name__}")
    for name in FIELDS:
        if not isinstance(row.get(name), str) or not row[name]:
            raise DataError(f"{place}: field '{name}' is missing or not text")
        if not writable(row[name]):
            raise DataError(f"{place}: field '{name}' holds a character that no file name can have")
    return Record(row["img_path"], row["coarse_label"], row["fine_label"])


def _read_about(file: Path) -> dict:
    if not file.exists():
        return {}
    try:
        about = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: not readable as JSON ({_reason(error)})") from error
    keys = {"root": "", **{key: {} for key in BESIDE}}
    found = [about.get(key, usual) for key, usual in keys.items()] if isinstance(about, dict) else [None] * len(keys)
    root, aliases, names, described = found
    if not isinstance(root, str) or not writable(root):
        raise DataError(f'{file}: expected an object such as {{"root": "/path/to/images"}}')
    if not isinstance(aliases, dict) or not all(map(_names, aliases.values())):
        raise DataError(f'{file}: expected "aliases" such as {{"tabby": ["tabby cat"]}}')
    if not isinstance(names, dict) or not all(_is_name(part) for pair in names.items() for part in pair):
        raise DataError(
            f'{file}: expected "names" such as {{"tabby": "cat"}}, the parent being the name itself where none is'
        )
    if not isinstance(described, dict) or not all(map(_is_text, described.values())):
        raise DataError(f'{file}: expected "descriptions" such as {{"tabby": "a striped cat"}}')
    return about


def _names(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and writable(value)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value) and writable(value)


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _rerooted(records: list[Record], named_root: Path) -> list[Record]:
    return [Record(_below(r.path, named_root), r.coarse, r.fine) for r in records]


def _below(path: str, root: Path) -> str:
    return str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path


def _portable(root: Path, folder: Path) -> str:
    relative = os.path.relpath(root.resolve(), folder.resolve())
    return str(root.resolve()) if relative.startswith(os.path.join("..", "..")) else relative
