"""Which images a forget request grants: so many of each class, a share, or those of a folder from elsewhere."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from data.builders.base import readable
from data.builders.trees import images_below, subfolders
from data.decoding import Decoding
from data.images import ImageSet
from data.index import IndexedSet, Record
from data.sessions import ClassOrder
from utils.errors import DataError, nearest
from utils.requests import Few, ForgetRequest, Ratio
from utils.seeds import derive_seed


class ExemplarSet(IndexedSet):
    """Images of a folder, written in no index."""

    def place(self, split: str, position: int) -> str:
        """The folder of the request."""
        return f"exemplars {self.folder}"


def items_of(labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Where a set's labels [N] are among some classes, ascending, [M]."""
    return torch.isin(labels, torch.tensor(classes, dtype=torch.long)).nonzero().flatten()


def pick(labels: Tensor, classes: Sequence[int], count: Callable[[int], int], *seed: object) -> Tensor:
    """Some items of each class, drawn by a seed of the class's own, ascending, [M].

    Args:
        labels: of all items, [N].
        classes: which labels are wanted.
        count: how many of a class's so many items.
        seed: what the draw depends on, beside the class's label.
    """
    chosen = []
    for label in classes:
        items = items_of(labels, [label])
        dice = torch.Generator().manual_seed(derive_seed(*seed, label))
        chosen.append(items[torch.randperm(len(items), generator=dice)[: count(len(items))]])
    return torch.cat(chosen).sort().values if chosen else torch.empty(0, dtype=torch.long)


def exemplar_count(request: ForgetRequest) -> Callable[[int], int]:
    """How many of a class's images the unlearner may see of what is to be forgotten."""
    return _count("all" if request.exemplars is None else request.exemplars)


def retained_count(request: ForgetRequest) -> Callable[[int], int]:
    """How many of a class's images it may see of what is to stay."""
    return _count(request.retain)


def _count(granted: str | int | Few | Ratio) -> Callable[[int], int]:
    """So many of a class's images; a share is rounded up."""
    match granted:
        case int() | Few():
            most = granted if isinstance(granted, int) else granted.few
            return lambda there: min(there, most)
        case Ratio(ratio=ratio):
            # the small number takes back what the product's rounding adds: 0.07 · 100 is a little above 7
            return lambda there: min(there, max(1, math.ceil(there * ratio - 1e-9)))
        case "all":
            return lambda there: there
    return lambda there: 0


def folder_set(folder: Path, classes: Sequence[int], order: ClassOrder, asking: str, decoding: Decoding) -> ImageSet:
    """The exemplars of a folder that holds one folder a class, named as the class or one of its aliases.

    Args:
        folder: holds the classes' folders; others beside them are passed over.
        classes: the fine labels wanted.
        order: their names.
        asking: which session asks, for messages.
        decoding: see `ImageSet`.

    Raises:
        DataError: the folder, or that of a class, is missing or holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"{asking}: the folder of exemplars {folder} does not exist (seen from {Path.cwd()})")
    there = {readable(each.name): each for each in subfolders(folder)}
    records, labels = [], []
    for label in classes:
        found = _class_images(there, label, order, f"{asking}: exemplars {folder}")
        records += [Record(str(path), order.coarse[order.parents[label]], order.fine[label]) for path in found]
        labels += [label] * len(found)
    fine = torch.tensor(labels)
    indexed = ExemplarSet(folder.name, folder, Path.cwd(), {"train": records, "test": []})
    levels = {"fine": fine, "coarse": torch.tensor(order.parents)[fine]}
    return ImageSet(indexed, "train", range(len(records)), levels, decoding)


def _class_images(there: dict[str, Path], label: int, order: ClassOrder, asking: str) -> list[Path]:
    name = order.fine[label]
    names = [each for each in (name, *order.aliases.get(name, ())) if readable(each) in there]
    if not names:
        raise DataError(f"{asking}: no folder is called '{name}', so class '{name}' has no image{nearest(name, there)}")
    folder = there[readable(names[0])].resolve()
    found = [folder.joinpath(*parts) for parts in images_below(folder)]
    if not found:
        raise DataError(f"{asking}: {folder} holds no image of class '{name}'; add some or name a count instead")
    return found
