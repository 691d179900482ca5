"""Images of one split: decoded once where memory allows, else when asked for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.pool import ThreadPool

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm import tqdm

from data.decoding import PLAIN, Decoding
from data.index import IndexedSet
from data.transforms import Transform
from utils.errors import DataError
from utils.processes import WHOLE, Part, shown_by_the_first
from utils.seeds import derive_seed

log = logging.getLogger("lethe")

PROBED = 8  # images that tell how large the others are
SPARING = "'jpeg_side' decodes large photographs smaller, 'cache_dir' keeps them on disk"
# a worker then has the images that are in memory without a copy; elsewhere than on Linux threads may not survive it
FORK = "fork" if sys.platform == "linux" else None
WORTH = 2**27  # decoded bytes of a pass from which on processes save more than it takes to start them


class ImageSet:
    """The images of one split and their labels.

    Args:
        indexed: the data set.
        split: `train` or `test`.
        positions: which records are in, in order.
        labels: level → label of each of them, [N].
        decoding: how images are decoded and kept.
    """

    def __init__(
        self,
        indexed: IndexedSet,
        split: str,
        positions: Sequence[int],
        labels: dict[str, Tensor],
        decoding: Decoding = PLAIN,
    ):
        self.indexed, self.split, self.labels = indexed, split, labels
        self.positions = list(positions)
        self.decoding, self.limit, self.used = decoding, int(decoding.cache_gb * 2**30), 0
        self._cache: dict[int, Tensor] = {}
        self._computed: dict[int, Tensor] = {}
        self._valid: Callable[[], bool] = _never

    def __len__(self) -> int:
        return len(self.positions)

    def image(self, item: int) -> Tensor:
        """Image `item`, uint8 [3, H, W].

        Raises:
            DataError: the file is missing or not an image; names the file and its line in the index.
        """
        if item in self._cache:
            return self._cache[item]
        image = self._decode(self.positions[item])
        self._take(item, image)
        return image

    def _take(self, item: int, image: Tensor) -> bool:
        room = self.used + image.nbytes <= self.limit
        if room:
            self._cache[item] = image
            self.used += image.nbytes
        return room

    def size(self, probe: Sequence[int]) -> float:
        """Bytes of a decoded image, the mean of those to probe."""
        sizes = [self.image(item).numel() for item in probe]
        return sum(sizes) / max(1, len(sizes))

    def fill(self, items: Sequence[int], workers: int) -> None:
        """Decode some images into memory, so many at a time, until there is no more room.

        Raises:
            DataError: see `image`.
        """
        lacking = [item for item in items if item not in self._cache]
        if not lacking:
            return
        positions = [self.positions[item] for item in lacking]
        there = self.decoding.there(self.indexed.file(self.split, position) for position in positions)
        with ThreadPool(workers) as pool:
            decoded = pool.imap(self._decode, positions)
            shown = tqdm(decoded, "decode", len(lacking), **shown_by_the_first())
            full = not all(self._take(item, image) for item, image in zip(lacking, shown, strict=True))
        self._tell(len(lacking), there, full)

    def _tell(self, asked: int, there: int, full: bool) -> None:
        what = f"{self.indexed.name}, {self.split}"
        log.info("%s: %d of %d images in memory, %.0f MB", what, len(self._cache), len(self), self.used / 2**20)
        if full:
            log.info("%s: 'cache_gb' leaves no room for the others; %s", what, SPARING)
        if self.decoding.folder:
            log.info("%s: %d of %d were decoded before, in %s", what, there, asked, self.decoding.folder.folder)

    def drop(self, items: Iterable[int]) -> None:
        """Let go of decoded images and of what was computed of them; they are decoded anew when asked for."""
        for item in items:
            for kept in (self._cache, self._computed):
                value = kept.pop(item, None)
                self.used -= 0 if value is None else value.nbytes

    def purge(self, items: Iterable[int]) -> None:
        """Let go of images in memory and in the folder of decoded ones."""
        items = list(items)
        self.drop(items)
        for item in items:
            self.decoding.forget(self.indexed.file(self.split, self.positions[item]))

    def computed(self, items: Sequence[int]) -> list[Tensor] | None:
        """What was computed of images in advance; None where it is not there of all, or no longer right."""
        return None if self.lacking(items) else [self._computed[item] for item in items]

    def lacking(self, items: Sequence[int]) -> list[int]:
        """Those images of which nothing was computed, or what is no longer right."""
        if not self._valid():
            self.drop_computed()
        return [item for item in items if item not in self._computed]

    def drop_computed(self, keep: Iterable[int] = ()) -> None:
        """Let go of all that was computed, but of some images."""
        self.drop(self._computed.keys() - set(keep))

    def make_room(self, size: int) -> bool:
        """Whether so many bytes can be kept, if need be in the place of decoded images, which then go."""
        computed = sum(value.nbytes for value in self._computed.values())
        if computed + size > self.limit:
            return False
        if self.used + size > self.limit:
            self._cache.clear()
            self.used = computed
        return True

    def keep(self, items: Sequence[int], values: Tensor, valid: Callable[[], bool]) -> None:
        """Take what was computed of images in the place of the decoded ones.

        Args:
            items: which images.
            values: of each, [N, …].
            valid: says whether they still are what would be computed now; replaces what was said of earlier ones.
        """
        self.drop(items)
        self._valid = valid
        for item, value in zip(items, values, strict=True):
            self._computed[item] = value.clone()  # of its own, so that one may go without the others
            self.used += value.nbytes

    def _decode(self, position: int) -> Tensor:
        file, place = self.indexed.file(self.split, position), self.indexed.place(self.split, position)
        try:
            return self.decoding.read(file)
        except FileNotFoundError as error:
            raise DataError(f"{place}: image {file} does not exist; mend the index or set 'data_root'") from error
        except DataError as error:
            raise DataError(f"{place}: {error}") from error


def _never() -> bool:
    """Nothing was computed yet."""
    return False


class ImageStream:
    """Images of a set, transformed, in batches.

    Every image's augmentation is a function of the pass's seed and the image's place in the set alone, so that batches
    do not depend on the number of worker processes.

    Args:
        images: where they come from.
        items: which of them, in order.
        transform: applied to each image.
        shuffle: whether the order changes from pass to pass.
        workers: processes that decode what does not fit into memory, and transform; a small pass is made without.
        fixed: whether the transform makes the same of an image every time. What a tower's first blocks make of it may
            then stand in its place, see `ImageSet.keep`.
    """

    def __init__(
        self,
        images: ImageSet,
        items: Sequence[int],
        transform: Transform,
        shuffle: bool,
        workers: int = 0,
        fixed: bool = False,
    ):
        self.images, self.items, self.transform = images, torch.as_tensor(items, dtype=torch.long), transform
        self.shuffle, self.workers, self.fixed = shuffle, workers, fixed

    def __len__(self) -> int:
        return len(self.items)

    def at(self, places: Sequence[int], shuffle: bool = False) -> ImageStream:
        """The images at some places of the un-shuffled order, as a stream of their own; never what was computed."""
        chosen = self.items[torch.as_tensor(places, dtype=torch.long)]
        return ImageStream(self.images, chosen, self.transform, shuffle, self.workers)

    def labels(self, level: str) -> Tensor:
        """The labels of a level, in the un-shuffled order, [N]."""
        return self.images.labels[level][self.items]

    def batches(self, size: int | Sequence[int], seed: int, part: Part = WHOLE) -> Iterator[dict[str, Tensor]]:
        """One pass, a part of each batch: {"image": [B, 3, size, size], "item": [B], level: [B] …}.

        All batches may have their own size: those, in order, make up the stream.

        Where the transform is fixed and the set has computed values of all images, "image" holds these.

        Raises:
            DataError: see `ImageSet.image`.
        """
        order = self.items
        if self.shuffle:
            order = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(seed))]
        rows = [part.of(some) for some in order.split(size)]
        read = self._computed if self.fixed and not self.images.lacking(self.items.tolist()) else self._decoded
        for pixels, items in read(rows, seed):
            yield {"image": pixels, "item": items} | {k: v[items] for k, v in self.images.labels.items()}

    def pixels(self, items: Sequence[int]) -> ImageStream:
        """Some of the images in the order given, and never what was computed of them."""
        return ImageStream(self.images, items, self.transform, False, self.workers)

    def _computed(self, rows: Iterable[Tensor], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        for items in rows:
            yield torch.stack(self.images.computed(items.tolist())), items

    def _decoded(self, rows: Iterable[Tensor], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        batches = [items.tolist() for items in rows]
        workers = self._workers([item for items in batches for item in items])
        dataset = _Transformed(self.images, self.transform, seed)
        # A generator of the loader's own: otherwise it draws its base seed from the global one.
        generator = torch.Generator().manual_seed(seed)
        options = {"num_workers": workers, "collate_fn": _collate, "generator": generator}
        options |= {"multiprocessing_context": FORK} if workers else {}
        for loaded in DataLoader(dataset, batch_sampler=batches, **options):
            if isinstance(loaded, DataError):
                raise loaded
            yield loaded

    def _workers(self, items: Sequence[int]) -> int:
        """How many processes make a pass over some images; what has room in memory is decoded before they begin."""
        if not self.workers:
            return 0
        # images of this stream alone are probed: others may be of classes that have been purged
        size = self.images.size(self.items[:PROBED].tolist())
        if size * len(items) < WORTH:
            return 0
        if self.images.used + size <= self.images.limit:
            self.images.fill(items, self.workers)
        return self.workers


class _Transformed(Dataset):
    def __init__(self, images: ImageSet, transform: Transform, seed: int):
        self.images, self.transform, self.seed = images, transform, seed

    def __getitem__(self, item: int) -> tuple[Tensor, int] | DataError:
        try:
            image = self.images.image(item)
        except DataError as error:  # raised in a worker, it would come back wrapped in the worker's traceback
            return error
        with torch.random.fork_rng(devices=[]):
            # The CPU's generator alone: `torch.manual_seed` would also set the GPU's, on which dropout depends.
            torch.default_generator.manual_seed(derive_seed(self.seed, item))
            return self.transform(image), item


def _collate(rows: list[tuple[Tensor, int] | DataError]) -> list[Tensor] | DataError:
    return next((row for row in rows if isinstance(row, DataError)), None) or default_collate(rows)
