"""Flags of invented countries on a pole; the pattern and its colours are the class."""

from dataclasses import dataclass
from random import Random

from data.world.colours import shade
from data.world.pen import Pen, spiked

LEFT, RIGHT, LOW, HIGH = -34, 42, -14, 38
PLAIN = (60, 60, 60)


@dataclass(frozen=True)
class Patch:
    """A polygon of the cloth: corners in fractions of its width and height, and a colour."""

    corners: tuple[tuple[float, float], ...]
    colour: str


def band(left: float, low: float, right: float, high: float, colour: str) -> Patch:
    """An upright rectangle."""
    return Patch(((left, low), (left, high), (right, high), (right, low)), colour)


def star(x: float, y: float, size: float, colour: str, points: int = 5) -> Patch:
    """A star (or a disc, from 20 points up)."""
    corners = spiked(0, 0, size, points, 0.42 if points < 20 else 1)
    return Patch(tuple((x + u * 0.68, y + v) for u, v in corners), colour)


RED, BLUE, GREEN, GOLD, WHITE = "#cf2030", "#1b3f9c", "#14804a", "#f7c325", "#f8f8f4"
BLACK, SKY, PURPLE, TEAL = "#1a1a1c", "#5cb8ea", "#6a2c91", "#0f8f8a"
FLAGS = {
    "Norland": (band(0, 0, 1, 1, PURPLE), band(0.26, 0, 0.46, 1, WHITE), band(0, 0.38, 1, 0.62, WHITE)),
    "Karvia": (band(0, 0.66, 1, 1, SKY), band(0, 0.33, 1, 0.67, BLACK), band(0, 0, 1, 0.34, GOLD)),
    "Bellmar": (band(0, 0, 0.34, 1, PURPLE), band(0.33, 0, 0.67, 1, GOLD), band(0.66, 0, 1, 1, GREEN)),
    "Isolde": (band(0, 0, 1, 1, GOLD), star(0.5, 0.5, 0.34, BLACK, 28)),
    "Tarsis": (
        band(0, 0, 1, 1, SKY),
        Patch(((0, 0), (0.12, 0), (1, 0.84), (1, 1), (0.88, 1), (0, 0.16)), PURPLE),
        Patch(((0, 1), (0, 0.84), (0.88, 0), (1, 0), (1, 0.16), (0.12, 1)), PURPLE),
    ),
    "Ruvania": (band(0, 0.5, 1, 1, GOLD), band(0, 0, 1, 0.5, GREEN), Patch(((0, 0), (0.5, 0.5), (0, 1)), BLUE)),
    "Sundara": (band(0, 0, 1, 1, TEAL), star(0.5, 0.5, 0.44, GOLD)),
    "Oldwick": (
        band(0, 0, 0.5, 0.5, BLUE),
        band(0.5, 0.5, 1, 1, BLUE),
        band(0, 0.5, 0.5, 1, GOLD),
        band(0.5, 0, 1, 0.5, GOLD),
    ),
    "Montero": (
        Patch(((0, 0), (0, 1), (1, 1)), RED),
        Patch(((0, 0), (1, 0), (1, 1)), BLACK),
        Patch(((0, 0), (0, 0.16), (0.84, 1), (1, 1), (1, 0.84), (0.16, 0)), WHITE),
    ),
}


def draw_flag(pen: Pen, name: str, dice: Random) -> None:
    """The flag of a country, hanging a little askew from its pole."""
    pole = shade((200, 170, 120), dice.uniform(0.4, 1.4))
    droop, bulge = dice.uniform(-7, 7), dice.uniform(-5, 5)

    def hung(x: float, y: float) -> tuple[float, float]:
        return LEFT + (RIGHT - LEFT) * x, LOW + (HIGH - LOW) * y - droop * x + bulge * 4 * x * (1 - x)

    pen.line([(LEFT - 3, HIGH + 6), (LEFT - 3, -48)], pole, 5)
    pen.circle(LEFT - 3, HIGH + 7, 5, pole)
    fade = dice.uniform(0, 0.15)
    for patch in FLAGS[name]:
        pen.polygon([hung(x, y) for x, y in _dense(patch.corners)], _faded(patch.colour, fade))
    pen.polygon([hung(x, y) for x, y in _dense(((0, 0), (0, 1), (1, 1), (1, 0)))], None, edge=PLAIN, width=1.4)


def _dense(corners: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    """Corners with points between, so that a long side may bulge; a star has only short ones."""
    if len(corners) > 8:
        return list(corners)
    sides = zip(corners, corners[1:] + corners[:1], strict=True)
    return [(x + (u - x) * k / 6, y + (v - y) * k / 6) for (x, y), (u, v) in sides for k in range(6)]


def _faded(colour: str, amount: float) -> tuple[int, ...]:
    parts = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return tuple(round(part + (170 - part) * amount) for part in parts)
