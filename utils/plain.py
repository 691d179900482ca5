"""Figures as JSON and people take them: what is not a finite number is None in the one and "–" to the others."""

import json
import math
from collections.abc import Mapping


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
