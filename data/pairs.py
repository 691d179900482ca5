"""Pairs of images for verification: a csv file that says which two show the same."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data.decoding import PLAIN, Decoding
from data.images import ImageSet, ImageStream
from data.index import IndexedSet, Record
from data.transforms import Transform
from utils.errors import DataError
from utils.loop import Stream

COLUMNS = ["first", "second", "same"]
TRUTH = {"1": True, "0": False, "true": True, "false": False}


@dataclass(frozen=True)
class Pairs:
    """A list of pairs; an image that stands in several of them is one.

    Attributes:
        stream: the images, un-augmented, in fixed order.
        first, second: which image of the stream, [N].
        same: whether both are of one class, [N] bool.
    """

    stream: Stream
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray


class PairedSet(IndexedSet):
    """Images of a list of pairs, written in no index."""

    def place(self, split: str, position: int) -> str:
        """The list."""
        return str(self.folder)


def read_pairs(file: Path, test_transform: Transform, decoding: Decoding = PLAIN, workers: int = 0) -> Pairs:
    """Read a list of pairs.

    Args:
        file: csv with the header `first,second,same`; paths start from the file's folder, `same` is 1 or 0.
        test_transform: applied to each image.
        decoding: see `ImageSet`.
        workers: see `ImageStream`.

    Raises:
        DataError: the file cannot be read or has another header, a row is not what it should be, an image is missing,
            or all pairs are of one kind.
    """
    rows = _rows(file)
    positions = {path: place for place, path in enumerate(dict.fromkeys(path for row in rows for path in row[:2]))}
    same = np.array([row[2] for row in rows], dtype=bool)
    if same.all() or not same.any():
        raise DataError(f"{file}: all pairs have the same truth; verification needs some with 'same' 1 and some with 0")
    records = [Record(path, path, path) for path in positions]
    indexed = PairedSet(file.name, file, file.parent, {"train": [], "test": records})
    images = ImageSet(indexed, "test", range(len(records)), {"fine": torch.arange(len(records))}, decoding)
    stream = ImageStream(images, range(len(records)), test_transform, False, workers)
    first, second = (np.array([positions[row[column]] for row in rows]) for column in (0, 1))
    return Pairs(stream, first, second, same)


def _rows(file: Path) -> list[tuple[str, str, bool]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, strict=True, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            if header != COLUMNS:
                raise DataError(f"{file}:1: expected the header '{','.join(COLUMNS)}', got '{','.join(header)}'")
            rows = [_row(row, f"{file}:{reader.line_num}", file.parent) for row in reader if row]
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such list of pairs (seen from {Path.cwd()}); mend the key 'pairs'") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as csv ({error})") from error
    if not rows:
        raise DataError(f"{file}: the list of pairs is empty; it needs one pair a line below the header")
    return rows


def _row(row: list[str], place: str, folder: Path) -> tuple[str, str, bool]:
    row = [field.strip() for field in row]
    if len(row) != len(COLUMNS) or row[2].lower() not in TRUTH:
        raise DataError(
            f"{place}: expected two image paths and 1 or 0, such as 'a/1.jpg,b/2.jpg,0'; got '{','.join(row)}'"
        )
    for path in row[:2]:
        if not path or not (folder / path).is_file():
            raise DataError(f"{place}: image '{path}' does not exist in {folder}; paths start from the list's folder")
    return row[0], row[1], TRUTH[row[2].lower()]
