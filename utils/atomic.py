"""Files and folders that are there whole or not at all: written beside their place, then moved there."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.errors import WriteError


def write_bytes(file: Path, content: bytes, ready: Callable[[Path], None] | None = None) -> None:
    """Replace a file by new content; a reader sees the old file or the new one, never half of one.

    Args:
        file: its folder is made where it is missing.
        content: of the new file.
        ready: called with the new file where it waits, whole and on the disk, for its place.

    Raises:
        WriteError: the disk is full, the folder cannot be written, or `ready` raised it; what stood there before stays.
    """
    if not file.name:
        raise WriteError(f"{file}: is a folder; name a file")
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        if ready:
            ready(part)
        part.replace(file)
    except (OSError, WriteError) as error:
        with suppress(OSError):  # the folder itself may be what is wrong
            part.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        raise WriteError(f"{file}: cannot be written ({reason}); what stood there before stays") from error


def write_text(file: Path, text: str) -> None:
    """The same for UTF-8 text, its line ends as they are.

    Raises:
        WriteError: see `write_bytes`; or the text holds a file's name that is no text.
    """
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = ascii(text[max(0, error.start - 30) : error.start + 10])
        raise WriteError(f"{file}: cannot be written ({shown} holds what is no UTF-8 text); rename it") from error
    write_bytes(file, content)


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """A folder to fill, which takes its place when everything is in it; where that fails, nothing is there.

    Args:
        place: is not there yet, or empty.
    """
    place = place.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    held = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    part = held / place.name  # one level down it has the rights that any new folder has
    part.mkdir()
    try:
        yield part
        part.replace(place)
    finally:
        shutil.rmtree(held, ignore_errors=True)
