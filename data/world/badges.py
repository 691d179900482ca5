"""Badges, headlights and grilles: the marks of a make."""

from data.world.colours import INK
from data.world.makes import Badge
from data.world.pen import Pen, Point, oval, spiked

OUTLINES = {
    "shield": ((-0.85, 0.9), (0.85, 0.9), (0.85, -0.1), (0, -1.1), (-0.85, -0.1)),
    "disc": oval(0, 0, 0.98, 0.98),
    "diamond": ((0, 1.2), (1.2, 0), (0, -1.2), (-1.2, 0)),
    "ring": oval(0, 0, 1, 1),
    "square": ((-0.9, 0.9), (0.9, 0.9), (0.9, -0.9), (-0.9, -0.9)),
    "star": spiked(0, 0, 1.3, 5, 0.5),
    "triangle": ((0, 1.15), (1.25, -0.9), (-1.25, -0.9)),
    "hexagon": spiked(0, 0, 1.1, 6, start=0),
    "drop": ((0, 1.3), (0.85, 0), (0.75, -0.75), (0, -1.05), (-0.75, -0.75), (-0.85, 0)),
    "sun": spiked(0, 0, 1.25, 9, 0.66),
    "oval": oval(0, 0, 1.4, 0.8),
    "flag": ((-1.25, 0.75), (1.25, 0.75), (0.85, 0), (1.25, -0.75), (-1.25, -0.75), (-0.85, 0)),
}
EMBLEMS = {
    "bar": (((-0.7, 0.22), (0.7, 0.22), (0.7, -0.22), (-0.7, -0.22)),),
    "cross": (
        ((-0.75, 0.2), (0.75, 0.2), (0.75, -0.2), (-0.75, -0.2)),
        ((-0.2, 0.75), (0.2, 0.75), (0.2, -0.75), (-0.2, -0.75)),
    ),
    "dot": (oval(0, -0.08, 0.45, 0.45, corners=14),),
    "chevron": (((-0.7, -0.5), (0, 0.65), (0.7, -0.5), (0.3, -0.5), (0, 0.05), (-0.3, -0.5)),),
}
LAMPS = {
    "round": oval(0, 0, 4, 4, corners=14),
    "slit": ((-7, 1.4), (4, 1.4), (4, -1.4), (-7, -1.4)),
    "square": ((-4, 3.2), (4, 3.2), (4, -3.2), (-4, -3.2)),
    "slant": ((-7, 3.5), (4, 0), (4, -3), (-2, -1)),
    "tall": ((-1, 5), (3.5, 5), (3.5, -6), (-1, -6)),
}


def draw_badge(pen: Pen, badge: Badge, x: float, y: float, r: float) -> None:
    """A make's badge of radius `r`, on a rim that sets it off from any paint."""
    outline = OUTLINES[badge.outline]
    pen.polygon(_at(outline, x, y, 1.2 * r), "#ffffff")
    pen.polygon(_at(outline, x, y, 1.07 * r), INK)
    pen.polygon(_at(outline, x, y, 0.92 * r), badge.field)
    for part in EMBLEMS[badge.emblem]:
        pen.polygon(_at(part, x, y, r if badge.outline != "star" else 0.8 * r), badge.ink)


def draw_lamp(pen: Pen, shape: str, glow: str, x: float, y: float) -> None:
    """A headlight around (x, y)."""
    pen.polygon(_at(LAMPS[shape], x, y, 1), glow, edge=INK, width=1)


def draw_grille(pen: Pen, pattern: str, nose: float, low: float, high: float) -> None:
    """A grille at the nose, between two heights."""
    left, right = nose - 8, nose + 1
    high = min(high - 4, low + 10)
    pen.box(left, low, right, high, (214, 216, 222) if pattern != "mesh" else INK)
    if pattern == "single":
        pen.box(left, low + 3, right, low + 6, INK)
    if pattern in ("uprights", "mesh"):
        for step in (1, 4, 7):
            pen.line([(left + step, low), (left + step, high)], INK if pattern == "uprights" else (214, 216, 222), 1.3)
    if pattern in ("slats", "mesh"):
        for step in (1.5, 5, 8.5):
            pen.line([(left, low + step), (right, low + step)], INK if pattern == "slats" else (214, 216, 222), 1.3)


def _at(points, x: float, y: float, size: float) -> list[Point]:
    return [(x + size * u, y + size * v) for u, v in points]
