"""How image files become pixels: at which size they are decoded, and where what was decoded is kept."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.decode import BROKEN, decode, fault
from utils.errors import DataError
from utils.processes import own_part

UNKNOWN = -1  # bytes left, before they are measured
log = logging.getLogger("lethe")


@dataclass(frozen=True)
class Decoding:
    """How the images of a set are decoded and kept.

    Attributes:
        cache_gb: decoded images, at the resolution they were decoded at, and what was computed of them fill no more
            memory than this, of each split.
        folder: where decoded images stand for other runs and processes, too; None: nowhere.
        jpeg_side: see `data.decode.decode`.
    """

    cache_gb: float = 4.0
    folder: PixelFolder | None = None
    jpeg_side: int | None = None

    def read(self, file: Path) -> Tensor:
        """The pixels of a file, from the folder or decoded; what is raised is what `read_image` raises."""
        if self.folder is None:
            return read_image(file, self.jpeg_side)
        return self.folder.read(file, self.jpeg_side)

    def there(self, files: Iterable[Path]) -> int:
        """How many files the folder holds the pixels of."""
        return sum(self.folder.holds(file, self.jpeg_side) for file in files) if self.folder else 0

    def forget(self, file: Path) -> None:
        """Remove what the folder holds of a file."""
        if self.folder:
            self.folder.remove(file)


PLAIN = Decoding()


def read_image(file: Path, jpeg_side: int | None = None) -> Tensor:
    """A picture in RGB, uint8 [3, H, W].

    Args:
        file: in a format that Pillow reads.
        jpeg_side: see `data.decode.decode`.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is no image, not a whole one, or none that can be taken for one of eight bits.
    """
    try:
        return channels_first(decode(file, jpeg_side))
    except FileNotFoundError:
        raise
    except BROKEN as error:
        raise DataError(f"{file} {fault(error)}") from error


def channels_first(pixels: np.ndarray) -> Tensor:
    """[H, W, 3] → [3, H, W], uint8."""
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class PixelFolder:
    """Decoded images in a folder, one file each, for all runs and processes that are given it.

    An image is known by its path, its size and the time of its last change: one that was changed is decoded anew. The
    files are read, not mapped: a crop touches most of their pages anyway, and mappings are limited in number.

    Args:
        folder: made where it is missing.
        limit_gb: of the folder, in GB. No more is written than is left of it before the first image is; each of the
            processes that torchrun started takes its part of that; runs do not know of each other.

    Source: ours.
    """

    def __init__(self, folder: Path, limit_gb: float):
        self.folder, self.limit = folder, int(limit_gb * 2**30)
        self._left = multiprocessing.Value("q", UNKNOWN)  # shared with the worker processes of every pass

    def read(self, file: Path, jpeg_side: int | None) -> Tensor:
        """The pixels of a file; if they are not there, decoded and put there where the limit leaves room.

        Raises:
            FileNotFoundError, DataError: see `read_image`.
        """
        place = self._place(file, jpeg_side)
        # a file that a failing disk has cut is no array: it is decoded and written anew
        with suppress(OSError, ValueError, EOFError):
            return torch.from_numpy(np.load(place))
        image = read_image(file, jpeg_side)
        if self._reserved(image.nbytes):
            self._write(place, image)
        return image

    def holds(self, file: Path, jpeg_side: int | None) -> bool:
        """Whether the pixels of a file are there."""
        with suppress(OSError):
            return self._place(file, jpeg_side).exists()
        return False

    def remove(self, file: Path) -> None:
        """Let go of the pixels of a file, at every size and of every age, half-written too, here and for all others."""
        stem = self._stem(file)
        for place in stem.parent.glob(f"{stem.name}-*"):
            place.unlink(missing_ok=True)

    def _stem(self, file: Path) -> Path:
        path = str(file.resolve()).encode("utf-8", "surrogateescape")
        name = hashlib.sha256(path).hexdigest()[:32]
        return self.folder / name[:2] / name[2:]

    def _place(self, file: Path, jpeg_side: int | None) -> Path:
        stem, state = self._stem(file), file.stat()
        return stem.with_name(f"{stem.name}-{state.st_size:x}-{state.st_mtime_ns:x}-{jpeg_side or 'whole'}.npy")

    def _reserved(self, size: int) -> bool:
        """Whether there is room for so many bytes, which then are taken."""
        if size > self.limit:
            return False
        with self._left.get_lock():
            if self._left.value == UNKNOWN:
                self._left.value = max(0, self.limit - _bytes_below(self.folder)) // own_part().count
            room = size <= self._left.value
            self._left.value -= size if room else 0
        return room

    def _write(self, place: Path, image: Tensor) -> None:
        """Whole or not at all; a full disk ends the writing, not the run.

        Unlike `utils.atomic`, whose file has one name while it waits: here two processes may write the same image.
        """
        part = place.with_name(f"{place.stem}-{os.getpid()}-{threading.get_ident()}.part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as opened:
                np.save(opened, image.numpy())
            part.replace(place)
        except FileNotFoundError:
            pass  # another run forgets the image and has taken it away
        except OSError as error:
            self._left.value = 0
            log.warning("%s: cannot be written (%s); images are decoded every time", self.folder, error.strerror)
        finally:
            with suppress(OSError):
                part.unlink()


def _bytes_below(folder: Path) -> int:
    """Of all files that stay while they are counted."""
    total = 0
    for place in folder.glob("*/*"):
        with suppress(OSError):
            total += place.stat().st_size
    return total
