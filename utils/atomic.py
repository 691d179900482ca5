"""Files that are there whole or not at all: written beside their place, flushed to the disk, moved there."""

import os
from contextlib import suppress
from pathlib import Path

from utils.errors import WriteError


def write_bytes(file: Path, content: bytes) -> None:
    """Replace a file by new content; a reader sees the old file or the new one, never half of one.

    Raises:
        WriteError: the disk is full or the folder cannot be written; what stood there before stays.
    """
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
    except OSError as error:
        with suppress(OSError):  # the folder itself may be what is wrong
            part.unlink(missing_ok=True)
        reason = error.strerror or error
        raise WriteError(f"{file}: cannot be written ({reason}); what stood there before stays") from error


def write_text(file: Path, text: str) -> None:
    """The same for UTF-8 text, its line ends as they are.

    Raises:
        WriteError: see `write_bytes`.
    """
    write_bytes(file, text.encode("utf-8"))
