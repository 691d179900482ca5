"""A run's log file."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from utils.errors import ConfigError, LetheError, WriteError
from utils.plain import one_line

log = logging.getLogger("lethe")


class _RunLog(logging.FileHandler):
    """One line a record, whatever names are in it.

    A log that cannot be written ends the run: what follows from it could not be saved either.
    """

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        reason = getattr(error, "strerror", None) or error
        raise WriteError(f"{self.baseFilename}: the log cannot be written ({reason})") from error


def log_to_console() -> None:
    """Everything logged goes to stderr, above a progress bar where one is shown."""
    if log.handlers:
        return
    log.addHandler(_ConsoleHandler())
    log.setLevel(logging.INFO)
    log.propagate = False


class _ConsoleHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def logging_to(file: Path, append: bool) -> Iterator[None]:
    """Everything logged inside also goes to a file of its own, in PyCIL's format.

    Raises:
        ConfigError: the file cannot be opened.
        WriteError: it cannot be written any more.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        mode = "a" if append else "w"
        handler = _RunLog(file, mode, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror}); set 'logs' to another folder") from error
    handler.setFormatter(logging.Formatter("%(asctime)s [%(filename)s] => %(message)s"))
    log.addHandler(handler)
    try:
        yield
    except LetheError as error:
        # to the file alone: on the console the error is the last line anyway
        with suppress(WriteError):
            handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, "%s", (error,), None))
        raise
    finally:
        log.removeHandler(handler)
        with suppress(OSError):  # what could not be written has been said
            handler.close()
