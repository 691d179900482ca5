"""Training images held out, for choosing settings: the test images stay unseen."""

from collections import Counter

from data.index import BESIDE, IndexedSet, Record
from utils.seeds import derive_seed


class HeldOutSet(IndexedSet):
    """Both splits are parts of `train.jsonl`."""

    def place(self, split: str, position: int) -> str:
        """The index and the image's path there."""
        return f"{self.folder / 'train'}.jsonl, {self.splits[split][position].path}"


def held_out(indexed: IndexedSet, share: float) -> HeldOutSet:
    """The same set with part of its training images in the place of its test images.

    Args:
        indexed: the data set; its test images are left out altogether.
        share: of every class's training images, above 0 and below 1; rounded, at least one and never all.

    Returns:
        Which images are held out depends on their paths alone.
    """
    train = indexed.splits["train"]
    counts = Counter(record.fine for record in train)
    taken = {name: min(count - 1, max(1, round(share * count))) for name, count in counts.items()}
    chosen: set[Record] = set()
    for record in sorted(train, key=lambda record: derive_seed("validation", record.path)):
        if taken[record.fine]:
            taken[record.fine] -= 1
            chosen.add(record)
    splits = {
        "train": [record for record in train if record not in chosen],
        "test": [record for record in train if record in chosen],
    }
    beside = [getattr(indexed, key) for key in BESIDE]
    return HeldOutSet(indexed.name, indexed.folder, indexed.root, splits, *beside)
