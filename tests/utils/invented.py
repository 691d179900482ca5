"""Invented runs with requests, for the tests of tables, figures and pages."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from utils.config import Config, resolved
from utils.results import ClassChange, LevelResult, RequestResult, RunResults, SessionResult
from utils.tables import write_tables

MAKES = ("Veltro", "Brandle", "Corvane", "Halden", "Ostrava", "Pellier")
MODELS = ("Arrow", "Harbor", "Summit", "Anchor", "Otter", "Orchard", "Bolt", "Raven")


def level(top1, groups, old, new, count, top5=99.5) -> LevelResult:
    """The accuracies of one level after one session."""
    return LevelResult(top1=top1, top5=top5, groups=tuple(groups), old=old, new=new, count=count)


def mixed() -> RunResults:
    """Learn three classes, learn one, forget one, on two levels."""
    fine = [
        level(90.0, [90.0], None, 90.0, 30),
        level(80.0, [78.0, 86.0], 78.0, 86.0, 40),
        level(70.0, [60.0, 87.5], 70.0, None, 30),
    ]
    coarse = [
        level(95.0, [95.0], None, 95.0, 30),
        level(90.0, [89.0, 93.0], 89.0, 93.0, 40),
        level(85.0, [84.0, 87.0], 85.0, None, 30),
    ]
    first = SessionResult(0, "learn", 0, 2, ("a", "b", "c"), fine[0], coarse[0], 1.5, 3)
    second = SessionResult(1, "learn", 3, 3, ("d|e",), fine[1], coarse[1], 2.0, 4)
    third = SessionResult(2, "forget", 1, 1, ("a",), fine[2], coarse[2], 0.1, 4, {"quality": 91.25})
    return RunResults([first, second, third])


def changes(forget: int, makes: int = 6, models: int = 8, past: int = 0) -> tuple[ClassChange, ...]:
    """So many classes forgotten, the first ones of the makes in turn; before them so many of past requests."""
    found = []
    for make in range(makes):
        for model in range(models):
            place = model * makes + make
            gone = place < forget + past
            role = "past" if place < past else "forget" if gone else "adjacent" if make < min(forget, 2) else "remote"
            before = 3.0 if role == "past" else 88.0 + (7 * place) % 12
            falls = {"forget": before - place % 4, "past": 0, "adjacent": 4 * (model % 3), "remote": make % 7 - 3}
            name = f"{MAKES[make % 6]} {MODELS[model % 8]}" + (f" {place}" if makes > 6 or models > 8 else "")
            found.append(
                ClassChange(name, MAKES[make % 6], role, 20, before, max(0.0, min(100.0, before - falls[role])))
            )
    return tuple(found)


def request(level: str = "fine", classes: Sequence[ClassChange] = (), past: float = math.nan) -> RequestResult:
    """A request that went well; by hand: Quality 98.6, Utility 98.9."""
    before = {"forget_fine": 92.7, "forget_coarse": 95.0, "retain_fine": 93.1, "retain_coarse": 95.4}
    before |= {"adjacent_fine": 92.0, "remote_fine": 93.5, "past_fine": past, "zero_shot": 71.3}
    before |= {"zero_shot.toyfruits": 80.0, "zero_shot.toyflags": 62.6, "ece": 4.2}
    after = {"forget_fine": 1.3, "forget_coarse": 93.0, "retain_fine": 91.9, "retain_coarse": 95.6}
    after |= {"adjacent_fine": 88.5, "remote_fine": 93.1, "past_fine": past, "quality": 98.6, "utility": 98.87}
    after |= {"qu": 98.73, "zero_shot": 70.2, "zero_shot.toyfruits": 79.1, "zero_shot.toyflags": 61.3, "ece": 5.1}
    return RequestResult(level, before, after, tuple(classes))


def stream(kinds: str, forget: int = 4, coarse: bool = True, **shape: int) -> RunResults:
    """A run of "l" (learn eight) and "f" (forget, four unless said otherwise) sessions over up to 48 classes."""
    rows, groups, gone = [], 0, 0
    for index, kind in enumerate(kinds):
        groups += kind == "l"
        shown = tuple(95.0 - 2 * (groups - g) for g in range(groups))
        found = LevelResult(90.0 - index, 97.0, shown, None, None, 960)
        asked = request(classes=changes(forget, past=gone, **shape), past=3.0 if gone else math.nan)
        names = tuple(change.name for change in asked.classes if change.role == "forget")
        ends = (8 * groups - 8, 8 * groups - 1) if kind == "l" else (8 * groups, 8 * groups)
        name, names = ("learn", ("a", "b")) if kind == "l" else ("forget", names)
        extra = {"request": asked} if kind == "f" else {}
        rows.append(SessionResult(index, name, *ends, names, found, found if coarse else None, 1.0, 5, **extra))
        gone += forget * (kind == "f")
    return RunResults(rows)


def leave(folder: Path, results: RunResults, environment: dict | None = None, **config) -> Path:
    """The folder of a finished run that measured these results; returns it."""
    settings = {"dataset": "toycars", "model_name": "adapter", "convnet_type": "tiny_vit", "sessions": [{"learn": 1}]}
    write_tables(folder, results, results.summary(12.5, 300.0, 0.0128), "title", "command")
    written = {"config.json": resolved(Config(**settings | config)), "environment.json": environment or {}}
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder
