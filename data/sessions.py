"""A stream of sessions over a data set: who is asked to learn or forget what, and what each session may see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from utils.loop import Stream


@dataclass(frozen=True)
class ClassOrder:
    """The names behind the labels.

    Attributes:
        fine: name of fine label i.
        coarse: name of coarse label i; coarse labels are in the order of their first child.
        parents: coarse label of fine label i.
        aliases: name → other names of the same class.
        descriptions: name → what its images show, in words that do not name it.
    """

    fine: tuple[str, ...]
    coarse: tuple[str, ...]
    parents: tuple[int, ...]
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)

    @property
    def two_levels(self) -> bool:
        """Whether coarse names say anything that fine ones do not."""
        return self.fine != self.coarse

    def coarse_of(self, classes: Sequence[int]) -> tuple[int, ...]:
        """The coarse labels of some fine ones, each once, ascending."""
        return tuple(sorted({self.parents[label] for label in classes}))


def _nothing() -> None:
    """What there is to purge after a session that showed nothing to forget."""


@dataclass(frozen=True)
class Session:
    """One request and what it grants.

    Attributes:
        index: number of the session in the stream, from 0.
        kind: `learn` or `forget`.
        classes: fine labels the request is about, ascending; to forget a parent is to forget its children.
        seen: fine labels known from the start or ever learned, this session's and forgotten ones included, ascending.
        alive: fine labels the model is to know after this session, ascending.
        order: the names behind the labels.
        level: of a forget request: `fine`, `coarse` or `hybrid`.
        coarse_classes: of a forget request: coarse labels it names.
        missing: of a forget request that grants retained images: fine labels alive that it shows none of, ascending.
        learned: how many learn sessions came before this one.
        streams: name → a function that makes the stream.
        kept: makes a stream of training images that a learner kept, see `recalled`; None: nobody may keep any.
        purge: drops the images of the request's classes from the caches of decoded training images and exemplars.
    """

    index: int
    kind: str
    classes: tuple[int, ...]
    seen: tuple[int, ...]
    alive: tuple[int, ...]
    order: ClassOrder
    level: str = "fine"
    coarse_classes: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    learned: int = 0
    streams: Mapping[str, Callable[[], Stream]] = field(default_factory=dict)
    kept: Callable[[Tensor, bool], Stream] | None = None
    purge: Callable[[], None] = _nothing

    @property
    def gone(self) -> tuple[int, ...]:
        """Fine labels the model is not to know after this session although it once did, ascending."""
        return tuple(sorted(set(self.seen) - set(self.alive)))

    @property
    def past(self) -> tuple[int, ...]:
        """Fine labels that earlier requests made the model forget, ascending."""
        return tuple(sorted(set(self.gone) - set(self.classes)))

    @property
    def goals(self) -> dict[int, str]:
        """Of a forget request: fine label → the highest level at which it must go, `fine` or `coarse`."""
        if self.kind != "forget":
            return {}
        whole = set(self.coarse_classes)
        return {label: "coarse" if self.order.parents[label] in whole else "fine" for label in self.classes}

    def stream(self, name: str) -> Stream:
        """A stream by name.

        A learn session has `train` (augmented, shuffled), `plain` (un-augmented, fixed order) and `test`; a forget
        session `forget` (its exemplars, un-augmented, shuffled), `plain` (the same, fixed order), `test` and, where
        the request grants them, the retained images as `retain` (un-augmented, shuffled) and `retain_plain` (fixed
        order). `test` holds the test images of all classes seen.

        Raises:
            PermissionError: the request does not grant it.
        """
        if name not in self.streams:
            granted = ", ".join(sorted(self.streams))
            raise PermissionError(f"session {self.index} ({self.kind}) grants no stream '{name}', only: {granted}")
        return self.streams[name]()

    def recalled(self, items: Tensor, *, augmented: bool) -> Stream:
        """Training images that a learner keeps of its classes, by their numbers.

        Args:
            items: what their batches called "item", [N].
            augmented: and shuffled; else as in `plain`, in the order given.

        Raises:
            PermissionError: an image is of no class alive, or the learner is none that keeps images.
        """
        if self.kept is None:
            raise PermissionError(f"session {self.index} grants no image of the past: the learner keeps none")
        return self.kept(items, augmented)
