"""Writes the embedded sets as PNG files and an index, once, safely beside other processes."""

import re
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from data.index import SPLITS, Record, write_set
from data.world.catalogue import WorldSet, world_set
from utils.errors import DataError

VERSION = "2"
STAMP = "version.txt"


def ensure_world(name: str, cache: Path) -> Path:
    """The folder of an embedded set below `cache`, drawn now if it is not there or was drawn by other code.

    A set is drawn in a folder of its own and renamed into place, so that a folder that exists is whole. Of two
    processes that draw the same set at once the first to finish wins, and the other's work is dropped.

    Args:
        name: one of `WORLD_SETS`.
        cache: where sets are kept; made if missing.

    Raises:
        DataError: no such set, or the cache cannot be written.
    """
    chosen = world_set(name)
    for part in chosen.parts:
        ensure_world(part, cache)
    folder = Path(cache) / name
    if _current(folder):
        return folder
    try:
        _draw_aside(chosen, folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot write the embedded set ({error.strerror}); choose another cache") from error
    return folder


def image_path(fine: str, split: str, number: int) -> str:
    """Where an image lies below its set's folder."""
    slug = re.sub(r"[^a-z0-9]+", "-", fine.lower())
    return f"images/{split}/{slug}-{number:03d}.png"


def _current(folder: Path) -> bool:
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == VERSION


def _draw_aside(chosen: WorldSet, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:12]}")
    try:
        if not chosen.parts:
            _draw(chosen, aside)
        root = folder.parent if chosen.parts else aside
        write_set(
            aside,
            root,
            {split: _records(chosen, split) for split in SPLITS},
            {fine: [other] for fine, other in chosen.aliases},
        )
        (aside / STAMP).write_text(VERSION + "\n", encoding="utf-8")
        _into_place(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _into_place(aside: Path, folder: Path) -> None:
    """Rename, first moving an outdated folder out of the way; a folder that another process put there stays."""
    if folder.exists() and not _current(folder):
        old = aside.with_name(aside.name + "-old")
        with suppress(FileNotFoundError):  # the other process was quicker
            folder.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    try:
        aside.rename(folder)
    except OSError:
        if not _current(folder):
            raise


def _draw(chosen: WorldSet, folder: Path) -> None:
    from tqdm import tqdm

    from data.world.drawing import draw_image

    for split in SPLITS:
        (folder / "images" / split).mkdir(parents=True)
    fines = [fine for _, fine in chosen.classes]
    jobs = [(fine, split, number) for split in SPLITS for fine in fines for number in _numbers(chosen, split)]
    for fine, split, number in tqdm(jobs, desc=f"drawing {chosen.name}", unit="img", disable=None, leave=False):
        draw_image(chosen.name, fine, split, number).save(folder / image_path(fine, split, number), compress_level=1)


def _records(chosen: WorldSet, split: str) -> list[Record]:
    """The index of one split; a union's points to the images of its parts."""
    if not chosen.parts:
        return [
            Record(image_path(fine, split, number), coarse, fine)
            for coarse, fine in chosen.classes
            for number in _numbers(chosen, split)
        ]
    parts = [world_set(part) for part in chosen.parts]
    return [
        Record(f"{part.name}/{record.path}", part.kind or record.coarse, record.fine)
        for part in parts
        for record in _records(part, split)
    ]


def _numbers(chosen: WorldSet, split: str) -> range:
    return range({"train": chosen.train, "test": chosen.test}[split])
