"""One run at a time in a folder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from utils.errors import BusyError, WriteError


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock for as long as this lasts. It falls with the process, however that ends.

    Args:
        file: made where it is not there, and removed afterwards; it says who holds the lock.

    Raises:
        BusyError: another process holds it; says which.
        WriteError: the file cannot be written.
    """
    held = _acquired(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        held.close()


def tidy(file: Path) -> None:
    """Remove what a killed process has left of its lock; one that is held stays."""
    if file.exists():
        with suppress(BusyError), locked(file):
            pass


def _acquired(file: Path) -> TextIO:
    while True:
        opened = _opened(file)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = opened.read().strip() or "another process"
            opened.close()
            raise BusyError(
                f"{file.parent}: {holder} is at work on this run; wait for it, or use another prefix"
            ) from error
        if file.exists() and os.path.samestat(os.fstat(opened.fileno()), file.stat()):
            break
        opened.close()  # its holder removed the file between our opening and our locking it
    try:
        opened.truncate(0)
        opened.write(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%Y-%m-%d %H:%M:%S},")
        opened.flush()
    except OSError as error:
        file.unlink(missing_ok=True)
        raise _unwritable(file, error) from error
    return opened


def _opened(file: Path) -> TextIO:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = file.open("a+", encoding="utf-8")
    except OSError as error:
        raise _unwritable(file, error) from error
    opened.seek(0)
    return opened


def _unwritable(file: Path, error: OSError) -> WriteError:
    return WriteError(f"{file}: cannot be written ({error.strerror}); set 'logs' to another folder")
