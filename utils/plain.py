"""Figures and names as files and people take them: what is not a finite number is None to JSON and "–" to people."""

import json
import math
import re
from collections.abc import Mapping

LINE_ENDS = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")  # all that `str.splitlines` goes by


def finite(value: object) -> bool:
    """Whether it is a number, neither nan nor infinite."""
    return isinstance(value, float | int) and math.isfinite(value)


def number(value: float | None) -> float:
    """The number itself; nan for None."""
    return math.nan if value is None else value


def plain(value: object) -> object:
    """The same with tuples as lists, numpy's numbers as Python's, and None for what is not finite."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def dumps(value: object, indent: int | None = None) -> str:
    """JSON text, readable in any language; a nan is refused, see `plain`."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


class Twin(ValueError):
    """A key that stands twice in one JSON object."""

    def __init__(self, key: str):
        super().__init__(f"key {key!r} stands there twice; keep one")
        self.key = key


def no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """What `json` has read of an object, for its `object_pairs_hook`.

    Raises:
        Twin: a key stands there twice.
    """
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise Twin(key)
        found[key] = value
    return found


def duration(seconds: float) -> str:
    """A time for people, to about two digits: 45 s, 12 min, 3.5 h."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def writable(text: str) -> bool:
    """Whether a file may hold the text and be named by it: there is no NUL in it, nor half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def one_line(text: str) -> str:
    """The text with a space for whatever would end the line, such as the name of a class may hold."""
    return LINE_ENDS.sub(" ", text)
