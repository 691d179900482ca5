"""General sets: what a model knew beside the classes of its stream, and is to know still after every request."""

from dataclasses import dataclass

import torch

from data.decoding import PLAIN, Decoding
from data.images import ImageSet, ImageStream
from data.index import SPLITS, IndexedSet, check_files
from data.transforms import Transform
from utils.loop import Stream


@dataclass(frozen=True)
class GeneralSet:
    """All test images of a data set, for zero-shot classification among its own names.

    Attributes:
        name: of the set.
        names: its fine classes, those first that come first in the index, those without images last.
        stream: un-augmented, in fixed order; label `fine` is the place in `names`.
    """

    name: str
    names: tuple[str, ...]
    stream: Stream


def general_set(
    indexed: IndexedSet, test_transform: Transform, decoding: Decoding = PLAIN, workers: int = 0
) -> GeneralSet:
    """A data set as a general set.

    Args:
        indexed: the data set; of its training images only the classes' names count.
        test_transform: applied to each image.
        decoding: see `ImageSet`.
        workers: see `ImageStream`.

    Raises:
        DataError: the file of a test image is missing.
    """
    shown = [record.fine for split in SPLITS for record in indexed.splits[split]]
    names = tuple(dict.fromkeys([*shown, *indexed.names]))
    label = {name: place for place, name in enumerate(names)}
    records = indexed.splits["test"]
    check_files(indexed, "test", range(len(records)))
    labels = {"fine": torch.tensor([label[record.fine] for record in records])}
    images = ImageSet(indexed, "test", range(len(records)), labels, decoding)
    stream = ImageStream(images, range(len(records)), test_transform, False, workers, fixed=True)
    return GeneralSet(indexed.name, names, stream)
