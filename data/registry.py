"""Data sets by name: the embedded world, and what `main.py prepare` has indexed."""

from pathlib import Path

from data.builders import BUILDERS, get_builder
from data.index import IndexedSet, read_set
from data.union import union
from data.world import WORLD_SETS, describe, ensure_world
from utils.errors import DataError, nearest

CACHE = Path("data/cache")


def find_set(
    name: str,
    index_root: Path,
    data_root: Path | None = None,
    cache: Path = CACHE,
    key: str = "dataset",
    outside: bool = False,
) -> IndexedSet:
    """A data set by name; the sets of the embedded world are drawn on first use.

    Args:
        name: one of `WORLD_SETS`, a folder below `index_root`, or several of them joined by "+".
        index_root: where `main.py prepare` writes its indexes.
        data_root: where the images are, if not where the index says.
        cache: where the embedded world is drawn.
        key: of the experiment that names the set, for messages.
        outside: whether image paths may lead out of the set's root, see `read_set`.

    Raises:
        DataError: no such set. Where a builder makes one of that name, the message says where the data come from, how
            to index them and what can be run without them; else it names the nearest known sets.
    """
    if "+" in name:
        return union([find_set(part, index_root, data_root, cache, key, outside) for part in name.split("+")])
    if (index_root / name / "train.jsonl").is_file():
        return read_set(name, index_root / name, data_root, outside)
    if name in WORLD_SETS:
        return read_set(name, ensure_world(name, cache))
    if name in BUILDERS and name != "folder":  # any folder is one's own
        raise DataError(f"key '{key}': '{name}' is not in {index_root}/ yet; {_way_to(name)}")
    raise DataError(
        f"key '{key}': no set '{name}' in {index_root}/ and none embedded{nearest(name, list_sets(index_root))}; "
        f"index your own with 'python main.py prepare folder --root DIR --name {name}'"
    )


def _way_to(name: str) -> str:
    """How to come by a set that a builder makes."""
    layout = get_builder(name).LAYOUT
    download = " --download" if layout.offered else ""
    without = f"; without the data, on the embedded world: {layout.instead}" if layout.instead else ""
    return (
        f"get the data from {layout.source} into a folder DIR ({layout.expects}) and index them with "
        f"'python main.py prepare {name} --root DIR{download}'{without}"
    )


def list_sets(index_root: Path) -> dict[str, str]:
    """Name → one line, of every set that can be used now."""
    indexed = sorted(file.parent.name for file in index_root.glob("*/train.jsonl"))
    return {name: describe(name) for name in WORLD_SETS} | {name: f"indexed in {index_root / name}" for name in indexed}
