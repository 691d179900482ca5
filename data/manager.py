"""From an index and a list of requests to sessions with their streams."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import numpy as np
import torch

from data.images import ImageSet, ImageStream
from data.index import SPLITS, IndexedSet, check_files
from data.sessions import ClassOrder, Session
from data.transforms import Transform
from utils.errors import DataError, nearest
from utils.loop import Stream
from utils.requests import ForgetRequest, LearnRequest

MIN_IMAGES = 2


class DataManager:
    """A data set cut into the sessions of a stream of requests.

    Labels follow the order in which the stream learns the classes. Counts are served from the set's own order, shuffled
    by the seed as PyCIL does (numpy's legacy generator); names are served as they stand.

    Args:
        indexed: the data set.
        requests: the stream.
        train, test: transforms of training and test images.
        seed: of the class order.
        shuffle: whether the set's own order is shuffled.
        exclude: class names that are left out altogether.
        cache_gb, workers: see `ImageSet` and `ImageStream`.

    Raises:
        DataError: the stream asks for classes that are not there, a class has too few images, or a file is missing.
    """

    def __init__(
        self,
        indexed: IndexedSet,
        requests: Sequence[LearnRequest | ForgetRequest],
        *,
        train: Transform,
        test: Transform,
        seed: int = 1993,
        shuffle: bool = True,
        exclude: Sequence[str] = (),
        cache_gb: float = 4.0,
        workers: int = 0,
    ):
        self.indexed, self.requests, self.workers, self.cache_gb = indexed, list(requests), workers, cache_gb
        self.transforms = {"train": train, "test": test}
        names = class_names(indexed, exclude)
        pool = [names[i] for i in np.random.RandomState(seed).permutation(len(names))] if shuffle else names
        self.assigned = assign(self.requests, pool, indexed.name)
        self.order = class_order(indexed, [name for learned in self.assigned.values() for name in learned])
        self._check_counts()
        for split in SPLITS:
            check_files(indexed, split, self._positions(split))

    def sessions(self, *, grant_past: bool = False) -> list[Session]:
        """All sessions of the stream.

        Args:
            grant_past: whether learn sessions also grant `joint`, the images of every class seen so far.
        """
        sessions, seen, gone = [], set(), set()
        for index, request in enumerate(self.requests):
            if isinstance(request, LearnRequest):
                classes = self._labels(self.assigned[index])
                seen |= set(classes)
                streams = self._learn_streams(classes, tuple(sorted(seen)), grant_past)
                sessions.append(Session(index, "learn", classes, tuple(sorted(seen)), self.order, streams=streams))
            else:
                sessions.append(self._forget_session(index, request, tuple(sorted(seen)), tuple(sorted(seen - gone))))
                gone |= set(sessions[-1].classes)
        return sessions

    def _learn_streams(self, classes, seen, grant_past: bool) -> dict[str, Callable[[], Stream]]:
        streams = {
            "train": partial(self._stream, "train", classes, "train", True),
            "plain": partial(self._stream, "train", classes, "test", False),
            "test": partial(self._stream, "test", seen, "test", False),
        }
        return streams | ({"joint": partial(self._stream, "train", seen, "train", True)} if grant_past else {})

    def _forget_session(self, index: int, request: ForgetRequest, seen: tuple[int, ...], alive) -> Session:
        names = forget_names(request, self.order, alive)
        parents = self._find(names["coarse"], self.order.coarse, "coarse class")
        children = {label for label in alive if self.order.parents[label] in parents}
        classes = tuple(sorted({*self._labels(names["fine"]), *children}))
        streams = {
            "forget": partial(self._stream, "train", classes, "train", True),
            "test": partial(self._stream, "test", seen, "test", False),
        }
        return Session(index, "forget", classes, seen, self.order, request.level, parents, streams)

    def _stream(self, split: str, classes: tuple[int, ...], transform: str, shuffle: bool) -> Stream:
        images = self._images[split]
        items = torch.isin(images.labels["fine"], torch.tensor(classes)).nonzero().flatten()
        return ImageStream(images, items, self.transforms[transform], shuffle, self.workers)

    @cached_property
    def _images(self) -> dict[str, ImageSet]:
        return {split: self._image_set(split) for split in SPLITS}

    def _image_set(self, split: str) -> ImageSet:
        label = {name: position for position, name in enumerate(self.order.fine)}
        records = self.indexed.splits[split]
        positions = self._positions(split)
        fine = torch.tensor([label[records[position].fine] for position in positions])
        labels = {"fine": fine, "coarse": torch.tensor(self.order.parents)[fine]}
        return ImageSet(self.indexed, split, positions, labels, self.cache_gb)

    def _positions(self, split: str) -> list[int]:
        """The records of a split whose class the stream learns."""
        learned = set(self.order.fine)
        return [i for i, record in enumerate(self.indexed.splits[split]) if record.fine in learned]

    def _labels(self, names: Sequence[str]) -> tuple[int, ...]:
        return self._find(names, self.order.fine, "class")

    def _find(self, names: Sequence[str], known: tuple[str, ...], what: str) -> tuple[int, ...]:
        place = {name: label for label, name in enumerate(known)}
        for name in names:
            if name not in place:
                raise DataError(
                    f"the request names {what} '{name}', which the stream never learns{nearest(name, known)}"
                )
        return tuple(sorted(place[name] for name in names))

    def _check_counts(self) -> None:
        for split, least in (("train", MIN_IMAGES), ("test", 1)):
            counts = dict.fromkeys(self.order.fine, 0)
            for record in self.indexed.splits[split]:
                if record.fine in counts:
                    counts[record.fine] += 1
            poor = [name for name, count in counts.items() if count < least]
            if poor:
                raise DataError(
                    f"{self.indexed.folder / split}.jsonl: class '{poor[0]}' has {counts[poor[0]]} image(s), at least "
                    f'{least} are needed; add images or leave it out with "exclude" ({len(poor)} such class(es))'
                )


def class_names(indexed: IndexedSet, exclude: Sequence[str] = ()) -> list[str]:
    """The fine names of a set in its own order: that of their first training image.

    Raises:
        DataError: a name to exclude is not there.
    """
    names = list(dict.fromkeys(record.fine for record in indexed.splits["train"]))
    for name in exclude:
        if name not in names:
            raise DataError(f"key 'exclude': '{indexed.name}' has no class '{name}'{nearest(name, names)}")
    return [name for name in names if name not in set(exclude)]


def class_order(indexed: IndexedSet, names: Sequence[str]) -> ClassOrder:
    """The order of labels that follows from an order of fine names.

    Raises:
        DataError: one fine name stands under two parents.
    """
    parent: dict[str, str] = {}
    records = ((split, i, record) for split in SPLITS for i, record in enumerate(indexed.splits[split]))
    for split, position, record in records:
        if parent.setdefault(record.fine, record.coarse) != record.coarse:
            raise DataError(
                f"{indexed.place(split, position)}: class '{record.fine}' stands under '{record.coarse}' here and "
                f"under '{parent[record.fine]}' before; a fine class has one parent"
            )
    coarse = list(dict.fromkeys(parent[name] for name in names))
    parents = tuple(coarse.index(parent[name]) for name in names)
    return ClassOrder(tuple(names), tuple(coarse), parents, indexed.aliases)


def assign(
    requests: Sequence[LearnRequest | ForgetRequest], pool: Sequence[str], set_name: str
) -> dict[int, list[str]]:
    """Which classes each learn request gets: names as they stand, counts from the pool without the named ones.

    Args:
        requests: the stream.
        pool: class names in class order.
        set_name: for the messages.

    Returns:
        Request position → fine names.

    Raises:
        DataError: an unknown name, a name learned twice, or more classes asked for than there are.
    """
    learns = {index: request.classes for index, request in enumerate(requests) if isinstance(request, LearnRequest)}
    named = [name for classes in learns.values() if not isinstance(classes, int) for name in classes]
    for name in named:
        if name not in pool:
            raise DataError(f"session asks to learn '{name}', which '{set_name}' has not{nearest(name, pool)}")
        if named.count(name) > 1:
            raise DataError(f"two sessions ask to learn '{name}'; a class is learned once")
    free = [name for name in pool if name not in set(named)]
    assigned = {}
    for index, classes in learns.items():
        if not isinstance(classes, int):
            assigned[index] = list(classes)
            continue
        if classes > len(free):
            raise DataError(
                f"session {index} asks for {classes} new classes, but only {len(free)} of the {len(pool)} "
                f"of '{set_name}' are left; ask for fewer"
            )
        assigned[index], free = free[:classes], free[classes:]
    return assigned


def forget_names(request: ForgetRequest, order: ClassOrder, known: Sequence[int]) -> dict[str, list[str]]:
    """The names of a forget request by level; a count takes the first known ones in class order.

    Args:
        request: counts or names, per level where it is hybrid.
        order: the names behind the labels.
        known: fine labels the model knows.

    Raises:
        DataError: a count above that of the known classes.
    """
    wanted = dict(request.classes) if request.level == "hybrid" else {request.level: request.classes}
    names = {
        "fine": [order.fine[label] for label in known],
        "coarse": [order.coarse[label] for label in order.coarse_of(known)],
    }
    return {level: _first_or_named(wanted.get(level), names[level], level) for level in names}


def _first_or_named(wanted: int | Sequence[str] | None, known: Sequence[str], level: str) -> list[str]:
    if not isinstance(wanted, int):
        return list(wanted or ())
    if wanted > len(known):
        raise DataError(f"a session asks to forget {wanted} {level} classes, but only {len(known)} are known by then")
    return list(known[:wanted])
