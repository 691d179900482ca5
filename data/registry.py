"""Data sets by name: the embedded world, and what `main.py prepare` has indexed."""

from pathlib import Path

from data.index import IndexedSet, read_set
from data.world import WORLD_SETS, describe, ensure_world
from utils.errors import DataError, nearest

CACHE = Path("data/cache")


def find_set(name: str, index_root: Path, data_root: Path | None = None, cache: Path = CACHE) -> IndexedSet:
    """A data set by name; the sets of the embedded world are drawn on first use.

    Args:
        name: one of `WORLD_SETS`, or a folder below `index_root`.
        index_root: where `main.py prepare` writes its indexes.
        data_root: where the images are, if not where the index says.
        cache: where the embedded world is drawn.

    Raises:
        DataError: no such set; the nearest known ones are named.
    """
    if (index_root / name / "train.jsonl").is_file():
        return read_set(name, index_root / name, data_root)
    if name in WORLD_SETS:
        return read_set(name, ensure_world(name, cache))
    raise DataError(
        f"key 'dataset': no set '{name}' in {index_root}/ and none embedded{nearest(name, list_sets(index_root))}; "
        f"index your own with 'python main.py prepare folder --root DIR --name {name}'"
    )


def list_sets(index_root: Path) -> dict[str, str]:
    """Name → one line, of every set that can be used now."""
    indexed = sorted(file.parent.name for file in index_root.glob("*/train.jsonl"))
    return {name: describe(name) for name in WORLD_SETS} | {name: f"indexed in {index_root / name}" for name in indexed}
