"""Several data sets as one, as `"dataset": "cars+caltech101"` asks for."""

from collections.abc import Iterable, Sequence

from data.index import BESIDE, SPLITS, IndexedSet, Record


class UnionSet(IndexedSet):
    """Images of several sets, by absolute paths."""

    def place(self, split: str, position: int) -> str:
        """The image's path: a line would have to say of which file."""
        return f"{self.name}, {split}: {self.splits[split][position].path}"


def union(parts: Sequence[IndexedSet]) -> UnionSet:
    """The images and classes of all sets, in their order; a class that several of them have is one class.

    Args:
        parts: at least one set.
    """
    splits = {split: [record for part in parts for record in _absolute(part, split)] for split in SPLITS}
    beside = [{name: value for part in parts for name, value in getattr(part, key).items()} for key in BESIDE]
    return UnionSet("+".join(part.name for part in parts), parts[0].folder, parts[0].root, splits, *beside)


def _absolute(part: IndexedSet, split: str) -> Iterable[Record]:
    return (Record(str(part.root / r.path), r.coarse, r.fine) for r in part.splits[split])
