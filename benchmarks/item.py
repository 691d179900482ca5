"""What a benchmark is: one result, reached by the toolbox and by a plain reading of the published algorithm."""

from collections.abc import Callable
from dataclasses import dataclass

SIZES = ("full", "modest", "small")  # as published; the same proportions for a small machine; for tests


@dataclass(frozen=True)
class Target:
    """What a row must reach; None: nothing is asked.

    Attributes:
        faster: time of the plain side over the toolbox's, at least.
        smaller: peak extra memory of the plain side over the toolbox's, at least.
        floors: time of the toolbox over that of its matrix products at the machine's measured rate, at most.
        floors_on: the kind of device that `floors` is asked of.
    """

    faster: float | None = None
    smaller: float | None = None
    floors: float | None = None
    floors_on: str = "cpu"


@dataclass(frozen=True)
class Item:
    """A row of the table.

    Attributes:
        name: what is computed.
        size: of what, in words.
        toolbox: computes it, as a run does.
        plain: computes it as a plain reading of the published algorithm does.
        check: raises AssertionError where the results of the two differ by more than rounding.
        target: what must be reached at full size.
        share: how much of the toolbox's work `plain` does; its time is divided by it.
    """

    name: str
    size: str
    toolbox: Callable[[], object]
    plain: Callable[[], object]
    check: Callable[[], None]
    target: Target = Target()
    share: float = 1.0
