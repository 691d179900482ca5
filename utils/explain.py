"""Pydantic's findings in the words of a JSON file: which key, what stands there, what is expected."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from utils.errors import nearest

SESSION_KEYS = (
    "learn",
    "forget",
    "repeat",
    "classes",
    "level",
    "retain",
    "exemplars",
    "few",
    "ratio",
    "fine",
    "coarse",
)

# pydantic's type of error → what is said, with the limits it names filled in
WORDS = {
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "tuple_type": "expected a list",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "finite_number": "expected a finite number",
    "string_too_short": "must not be empty",
    "too_short": "expected a list of at least {min_length}",
    "too_long": "expected a list of at most {max_length}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "literal_error": "expected {expected}",
    "union_tag_not_found": 'expected {{"learn": …}} or {{"forget": …}}, one of the two',
    "value_error": "{error}",
}


def explain(error: ValidationError, values: dict[str, Any]) -> tuple[str, str]:
    """The first wrong key and one line about it.

    Of several findings for one key, the one that lies deepest is closest to what was meant.

    Args:
        error: what pydantic found.
        values: what was validated.

    Returns:
        The top-level key, empty where the whole is wrong, and the line.
    """
    found = [(_steps(item["loc"], values), item) for item in error.errors(include_url=False)]
    same_key = [pair for pair in found if pair[0][:1] == found[0][0][:1]]
    steps, item = max(same_key, key=lambda pair: len(pair[0]))
    if not steps:
        return "", _said(item)
    wishes = dict.fromkeys(_said(other) for where, other in same_key if where == steps)
    # a value of the right type but out of range says more than the other types it might have been
    close = [wish for wish in wishes if not wish.startswith("expected")]
    wish = " or ".join(close or wishes).replace(" or expected ", " or ")
    return str(steps[0]), f"{'.'.join(map(str, steps))!r} = {shown(item['input'])}: {wish}"


def shown(value: Any) -> str:
    """A value as JSON, cut to the length of a line."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 60 else text[:59] + "…"


def _steps(location: tuple[int | str, ...], values: Any) -> tuple[int | str, ...]:
    """The part of pydantic's location that leads through the input; the rest are names of types."""
    if location[:1] == ("sessions",):
        location = location[:2] + location[3:]  # third comes the kind of the entry
    steps: list[int | str] = []
    for step in location:
        in_list = isinstance(values, list | tuple) and isinstance(step, int) and step < len(values)
        if in_list or (isinstance(values, dict) and step in values):
            steps.append(step)
            values = values[step]
    return tuple(steps)


def _said(item: Any) -> str:
    name = item["loc"][-1] if item["loc"] else ""
    if item["type"] == "missing":
        return f"key {name!r} is missing" if isinstance(name, str) else "the list is too short"
    if item["type"] == "extra_forbidden":
        return f"unknown key {name!r}{nearest(name, SESSION_KEYS)}"
    context = {
        key: str(value).replace("'", '"') if key == "expected" else value for key, value in item.get("ctx", {}).items()
    }
    return WORDS[item["type"]].format(**context) if item["type"] in WORDS else item["msg"]
