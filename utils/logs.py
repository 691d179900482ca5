"""A run's log file."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import ConfigError, LetheError

log = logging.getLogger("lethe")


@contextmanager
def logging_to(file: Path, append: bool) -> Iterator[None]:
    """Everything logged inside also goes to a file of its own, in PyCIL's format.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(file, mode="a" if append else "w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror}); set 'logs' to another folder") from error
    handler.setFormatter(logging.Formatter("%(asctime)s [%(filename)s] => %(message)s"))
    log.addHandler(handler)
    try:
        yield
    except LetheError as error:
        # to the file alone: on the console the error is the last line anyway
        handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, "%s", (error,), None))
        raise
    finally:
        log.removeHandler(handler)
        handler.close()
