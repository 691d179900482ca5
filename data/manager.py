"""From an index and a list of requests to sessions with their streams."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.decoding import PLAIN, Decoding
from data.exemplars import exemplar_count, folder_set, items_of, pick, retained_count
from data.images import ImageSet, ImageStream
from data.index import SPLITS, IndexedSet, check_files
from data.sessions import ClassOrder, Session
from data.timeline import Catalogue, Known, Step, timeline
from data.transforms import Transform
from utils.errors import DataError, nearest
from utils.loop import Stream
from utils.requests import ForgetRequest, LearnRequest

MIN_IMAGES = 2
Streams = dict[str, Callable[[], Stream]]


class DataManager:
    """A data set cut into the sessions of a stream of requests.

    The classes known from the start have the first labels, in class order; the others follow in the order in which
    the stream first learns them. Counts are served from the set's own order, shuffled by the seed as PyCIL does
    (numpy's legacy generator); names are served as they stand.

    Args:
        indexed: the data set.
        requests: the stream.
        train, test: transforms of training and test images.
        seed: of the class order and of the images that requests grant.
        shuffle: whether the set's own order is shuffled.
        exclude: class names that are left out altogether.
        decoding, workers: see `ImageSet` and `ImageStream`.
        known: classes that the model knows before the stream, see `data.timeline.timeline`.
        images: whether images will be asked for; without, their number and files are not looked at.

    Attributes:
        order: the names behind the labels.
        known: labels of the classes known from the start.

    Raises:
        DataError: the stream asks for classes or images that are not there, a class has too few images, or a file is
            missing.
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
        decoding: Decoding = PLAIN,
        workers: int = 0,
        known: Known = "auto",
        images: bool = True,
    ):
        self.indexed, self.workers, self.decoding, self.seed = indexed, workers, decoding, seed
        self.transforms = {"train": train, "test": test}
        names = class_names(indexed, exclude)
        pool = [names[i] for i in np.random.RandomState(seed).permutation(len(names))] if shuffle else names
        parents = class_parents(indexed, names)
        stream = timeline(requests, Catalogue(indexed.name, pool, parents, indexed.aliases), known)
        self.steps = stream.steps
        self.order = class_order(stream.names, parents, indexed.aliases, indexed.descriptions)
        self.known = tuple(range(len(stream.known)))
        if images:
            self._check_images()

    def sessions(self, *, grant_past: bool = False, grant_kept: bool = False) -> list[Session]:
        """All sessions of the stream.

        Args:
            grant_past: whether learn sessions also grant `joint`, the training images of every class alive.
            grant_kept: whether they recall single images of classes alive, which the learner must have kept.
        """
        sessions, learned = [], 0
        for index, step in enumerate(self.steps):
            sessions.append(self._session(index, step, learned, grant_past, grant_kept))
            learned += sessions[-1].kind == "learn"
        return sessions

    def images(self, split: str, classes: Sequence[int]) -> Stream:
        """The images of some classes, un-augmented, in fixed order, for those who judge a model and do not train it.

        Args:
            split: `train` or `test`.
            classes: fine labels.
        """
        return self._stream(split, tuple(classes), "test", False)

    def _session(self, index: int, step: Step, learned: int, grant_past: bool, grant_kept: bool) -> Session:
        classes, seen, alive = (self._labels(names) for names in (step.classes, step.seen, step.alive))
        whole = {"index": index, "classes": classes, "seen": seen, "alive": alive, "order": self.order}
        whole["learned"] = learned
        if isinstance(step.request, LearnRequest):
            streams = self._learn_streams(classes, seen, alive, grant_past)
            kept = partial(self._kept, alive) if grant_kept else None
            return Session(kind="learn", streams=streams, kept=kept, **whole)
        coarse = tuple(sorted(self.order.coarse.index(name) for name in step.coarse))
        missing = self._labels(step.missing)
        whole |= {"level": step.request.level, "coarse_classes": coarse, "missing": missing}
        exemplars = self._exemplars(index, step.request, classes)
        shown = tuple(label for label in alive if label not in missing)
        streams = self._forget_streams(index, step.request, seen, shown, *exemplars)
        return Session(kind="forget", streams=streams, purge=partial(self._purge, classes, exemplars[0]), **whole)

    def _learn_streams(self, classes, seen, alive, grant_past: bool) -> Streams:
        streams = {
            "train": partial(self._stream, "train", classes, "train", True),
            "plain": partial(self._stream, "train", classes, "test", False),
            "test": partial(self._stream, "test", seen, "test", False),
        }
        return streams | ({"joint": partial(self._stream, "train", alive, "train", True)} if grant_past else {})

    def _kept(self, alive: tuple[int, ...], items: Tensor, augmented: bool) -> Stream:
        images = self._images["train"]
        gone = items[~torch.isin(images.labels["fine"][items], torch.tensor(alive))]
        if len(gone):
            raise PermissionError(f"image {gone[0].item()} is of a class that the model is not to know")
        return self._image_stream(images, items, "train" if augmented else "test", augmented)

    def _forget_streams(
        self, index: int, request: ForgetRequest, seen, shown, images: ImageSet, items: Tensor
    ) -> Streams:
        streams = {
            "forget": partial(self._image_stream, images, items, "test", True),
            "plain": partial(self._image_stream, images, items, "test", False),
            "test": partial(self._stream, "test", seen, "test", False),
        }
        if request.retain == "none":
            return streams
        images, many = self._images["train"], retained_count(request)
        retained = pick(images.labels["fine"], shown, many, self.seed, "retain", index)
        shuffled, plain = (partial(self._image_stream, images, retained, "test", shuffle) for shuffle in (True, False))
        return streams | {"retain": shuffled, "retain_plain": plain}

    def _exemplars(self, index: int, request: ForgetRequest, classes: tuple[int, ...]) -> tuple[ImageSet, Tensor]:
        """The set that a forget request's exemplars are in, and which of its items they are."""
        if isinstance(request.exemplars, str):
            asking = f"session {index} asks to forget"
            images = folder_set(Path(request.exemplars), classes, self.order, asking, self.decoding)
            return images, torch.arange(len(images))
        images = self._images["train"]
        many = exemplar_count(request)
        return images, pick(images.labels["fine"], classes, many, self.seed, "exemplars", index)

    def _purge(self, classes: tuple[int, ...], exemplars: ImageSet) -> None:
        for images in (self._images["train"], exemplars):
            images.purge(items_of(images.labels["fine"], classes).tolist())

    def _stream(self, split: str, classes: tuple[int, ...], transform: str, shuffle: bool) -> Stream:
        images = self._images[split]
        return self._image_stream(images, items_of(images.labels["fine"], classes), transform, shuffle)

    def _image_stream(self, images: ImageSet, items: Tensor, transform: str, shuffle: bool) -> Stream:
        fixed = transform == "test"
        return ImageStream(images, items, self.transforms[transform], shuffle, self.workers, fixed)

    @cached_property
    def _images(self) -> dict[str, ImageSet]:
        return {split: self._image_set(split) for split in SPLITS}

    def _image_set(self, split: str) -> ImageSet:
        label = {name: position for position, name in enumerate(self.order.fine)}
        records = self.indexed.splits[split]
        positions = self._positions(split, self.order.fine)
        fine = torch.tensor([label[records[position].fine] for position in positions], dtype=torch.long)
        labels = {"fine": fine, "coarse": torch.tensor(self.order.parents)[fine]}
        return ImageSet(self.indexed, split, positions, labels, self.decoding)

    def _positions(self, split: str, names: Sequence[str]) -> list[int]:
        wanted = set(names)
        return [i for i, record in enumerate(self.indexed.splits[split]) if record.fine in wanted]

    def _labels(self, names: Sequence[str]) -> tuple[int, ...]:
        place = {name: label for label, name in enumerate(self.order.fine)}
        return tuple(sorted(place[name] for name in names))

    def _check_images(self) -> None:
        """Enough images of every class, and the files of all that the stream shows."""
        learned = {name for step in self.steps if isinstance(step.request, LearnRequest) for name in step.classes}
        self._check_counts("train", [name for name in self.order.fine if name in learned], MIN_IMAGES)
        self._check_counts("test", [name for name in self.order.fine if name not in self.indexed.names], 1)
        shown = learned.union(*(self._shown(step) for step in self.steps))
        self._check_retained()
        check_files(self.indexed, "train", self._positions("train", shown))
        check_files(self.indexed, "test", self._positions("test", self.order.fine))

    def _check_retained(self) -> None:
        """Requests that show retained images have some to show."""
        there = {record.fine for record in self.indexed.splits["train"]}
        for index, step in enumerate(self.steps):
            retained = self._retained(step)
            if retained and not retained & there:
                raise DataError(
                    f"session {index} is to show images of what stays (key 'retain'), but '{self.indexed.name}' has "
                    'only names of it; add images, or set "retain" to "none"'
                )

    @staticmethod
    def _retained(step: Step) -> set[str]:
        """The classes of which a forget session shows images although they stay."""
        if isinstance(step.request, LearnRequest) or step.request.retain == "none":
            return set()
        return set(step.alive) - set(step.missing)

    def _shown(self, step: Step) -> set[str]:
        """The classes of which a forget session shows training images of the set."""
        if isinstance(step.request, LearnRequest):
            return set()
        exemplars = () if isinstance(step.request.exemplars, str) else step.classes
        return {*exemplars, *self._retained(step)}

    def _check_counts(self, split: str, names: Sequence[str], least: int) -> None:
        counts = dict.fromkeys(names, 0)
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
    """The fine names of a set in its own order: that of their first training image, those without images last.

    Raises:
        DataError: a name to exclude is not there.
    """
    names = list(dict.fromkeys([*(record.fine for record in indexed.splits["train"]), *indexed.names]))
    for name in exclude:
        if name not in names:
            raise DataError(f"key 'exclude': '{indexed.name}' has no class '{name}'{nearest(name, names)}")
    return [name for name in names if name not in set(exclude)]


def class_parents(indexed: IndexedSet, names: Sequence[str]) -> dict[str, str]:
    """Fine name → coarse name.

    Raises:
        DataError: one fine name stands under two parents.
    """
    parent = dict(indexed.names)
    records = ((split, i, record) for split in SPLITS for i, record in enumerate(indexed.splits[split]))
    for split, position, record in records:
        if parent.setdefault(record.fine, record.coarse) != record.coarse:
            raise DataError(
                f"{indexed.place(split, position)}: class '{record.fine}' stands under '{record.coarse}' here and "
                f"under '{parent[record.fine]}' before; a fine class has one parent"
            )
    return {name: parent[name] for name in names}


def class_order(
    names: Sequence[str],
    parents: Mapping[str, str],
    aliases: Mapping[str, Sequence[str]],
    descriptions: Mapping[str, str] | None = None,
) -> ClassOrder:
    """The order of labels that follows from an order of fine names."""
    coarse = list(dict.fromkeys(parents[name] for name in names))
    labels = tuple(coarse.index(parents[name]) for name in names)
    return ClassOrder(tuple(names), tuple(coarse), labels, aliases, descriptions or {})
