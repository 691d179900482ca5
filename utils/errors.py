"""The errors a user can mend. `main.py` prints them as one line and exits with code 2."""

import difflib
from collections.abc import Iterable


class LetheError(ValueError):
    """Something is wrong with what was asked or given; the message says what, where and what to do."""


class ConfigError(LetheError):
    """A JSON experiment or a command line that cannot be run as written."""


class DataError(LetheError):
    """An index, an image or a data set that cannot be used."""


class WeightsError(LetheError):
    """A backbone, its weights or a device that is not there or does not fit."""


class CheckpointError(LetheError):
    """A checkpoint that is damaged or belongs to another experiment."""


class WriteError(LetheError):
    """A file that cannot be written."""


class BusyError(LetheError):
    """A run that another process is at work on."""


class DivergenceError(LetheError):
    """A loss that is no longer a finite number."""


def told(error: LetheError | OSError) -> str:
    """The one line that a user is told."""
    named = isinstance(error, OSError) and error.filename
    return " ".join((f"{error.filename}: {error.strerror}" if named else str(error)).splitlines())


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming the closest known names: `"; did you mean 'margin'?"`, or all of them where none is close.

    Args:
        name: what was asked for.
        known: what there is.
    """
    known = sorted(map(str, known))
    folded = {item.lower(): item for item in known}
    close = [folded[item] for item in difflib.get_close_matches(str(name)[:100].lower(), folded, n=3, cutoff=0.6)]
    if close:
        return "; did you mean " + " or ".join(repr(item) for item in close) + "?"
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"; known: {shown}" if known else ""
