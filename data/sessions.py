"""A stream of sessions over a data set: who is asked to learn or forget what, and what each session may see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from utils.loop import Stream


@dataclass(frozen=True)
class ClassOrder:
    """The names behind the labels.

    Attributes:
        fine: name of fine label i.
        coarse: name of coarse label i; coarse labels are in the order of their first child.
        parents: coarse label of fine label i.
        aliases: name → other names of the same class.
    """

    fine: tuple[str, ...]
    coarse: tuple[str, ...]
    parents: tuple[int, ...]
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def two_levels(self) -> bool:
        """Whether coarse names say anything that fine ones do not."""
        return self.fine != self.coarse

    def coarse_of(self, classes: Sequence[int]) -> tuple[int, ...]:
        """The coarse labels of some fine ones, each once, ascending."""
        return tuple(sorted({self.parents[label] for label in classes}))


@dataclass(frozen=True)
class Session:
    """One request and what it grants.

    Attributes:
        index: number of the session in the stream, from 0.
        kind: `learn` or `forget`.
        classes: fine labels the request is about, ascending; to forget a parent is to forget its children.
        seen: fine labels learned so far, this session's included, ascending.
        order: the names behind the labels.
        level: of a forget request: `fine`, `coarse` or `hybrid`.
        coarse_classes: of a forget request: coarse labels it names.
        streams: name → a function that makes the stream.
    """

    index: int
    kind: str
    classes: tuple[int, ...]
    seen: tuple[int, ...]
    order: ClassOrder
    level: str = "fine"
    coarse_classes: tuple[int, ...] = ()
    streams: Mapping[str, Callable[[], Stream]] = field(default_factory=dict)

    def stream(self, name: str) -> Stream:
        """A stream by name: `train` (augmented, shuffled), `plain` (un-augmented, fixed order), `test`, ….

        Raises:
            PermissionError: the request does not grant it.
        """
        if name not in self.streams:
            granted = ", ".join(sorted(self.streams))
            raise PermissionError(f"session {self.index} ({self.kind}) grants no stream '{name}', only: {granted}")
        return self.streams[name]()

    def new_parents(self) -> tuple[int, ...]:
        """Coarse labels whose first child this session brings, ascending."""
        before = set(self.seen) - set(self.classes)
        return tuple(sorted(set(self.order.coarse_of(self.classes)) - set(self.order.coarse_of(tuple(before)))))
