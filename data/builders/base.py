"""What every builder gives and needs: the built records, its layout, readable names, rows of a text file."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from data.index import Record
from utils.errors import DataError


@dataclass(frozen=True)
class Built:
    """What a builder found.

    Attributes:
        root: what the records' paths are relative to.
        splits: "train" and "test" → records, class after class.
        aliases: fine name → other names of the same class.
    """

    root: Path
    splits: dict[str, list[Record]]
    aliases: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """What a data set looks like on disk and where it comes from, for messages.

    Attributes:
        expects: the layout below the root, in one line.
        source: the official site by name, with its address.
        offered: whether `--download` fetches the data.
        instead: a command that needs no data and runs such an experiment on the embedded world.
    """

    expects: str
    source: str
    offered: bool = False
    instead: str = ""

    def need(self, *places: Path) -> Path:
        """The first of some places that exists.

        Raises:
            DataError: none does.
        """
        found = next((place for place in places if place.exists()), None)
        if found is None:
            raise self.missing(places[0])
        return found

    def missing(self, place: Path, what: str = "not found") -> DataError:
        """The error that says what is missing, what was expected and where to get it."""
        offer = ", or add --download" if self.offered else ""
        return DataError(f"{place}: {what}; expected {self.expects}; get the data from {self.source}{offer}")


def readable(name: str) -> str:
    """A class name as a person writes it: no underscores, single spaces."""
    return " ".join(name.replace("_", " ").split())


def natural(name: str) -> tuple:
    """A sort key that puts `image_9` before `image_10`, whatever the case."""
    pieces = re.split(r"(\d+)", name.casefold())
    return ([int(piece) if at % 2 else piece for at, piece in enumerate(pieces)], name)


def read_lines(file: Path) -> list[tuple[str, str]]:
    """The lines of a text file that are not blank, each with its place: `[("file:1", "first line"), …]`.

    Raises:
        DataError: the file cannot be read as UTF-8 text.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text ({error})") from error
    return [(f"{file}:{number}", line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def read_rows(file: Path, columns: int) -> list[list[str]]:
    """The rows of a file of columns between spaces; what is left over belongs to the last column.

    Raises:
        DataError: the file cannot be read, or a row is too short (which one).
    """
    rows = []
    for place, line in read_lines(file):
        row = line.split(maxsplit=columns - 1)
        if len(row) < columns:
            raise DataError(f"{place}: expected {columns} columns, got '{line}'")
        rows.append(row)
    return rows
