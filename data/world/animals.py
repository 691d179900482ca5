"""Animals: faces and small figures around the origin, fur of any likely colour."""

from random import Random

from data.world.colours import INK, WHITE, Colour, hsv, near, shade
from data.world.pen import Pen, oval

Points = list[tuple[float, float]]


def cat(pen: Pen, dice: Random) -> None:
    fur = _fur(dice)
    for side in (-1, 1):
        pen.polygon([(side * 34, 4), (side * 32, 42), (side * 6, 26)], fur, edge=shade(fur, 0.5))
        pen.polygon([(side * 28, 18), (side * 27, 33), (side * 14, 25)], (240, 160, 170))
    pen.ellipse(0, -4, 37, 31, fur, edge=shade(fur, 0.5))
    _eyes(pen, 15, 4, 6, (150, 200, 80))
    pen.polygon([(-5, -10), (5, -10), (0, -16)], (230, 110, 130))
    for side in (-1, 1):
        for tilt in (-4, 3):
            pen.line([(side * 12, -15), (side * 44, -14 + 2 * tilt)], WHITE, 2)


def rabbit(pen: Pen, dice: Random) -> None:
    fur = _fur(dice)
    for side in (-1, 1):
        pen.ellipse(side * 13, 25, 9, 25, fur, turn=-6 * side, edge=shade(fur, 0.5))
        pen.ellipse(side * 13, 25, 4.5, 18, (246, 170, 180), turn=-6 * side)
    pen.ellipse(0, -20, 29, 25, fur, edge=shade(fur, 0.5))
    _eyes(pen, 12, -14, 5, (90, 40, 50))
    pen.circle(0, -23, 4, (230, 110, 130))
    pen.box(-6, -39, 6, -29, WHITE, edge=INK)


def pig(pen: Pen, dice: Random) -> None:
    skin = near(dice, dice.choice((0.96, 0.99, 0.05)), 0.35, 0.92)
    for side in (-1, 1):
        pen.polygon([(side * 34, 38), (side * 38, 14), (side * 10, 26)], shade(skin, 0.85), edge=shade(skin, 0.5))
    pen.ellipse(0, -4, 39, 34, skin, edge=shade(skin, 0.5))
    _eyes(pen, 19, 9, 5, INK)
    pen.ellipse(0, -12, 19, 13, shade(skin, 0.78), edge=shade(skin, 0.5))
    for side in (-1, 1):
        pen.ellipse(side * 7, -12, 3.5, 6, shade(skin, 0.35))


def owl(pen: Pen, dice: Random) -> None:
    fur = _fur(dice)
    pen.polygon([(-32, 42), (-34, -20), (-18, -44), (18, -44), (34, -20), (32, 42), (10, 32), (-10, 32)], fur, 1,
                edge=shade(fur, 0.5))  # fmt: skip
    pen.ellipse(0, -24, 18, 17, shade(fur, 1.5))
    for side in (-1, 1):
        pen.circle(side * 14, 14, 14, WHITE, edge=INK)
        pen.circle(side * 13, 14, 7, INK)
    pen.polygon([(-6, 6), (6, 6), (0, -8)], (242, 160, 40))


def frog(pen: Pen, dice: Random) -> None:
    skin = near(dice, dice.choice((0.3, 0.35, 0.25, 0.45)), 0.7, 0.7)
    for side in (-1, 1):
        pen.circle(side * 21, 22, 14, skin, edge=shade(skin, 0.5))
    pen.ellipse(0, -8, 42, 28, skin, edge=shade(skin, 0.5))
    for side in (-1, 1):
        pen.circle(side * 21, 23, 9, WHITE)
        pen.circle(side * 21, 23, 5, INK)
    pen.line([(-30, -8), (-14, -20), (14, -20), (30, -8)], shade(skin, 0.3), 3.5, 2)


def elephant(pen: Pen, dice: Random) -> None:
    skin = near(dice, dice.choice((0.6, 0.65, 0.05, 0.9)), 0.15, dice.uniform(0.5, 0.75), 0.05)
    for side in (-1, 1):
        pen.ellipse(side * 31, 9, 17, 25, shade(skin, 0.85), edge=shade(skin, 0.5))
    pen.ellipse(0, 10, 24, 28, skin, edge=shade(skin, 0.5))
    for side in (-1, 1):
        pen.polygon([(side * 12, -12), (side * 20, -12), (side * 22, -32)], WHITE, edge=INK)
    pen.polygon([(-11, 4), (11, 4), (8, -38), (20, -44), (16, -50), (-4, -46)], skin, 1, edge=shade(skin, 0.5))
    _eyes(pen, 12, 16, 4, INK)


def fish(pen: Pen, dice: Random) -> None:
    scale = hsv(dice.random(), dice.uniform(0.5, 0.95), dice.uniform(0.6, 0.95))
    fin = shade(scale, 0.7)
    pen.polygon([(-18, 0), (-46, 26), (-38, 0), (-46, -26)], fin, edge=shade(scale, 0.4))
    pen.polygon([(-10, 18), (4, 38), (16, 18)], fin, edge=shade(scale, 0.4))
    pen.ellipse(8, 0, 34, 22, scale, edge=shade(scale, 0.4))
    for x in (-8, 4):
        pen.line([(x, 17), (x + 5, 0), (x, -17)], shade(scale, 1.6), 3.5, 2)
    pen.circle(26, 5, 6, WHITE)
    pen.circle(27, 5, 3, INK)


def duck(pen: Pen, dice: Random) -> None:
    feather = near(dice, dice.choice((0.14, 0.15, 0.1)), dice.choice((0.8, 0.1)), 0.93)
    pen.polygon([(-42, 8), (-30, -32), (24, -34), (36, -8), (16, 0), (-20, -4)], feather, 2, edge=shade(feather, 0.5))
    pen.circle(18, 18, 19, feather, edge=shade(feather, 0.5))
    pen.polygon([(34, 22), (48, 14), (34, 8)], (240, 120, 20), edge=INK)
    pen.polygon([(-20, -8), (14, -10), (-4, -26)], shade(feather, 0.8), 1)
    pen.circle(23, 23, 3.5, INK)


def turtle(pen: Pen, dice: Random) -> None:
    skin = near(dice, dice.choice((0.25, 0.3, 0.15)), 0.5, 0.75)
    shell = near(dice, dice.choice((0.08, 0.35, 0.05, 0.55)), 0.6, 0.5)
    for x in (-22, 18):
        pen.box(x - 7, -34, x + 7, -12, skin, 1, edge=shade(skin, 0.5))
    pen.ellipse(38, -6, 11, 10, skin, edge=shade(skin, 0.5))
    pen.circle(41, -3, 2.4, INK)
    dome: Points = [point for point in oval(-2, -18, 34, 44) if point[1] >= -18.1]
    pen.polygon(dome, shell, edge=shade(shell, 0.5))
    for x, y in ((-16, -6), (12, -6), (-2, 10)):
        pen.circle(x, y, 7, shade(shell, 1.45))


def _fur(dice: Random) -> Colour:
    if dice.random() < 0.4:
        return hsv(0.08, 0.1, dice.uniform(0.35, 0.9))
    return near(dice, dice.choice((0.05, 0.08, 0.1)), 0.55, dice.uniform(0.45, 0.9))


def _eyes(pen: Pen, apart: float, y: float, r: float, iris: Colour) -> None:
    for side in (-1, 1):
        pen.circle(side * apart, y, r, iris, edge=INK)
        pen.circle(side * apart, y, 0.5 * r, INK)


ANIMALS = {draw.__name__: draw for draw in (cat, rabbit, pig, owl, frog, elephant, fish, duck, turtle)}
