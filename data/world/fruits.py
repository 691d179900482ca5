"""Fruit, drawn around the origin within about ±40 units."""

from math import cos, radians, sin
from random import Random

from data.world.colours import INK, near, shade
from data.world.pen import Pen

LEAF, WOOD = (62, 140, 52), (104, 70, 40)


def apple(pen: Pen, dice: Random) -> None:
    skin = near(dice, dice.choice((0.98, 0.0, 0.27, 0.15)), 0.8, 0.8)
    lobes = [(0, 22), (14, 29), (34, 24), (38, -2), (22, -34), (6, -36), (0, -32)]
    outline = lobes + [(-x, y) for x, y in reversed(lobes[1:-1])]
    pen.polygon(outline, skin, 2, edge=shade(skin, 0.55))
    pen.line([(0, 22), (3, 40)], WOOD, 5)
    pen.polygon([(3, 34), (14, 44), (30, 40), (18, 32)], LEAF, 2)
    pen.ellipse(-18, 8, 5, 10, shade(skin, 1.6), turn=-20)


def banana(pen: Pen, dice: Random) -> None:
    skin = near(dice, dice.choice((0.14, 0.15, 0.2)), 0.8, 0.92)
    outer = [(-40, 26), (-34, -6), (-12, -28), (18, -30), (42, -10)]
    inner = [(38, -2), (16, -10), (-8, -6), (-24, 10), (-30, 30)]
    pen.polygon(outer + inner, skin, 2, edge=shade(skin, 0.55))
    pen.line([(-35, 22), (-24, -4), (0, -19), (34, -10)], shade(skin, 0.75), 3, 2)
    pen.line([(-36, 26), (-39, 40)], WOOD, 7)
    pen.circle(40, -6, 5, WOOD)


def cherry(pen: Pen, dice: Random) -> None:
    skin = near(dice, dice.choice((0.97, 0.0, 0.93)), 0.85, dice.uniform(0.5, 0.85))
    pen.line([(-20, -14), (-10, 18), (12, 40)], LEAF, 4, 2)
    pen.line([(22, -18), (20, 14), (12, 40)], LEAF, 4, 2)
    pen.polygon([(12, 40), (-8, 44), (-28, 34), (-8, 28)], LEAF, 2, edge=shade(LEAF, 0.6))
    for x, y in ((-20, -20), (22, -24)):
        pen.circle(x, y, 17, skin, edge=shade(skin, 0.5))
        pen.circle(x - 6, y + 6, 4, shade(skin, 1.6))


def grape(pen: Pen, dice: Random) -> None:
    skin = near(dice, dice.choice((0.78, 0.75, 0.22, 0.63)), 0.6, 0.7)
    pen.line([(0, 24), (4, 44)], WOOD, 5)
    pen.polygon([(2, 30), (16, 44), (34, 36), (22, 24)], LEAF, 2)
    for row, count in enumerate((4, 3, 4, 3, 2, 1)):
        for k in range(count):
            x, y = 16 * (k - (count - 1) / 2), 22 - 12 * row
            pen.circle(x, y, 9.5, skin, edge=shade(skin, 0.5))
            pen.circle(x - 3, y + 3, 2.5, shade(skin, 1.6))


def lemon(pen: Pen, dice: Random) -> None:
    skin = near(dice, dice.choice((0.15, 0.16, 0.24)), 0.8, 0.93)
    half = [(-44, 0), (-34, 8), (-20, 27), (14, 28), (30, 12), (42, 6)]
    pen.polygon(half + [(x, -y) for x, y in reversed(half)], skin, 2, edge=shade(skin, 0.6))
    pen.ellipse(-8, 13, 12, 4, shade(skin, 1.5), turn=10)
    for x, y in ((6, -8), (16, 4), (-14, -10), (2, 4)):
        pen.circle(x, y, 1.6, shade(skin, 0.75))


def orange(pen: Pen, dice: Random) -> None:
    """A cut orange: the segments tell it from every other round thing."""
    skin = near(dice, dice.choice((0.07, 0.09, 0.04)), 0.9, 0.95)
    pen.circle(0, 0, 37, skin, edge=shade(skin, 0.6))
    pen.circle(0, 0, 31, (255, 240, 214))
    pen.circle(0, 0, 28, shade(skin, 1.15))
    turn = dice.uniform(0, 45)
    for k in range(4):
        tip = _rim(31, turn + 45 * k)
        pen.line([tip, (-tip[0], -tip[1])], (255, 240, 214), 3.5)


def pear(pen: Pen, dice: Random) -> None:
    skin = near(dice, dice.choice((0.2, 0.24, 0.15, 0.06)), 0.65, 0.8)
    half = [(0, 30), (11, 28), (13, 10), (30, -12), (28, -36), (8, -42), (0, -40)]
    pen.polygon(half + [(-x, y) for x, y in reversed(half[1:-1])], skin, 2, edge=shade(skin, 0.55))
    pen.line([(0, 27), (-4, 44)], WOOD, 5)
    pen.polygon([(-3, 36), (-16, 46), (-28, 38), (-14, 32)], LEAF, 2)
    pen.ellipse(-12, -18, 5, 10, shade(skin, 1.6), turn=-10)


def strawberry(pen: Pen, dice: Random) -> None:
    skin = near(dice, dice.choice((0.98, 0.0, 0.95)), 0.85, 0.88)
    half = [(0, 24), (20, 26), (36, 16), (30, -8), (10, -38), (0, -44)]
    pen.polygon(half + [(-x, y) for x, y in reversed(half[1:-1])], skin, 2, edge=shade(skin, 0.55))
    for row, count in enumerate((4, 3, 2, 1)):
        for k in range(count):
            pen.ellipse(14 * (k - (count - 1) / 2), 8 - 12 * row, 2, 3.4, (255, 226, 120))
    for x in (-30, -15, 0, 15, 30):
        pen.polygon([(x - 6, 28), (x + 6, 28), (1.15 * x, 13)], LEAF)
    pen.line([(0, 26), (4, 42)], LEAF, 5)


def watermelon(pen: Pen, dice: Random) -> None:
    flesh = near(dice, dice.choice((0.98, 0.0, 0.14)), 0.7, 0.92)
    for reach, colour in ((44, (36, 110, 48)), (39, (214, 236, 178)), (35, flesh)):
        pen.polygon([_rim(reach, angle, 18) for angle in range(180, 361, 12)], colour)
    for angle, reach in ((205, 24), (235, 27), (270, 27), (305, 27), (335, 24), (240, 13), (300, 13)):
        x, y = _rim(reach, angle, 18)
        pen.ellipse(x, y, 2, 3.4, INK, turn=angle - 90)


def _rim(reach: float, angle: float, y: float = 0) -> tuple[float, float]:
    """The point at an angle, in degrees, of a circle around (0, y)."""
    return reach * cos(radians(angle)), y + reach * sin(radians(angle))


FRUITS = {
    draw.__name__: draw for draw in (apple, banana, cherry, grape, lemon, orange, pear, strawberry, watermelon)
}  # fmt: skip
