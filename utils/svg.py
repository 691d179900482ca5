"""Line charts as SVG that stands within a page and takes its colours, light or dark, from the page's style."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from utils.html import Markup, element, joined
from utils.plain import finite

COLOURS = 8  # classes s0 … s7 of the style
DASHES = (None, "6 3", "2 2")  # of the second and third eight lines
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 210, 26, 10, 10, 26
MOST_TICKS = 12


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: in the key.
        values: in percent, one a step; nan where there is none.
    """

    name: str
    values: Sequence[float]


def line_chart(title: str, lines: Sequence[Line], tinted: Collection[int] = ()) -> Markup:
    """Percentages by session, with a key; a point says its figure where the pointer rests on it.

    Args:
        title: for readers who cannot see it.
        lines: at least one.
        tinted: the steps that are set apart.

    Raises:
        ValueError: there is no line.
    """
    if not lines:
        raise ValueError("a chart needs a line")
    steps = max(len(line.values) for line in lines)
    low = _lowest(lines)
    drawn = [_line(place, line, steps, low) for place, line in enumerate(lines)]
    chart = element(
        "svg",
        *(_tint(step, steps) for step in sorted(tinted)),
        *_grid(low),
        *_ticks(steps),
        *drawn,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        class_="chart",
        role="img",
        aria_label=title,
    )
    return element("figure", chart, _key(lines))


def _lowest(lines: Sequence[Line]) -> int:
    known = [value for line in lines for value in line.values if finite(value)]
    return max(0, min(90, 10 * math.floor((min(known, default=0) - 4) / 10)))


def _x(step: int, steps: int) -> float:
    return LEFT + (step + 0.5) * (WIDTH - LEFT - RIGHT) / max(1, steps)


def _y(value: float, low: int) -> float:
    return TOP + (100 - value) / (100 - low) * (HEIGHT - TOP - BOTTOM)


def _tint(step: int, steps: int) -> Markup:
    width = (WIDTH - LEFT - RIGHT) / steps
    x = f"{_x(step, steps) - width / 2:.1f}"
    return element("rect", x=x, y=TOP, width=f"{width:.1f}", height=HEIGHT - TOP - BOTTOM, class_="forget")


def _grid(low: int) -> list[Markup]:
    found = []
    every = 2 if low >= 90 else 10 if low >= 50 else 20
    for value in range(100, low - 1, -every):
        y = f"{_y(value, low):.1f}"
        found.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        found.append(element("text", value, x=LEFT - 5, y=f"{_y(value, low) + 3.5:.1f}", text_anchor="end"))
    return found


def _ticks(steps: int) -> list[Markup]:
    every = math.ceil(steps / MOST_TICKS)
    shown = [
        element("text", step, x=f"{_x(step, steps):.1f}", y=HEIGHT - BOTTOM + 13, text_anchor="middle")
        for step in range(0, steps, every)
    ]
    return [*shown, element("text", "session", x=WIDTH - RIGHT, y=HEIGHT - 2, text_anchor="end")]


def _line(place: int, line: Line, steps: int, low: int) -> Markup:
    points = [(step, value) for step, value in enumerate(line.values) if finite(value)]
    spots = [(f"{_x(step, steps):.1f}", f"{_y(value, low):.1f}") for step, value in points]
    way = element("polyline", points=" ".join(map(",".join, spots)), **_look(place))
    marks = [
        mark(place, float(x), float(y), f"{line.name}, session {step}: {value:.2f}")
        for (step, value), (x, y) in zip(points, spots, strict=True)
    ]
    return element("g", way, *marks, class_=f"s{place % COLOURS}")


def _look(place: int) -> dict[str, object]:
    return {"class_": "mark stroke", "stroke_dasharray": DASHES[place // COLOURS % len(DASHES)]}


def mark(place: int, x: float, y: float, says: str | None = None) -> Markup:
    """A mark that says its words where the pointer rests on it.

    Shapes differ, too, so that nothing is told by its colour alone.

    Args:
        place: circle, square, triangle, diamond, and again.
        x: of its middle.
        y: of its middle.
        says: the words; None: none.
    """
    title = element("title", says) if says else None
    corners = {1: "-4,-4 4,-4 4,4 -4,4", 2: "0,-5 5,4 -5,4", 3: "0,-5 5,0 0,5 -5,0"}.get(place % 4)
    if corners is None:
        return element("circle", title, cx=f"{x:.1f}", cy=f"{y:.1f}", r=4, class_="dot")
    return element("polygon", title, points=corners, transform=f"translate({x:.1f} {y:.1f})", class_="dot")


def _key(lines: Sequence[Line]) -> Markup:
    def sample(place: int) -> Markup:
        way = element("line", x1=0, x2=30, y1=6, y2=6, **_look(place))
        return element("svg", way, mark(place, 15, 6), viewBox="0 0 30 12", aria_hidden="true")

    entries = [
        element("span", joined(sample(place), element("bdi", line.name)), class_=f"s{place % COLOURS}")
        for place, line in enumerate(lines)
    ]
    return element("figcaption", *entries, class_="key")
