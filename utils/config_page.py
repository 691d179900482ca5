"""`docs/configs.md`: every key of an experiment, written from the schema."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.atomic import write_text
from utils.published import ALIASES, SHORTHANDS, UNUSED_KEYS
from utils.schema import NO_EFFECT, Config, json_schema

HEAD = """# Every key of an experiment

Written from the schema by `make pages`; do not edit. An experiment is one JSON object with these keys, and `base`, the
name of another file, relative to this one, whose keys it inherits. `--set key=value` on the command line wins over the
file; a dotted key reaches inside a value (`--set sessions.1.forget.exemplars=10`). An unknown key, a wrong type or a
number out of range is refused in one line that says where. A `*` marks keys that do not count in the hash that
tells runs apart.
"""
SESSIONS = """## What a request may say

`sessions` is a list of `{"learn": …}` and `{"forget": …}`, each with an optional `"repeat": n`. `learn` takes a count
or a list of names. `forget` takes a count, a list of names, `{"fine": …, "coarse": …}`, or an object with these keys:
"""
ALSO = """## Names from published files

Published PyCIL, LAMDA-PILOT and SSIAT files run as they are where the learner exists ([pilot.md](pilot.md)).
"""
IN_SHORT = {"Learn": "learn", "Forget": "forget", "HybridClasses": '{"fine": …, "coarse": …}'}
SAID = {  # of a request's keys: pydantic keeps what attributes are for in the docstring
    "classes": 'names, a count in class order, `{"fine": …, "coarse": …}`, or `"file.json#set"`',
    "level": "what must go: the class, its parent with all children, or each concept at its own level",
    "take": "from which end of the class order a count is taken",
    "retain": "which images of the other classes the learner may see",
    "exemplars": "which images of each class it may see; null: all; text: a folder `DIR/<class>/*.jpg` from elsewhere",
    "missing": "so many classes of the rest, the first in class order, that it sees nothing of all the same",
}


def config_page() -> str:
    """The page, in markdown."""
    schema = json_schema()
    defs = schema["$defs"]
    keys = [_row(key, schema["properties"][key], defs, key in NO_EFFECT) for key in Config.model_fields]
    request = defs["ForgetRequest"]
    asked = [_row(key, {**found, "description": SAID[key]}, defs) for key, found in request["properties"].items()]
    others = [f"| `{key}` | `{name}` |" for key, name in ALIASES.items()]
    others += [f"| `{key}` | {', '.join(f'`{n}`' for n in names)}, where absent |" for key, names in SHORTHANDS.items()]
    head = "| key | type and range | default | meaning |\n| --- | --- | --- | --- |"
    unused = ", ".join(f"`{key}`" for key in sorted(UNUSED_KEYS, key=lambda key: (key.lower(), key)))
    parts = [HEAD.strip(), "\n".join([head, *keys]), SESSIONS.strip(), "\n".join([head, *asked]), ALSO.strip()]
    parts += ["\n".join(["| key there | key here |", "| --- | --- |", *others])]
    return "\n\n".join([*parts, f"Read and named once in the log, but without use here: {unused}."]) + "\n"


def write_config_page(path: Path) -> None:
    """Write the page."""
    write_text(path, config_page())


def _row(key: str, found: Mapping[str, Any], defs: Mapping[str, Any], free: bool = False) -> str:
    default = f"`{_json(found['default'])}`" if "default" in found else "**needed**"
    cells = [f"`{key}`{' *' if free else ''}", _kind(found, defs), default, found["description"]]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _json(value: Any) -> str:
    if isinstance(value, float) and value != int(value):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_json, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _kind(found: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """A type and its range in words."""
    if "$ref" in found:
        name = found["$ref"].rpartition("/")[2]
        return IN_SHORT.get(name) or _object(defs[name], defs)
    for several in ("anyOf", "oneOf"):
        if several in found:
            return " or ".join(dict.fromkeys(_kind(each, defs) for each in found[several]))
    if "enum" in found or "const" in found:
        return ", ".join(f"`{_json(value)}`" for value in found.get("enum", [found.get("const")]))
    if isinstance(found["type"], list):
        return " or ".join(_kind({"type": each}, defs) for each in found["type"])
    return _simple(found, defs)


def _object(found: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    inside = ", ".join(f'"{key}": {_kind(value, defs)}' for key, value in found["properties"].items())
    return f"{{{inside}}}"


def _simple(found: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    kind = found["type"]
    if kind == "array":
        if "prefixItems" in found:
            return f"[{', '.join(_kind(each, defs) for each in found['prefixItems'])}]"
        inside = f" of {_kind(found['items'], defs)}" if "items" in found else ""
        return ("non-empty list" if found.get("minItems") else "list") + inside
    words = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
    return _between(words.get(kind, kind), found)


def _between(words: str, found: Mapping[str, Any]) -> str:
    """`number ≥ 0`, `number < 1`, `0 < number ≤ 1`."""
    least, most = ({"minimum": "≥", "exclusiveMinimum": ">"}, {"maximum": "≤", "exclusiveMaximum": "<"})
    low, high = (
        next(((sign, found[key]) for key, sign in side.items() if key in found), None) for side in (least, most)
    )
    if low and high:
        return f"{low[1]:g} {'≤' if low[0] == '≥' else '<'} {words} {high[0]} {high[1]:g}"
    return words + "".join(f" {sign} {limit:g}" for sign, limit in filter(None, (low, high)))
