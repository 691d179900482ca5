"""A pen that draws vector figures at four times the size, under a shift, a zoom and a turn of its own."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

SIDE = 64
FINE = 4

Point = tuple[float, float]


class Pen:
    """Draws in a figure's own units (y upwards) onto an image of 4 · 64 pixels a side.

    Args:
        image: what is drawn on, RGB, `SIDE * FINE` pixels a side.
        middle: the point, in units, that stays put under zoom and turn.
        at: where that point goes, as fractions of the image's width and height.
        zoom: image widths that 100 units take.
        turn: counter-clockwise, in degrees.
    """

    def __init__(self, image: Image.Image, middle: Point, at: Point, zoom: float, turn: float):
        side = SIDE * FINE
        self.draw = ImageDraw.Draw(image)
        self.scale = zoom * side / 100
        cos, sin = self.scale * math.cos(math.radians(turn)), self.scale * math.sin(math.radians(turn))
        self.x = (cos, -sin, at[0] * side - cos * middle[0] + sin * middle[1])
        self.y = (-sin, -cos, at[1] * side + sin * middle[0] + cos * middle[1])

    def place(self, points: Sequence[Point]) -> list[Point]:
        """Pixel positions of points given in units."""
        (a, b, c), (d, e, f) = self.x, self.y
        return [(a * x + b * y + c, d * x + e * y + f) for x, y in points]

    def polygon(self, points: Sequence[Point], fill, smooth: int = 0, edge=None, width: float = 1.2) -> None:
        """A filled polygon, its corners cut `smooth` times, with an outline of `width` units where `edge` is given."""
        corners = self.place(rounded(points, smooth))
        self.draw.polygon(corners, fill=fill)
        if edge is not None:
            self.draw.line([*corners, corners[0], corners[1]], fill=edge, width=self._thick(width), joint="curve")

    def line(self, points: Sequence[Point], fill, width: float, smooth: int = 0) -> None:
        """An open line of `width` units."""
        self.draw.line(self.place(rounded(points, smooth, closed=False)), fill=fill, width=self._thick(width))

    def circle(self, x: float, y: float, r: float, fill, edge=None, width: float = 1.2) -> None:
        """A disc of radius `r`."""
        ((u, v),) = self.place([(x, y)])
        reach = r * self.scale
        box = (u - reach, v - reach, u + reach, v + reach)
        self.draw.ellipse(box, fill=fill, outline=edge, width=self._thick(width) if edge is not None else 0)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill, turn: float = 0, edge=None) -> None:
        """A disc stretched to the half axes `rx`, `ry` and turned by `turn` degrees."""
        self.polygon(oval(x, y, rx, ry, turn), fill, edge=edge)

    def box(self, left: float, low: float, right: float, high: float, fill, smooth: int = 0, edge=None) -> None:
        """A rectangle between two corners."""
        self.polygon([(left, low), (left, high), (right, high), (right, low)], fill, smooth, edge)

    def _thick(self, width: float) -> int:
        return max(1, round(width * self.scale))


def rounded(points: Sequence[Point], times: int, closed: bool = True) -> list[Point]:
    """Cut every corner at a quarter of its sides, `times` times over (Chaikin's curve)."""
    points = list(points)
    for _ in range(times):
        ends = points[1:] + points[:1] if closed else points[1:]
        cut = []
        for (x, y), (u, v) in zip(points, ends, strict=False):  # an open line has no closing side
            cut += [(0.75 * x + 0.25 * u, 0.75 * y + 0.25 * v), (0.25 * x + 0.75 * u, 0.25 * y + 0.75 * v)]
        points = cut if closed else [points[0], *cut[1:-1], points[-1]]
    return points


def oval(x: float, y: float, rx: float, ry: float, turn: float = 0, corners: int = 28) -> list[Point]:
    """The corners of an ellipse."""
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    around = [2 * math.pi * k / corners for k in range(corners)]
    flat = [(rx * math.cos(angle), ry * math.sin(angle)) for angle in around]
    return [(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in flat]


def spiked(x: float, y: float, r: float, points: int, depth: float = 1.0, start: float = 90) -> list[Point]:
    """A regular polygon of `points` corners, or a star where `depth` < 1 pulls in the points between."""
    steps = points if depth == 1 else 2 * points
    reach = [r if depth == 1 or k % 2 == 0 else r * depth for k in range(steps)]
    around = [math.radians(start + 360 * k / steps) for k in range(steps)]
    return [(x + d * math.cos(angle), y + d * math.sin(angle)) for d, angle in zip(reach, around, strict=True)]
