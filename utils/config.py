"""Read JSON experiments: `base` inheritance, the published files' keys, `--set`, and one clear line for every mistake.

This is the only reader of experiment files; `utils.schema` says what they may hold.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from utils.errors import ConfigError, nearest
from utils.explain import explain, shown
from utils.plain import Twin, no_twins, writable
from utils.published import ALIASES, IMPLIED, SHORTHANDS, UNUSED_KEYS
from utils.requests import with_named_sets
from utils.schema import (
    Config,
    config_hash,
    json_schema,
    log_stem,
    resolved,
    stream_hash,
    write_schema,
)

__all__ = [
    "UNUSED_KEYS",
    "Config",
    "Loaded",
    "config_hash",
    "is_experiment",
    "json_schema",
    "load_config",
    "log_stem",
    "parse_override",
    "resolved",
    "stream_hash",
    "write_schema",
]

COMMAND_LINE = "--set"
# the forms that a stream of requests may have; one that is given anew replaces the others
STREAMS = (
    ("sessions",),
    ("init_cls", "increment"),
    ("num_tasks", "num_of_first_cls", "per_forget_cls", "data_ratio", "few_shot_num", "open_cls_num"),
)


@dataclass(frozen=True)
class Loaded:
    """An experiment as read from its file.

    Attributes:
        config: complete and checked.
        path: the file.
        unused: keys of published files that stood there and mean nothing here, for the log.
    """

    config: Config
    path: Path
    unused: tuple[str, ...]

    def with_config(self, config: Config) -> Loaded:
        """The same file's experiment, changed."""
        return replace(self, config=config)


@dataclass(frozen=True)
class _Layer:
    """The keys that one file, or the command line, gives; `places` says where each stands."""

    values: dict[str, Any]
    places: dict[str, str]
    unused: frozenset[str] = frozenset()


def load_config(path: Path, overrides: Mapping[str, object] | None = None) -> Loaded:
    """Read an experiment and all it inherits.

    Args:
        path: the JSON file.
        overrides: keys (dotted for nested values) that win over the file, as `parse_override` gives them.

    Raises:
        ConfigError: a file is missing or no JSON object, a key is unknown, missing, of the wrong type or out of range.
    """
    path = Path(path)
    layer = _read_layers(path, ())
    for key, value in (overrides or {}).items():
        layer = _merge(layer, _override(layer, key, value, path.parent))
    _check_text(layer)
    _fill_in_digest(layer.values)
    return Loaded(_validate(layer, path), path, tuple(sorted(layer.unused)))


def is_experiment(path: Path) -> bool:
    """Whether a JSON file has a key of an experiment beside the words on what it is about.

    Raises:
        ConfigError: it cannot be read.
    """
    raw, _ = _read_json(path)
    return not raw.keys().isdisjoint(key for key in _known_keys() if key != "about")


def parse_override(text: str) -> tuple[str, object]:
    """Split the `key=value` of `--set`; a value that is not JSON is text.

    Raises:
        ConfigError: there is no `=` or no key.
    """
    key, equals, value = text.partition("=")
    key = " ".join(key.split())
    if not equals or not key:
        raise ConfigError(f"{COMMAND_LINE} {shown(text)}: expected key=value, such as {COMMAND_LINE} init_epochs=5")
    try:
        return key, json.loads(value, parse_constant=str, object_pairs_hook=no_twins)
    except (json.JSONDecodeError, RecursionError):
        return key, value
    except ValueError as error:
        raise ConfigError(f"{COMMAND_LINE} {key}: {error}") from error


def _read_layers(path: Path, above: tuple[Path, ...]) -> _Layer:
    """A file's keys over those of its `base`."""
    raw, text = _read_json(path)
    if path.resolve() in above:
        raise ConfigError(f"{above[-1]}: 'base' goes in a circle, back to {path.name}; no file can inherit from itself")
    base = raw.pop("base", None)
    layer = _layer(raw, lambda key: f"{path}{_line(text, key)}", path.parent)
    if base is None:
        return layer
    if not isinstance(base, str) or not base or "\0" in base:
        raise ConfigError(f"{path}{_line(text, 'base')}: 'base' = {shown(base)}: expected the name of a JSON file")
    if len(above) > 50:
        raise ConfigError(f"{path}: more than 50 files inherit from one another; shorten the chain of 'base'")
    return _merge(_read_layers(path.parent / base, (*above, path.resolve())), layer)


def _read_json(path: Path) -> tuple[dict[str, Any], str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        raw = json.loads(text, object_pairs_hook=no_twins)
    except FileNotFoundError as error:
        known = sorted(item.name for item in path.parent.glob("*.json")) if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such experiment file{nearest(path.name, known)}") from error
    except OSError as error:
        raise ConfigError(f"{path}: the experiment file cannot be read ({error.strerror})") from error
    except Twin as error:
        raise ConfigError(f"{path}{_line(text, error.key, last=True)}: {error}") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not JSON, {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{path}: not readable as JSON ({reason})") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected one JSON object {{…}}, got {shown(raw)}")
    return raw, text


def _line(text: str, key: str, last: bool = False) -> str:
    """`:line` of a key in the file's text, empty where it is written in escapes."""
    found = [match.start() for match in re.finditer(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", text)]
    return f":{text.count(chr(10), 0, found[-1 if last else 0]) + 1}" if found else ""


def _layer(raw: dict[str, Any], place: Any, folder: Path) -> _Layer:
    """The keys of one source under the names used here.

    Args:
        raw: what it says.
        place: tells where a key stands.
        folder: what file names in it start from.
    """
    values: dict[str, Any] = {}
    places = {key: place(key) for key in raw}
    unused = {key for key in raw if _is_unused(key, raw[key])}
    for key, value in raw.items():
        if key in unused or key == "$schema" or key in SHORTHANDS:
            continue
        name = ALIASES.get(key, key)
        if key == "base":
            raise ConfigError(f"{places[key]}: 'base' can only stand in a file")
        if name not in Config.model_fields:
            raise ConfigError(f"{places[key]}: unknown key {key!r}{nearest(key, _known_keys())}")
        if name in values and values[name] != value:
            raise ConfigError(f"{places[key]}: {key!r} means {name!r}, which is given another value; keep one")
        values[name] = value
        places[name] = places[key]
    _spread_shorthands(raw, values, places)
    for key in IMPLIED.keys() & raw.keys():
        values = IMPLIED[key] | values
        places = dict.fromkeys(IMPLIED[key], places[key]) | places
    if values.get("sessions") is not None:
        values["sessions"] = with_named_sets(values["sessions"], folder, places["sessions"])
    if isinstance(values.get("plugins"), list):
        values["plugins"] = [_located(file, folder) for file in values["plugins"]]
    return _Layer(values, places, frozenset(unused))


def _located(file: Any, folder: Path) -> Any:
    """A file named in an experiment, wherever the run stands; what is no name is left for the schema to refuse."""
    return (folder / file).absolute().as_posix() if isinstance(file, str) and file else file


def _is_unused(key: str, value: Any) -> bool:
    # PILOT's step schedule goes with milestones, which are not used either
    return key in UNUSED_KEYS or (key == "scheduler" and value == "steplr")


def _spread_shorthands(raw: dict[str, Any], values: dict[str, Any], places: dict[str, str]) -> None:
    for key, names in SHORTHANDS.items():
        for name in names if key in raw else ():
            if name not in values:
                values[name], places[name] = raw[key], places[key]


def _known_keys() -> list[str]:
    return [*Config.model_fields, *ALIASES, *SHORTHANDS, "base"]


def _merge(below: _Layer, above: _Layer) -> _Layer:
    """Keys of the upper layer replace those of the lower; a stream given anew replaces another form of the old one."""
    values = dict(below.values)
    given = [keys for keys in STREAMS if any(above.values.get(key) is not None for key in keys)]
    if given:
        others = {key for keys in STREAMS if keys not in given for key in keys}
        values = {key: value for key, value in values.items() if key not in others}
    if "plugins" in above.values:
        values.pop("plugins_digest", None)  # of other ones
    return _Layer(values | above.values, below.places | above.places, below.unused | above.unused)


def _override(layer: _Layer, key: str, value: object, folder: Path) -> _Layer:
    """One `--set` as a layer of its own; a dotted key is the whole top-level value with one place in it changed."""
    top, *path = key.split(".")
    if path:
        value = _changed_inside(layer.values.get(ALIASES.get(top, top)), path, value, key)
    return _layer({top: value}, lambda _: f"{COMMAND_LINE} {key}", folder)


def _changed_inside(current: Any, path: list[str], value: object, key: str) -> Any:
    if not path:
        return value
    step, *rest = path
    if isinstance(current, list):
        if step not in map(str, range(len(current))):
            raise ConfigError(f"{COMMAND_LINE} {key}: no entry {step!r} in a list of {len(current)}, counted from 0")
        position = int(step)
        return [*current[:position], _changed_inside(current[position], rest, value, key), *current[position + 1 :]]
    if current is not None and not isinstance(current, dict):
        raise ConfigError(f"{COMMAND_LINE} {key}: {shown(current)} has no part {step!r}")
    current = current or {}
    return {**current, step: _changed_inside(current.get(step), rest, value, key)}


def _check_text(layer: _Layer) -> None:
    for key, value in layer.values.items():
        for text in _texts(value):
            if not writable(text):
                raise ConfigError(f"{layer.places[key]}: {key!r} holds a character that no file name can have")


def _fill_in_digest(values: dict[str, Any]) -> None:
    """What the plugins hold now; the config of a run says what they held then."""
    files = values.get("plugins")
    if isinstance(files, list) and files and "plugins_digest" not in values:
        values["plugins_digest"] = digest_of(files)


def digest_of(files: Sequence[Any]) -> str:
    """A hash of what some files hold; those that cannot be read count as empty."""
    return hashlib.sha256(b"\0".join(map(_content, files))).hexdigest()[:8]


def _content(file: Any) -> bytes:
    """Of a file; that it cannot be read is said where it is executed."""
    try:
        return Path(file).read_bytes() if isinstance(file, str) and Path(file).is_file() else b""
    except OSError:
        return b""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *_texts(item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _validate(layer: _Layer, path: Path) -> Config:
    for key, field in Config.model_fields.items():
        if field.is_required() and key not in layer.values:
            raise ConfigError(f"{path}: key {key!r} is missing ({field.description})")
    try:
        return Config.model_validate(layer.values)
    except ValidationError as error:
        key, problem = explain(error, layer.values)
        raise ConfigError(f"{layer.places.get(key, path)}: {problem}") from error
