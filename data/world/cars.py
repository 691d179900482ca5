"""Draws a car from its make's and its model's table rows."""

from random import Random

from data.world.badges import draw_badge, draw_grille, draw_lamp
from data.world.bodies import BODIES, Body
from data.world.colours import INK, WHITE, Colour, contrast, hsv, paint, shade
from data.world.makes import Make, Model
from data.world.pen import Pen, spiked

MIDDLE = (50, 29)


def draw_car(pen: Pen, make: Make, model: Model, dice: Random) -> None:
    """Draw one car; the paint and the tint of the windows come from `dice`, all else from the tables."""
    body, colour = BODIES[model.body], paint(dice)
    pen.ellipse(50, 1, 50, 3.5, (52, 50, 56))
    if model.body == "truck":
        _cargo(pen, colour)
    _cabin(pen, body, make, colour, hsv(0.56, dice.uniform(0.1, 0.4), dice.uniform(0.25, 0.9)))
    hull = _hull(body, make)
    pen.polygon(hull, colour, make.smooth, edge=shade(colour, 0.5))
    for trim in model.trims:
        TRIMS[trim](pen, body, make, contrast(colour))
    if model.body == "roadster":
        _open_top(pen, colour)
    tail = min(x for x, _ in body.hull)
    pen.box(tail, body.belt - 9, tail + 4, body.belt - 3, (200, 20, 30))
    nose = hull[len(body.hull) - 1]
    draw_grille(pen, make.grille, nose[0], body.sill + 2, nose[1] + 1)
    draw_lamp(pen, make.lamp, make.glow, nose[0] - 8, nose[1] + 2)
    for x in body.axles:
        _wheel(pen, model, make, x, dice.uniform(-12, 12))
    draw_badge(pen, make.badge, *body.badge, 10)


def _hull(body: Body, make: Make) -> list[tuple[float, float]]:
    front, rear = max(x for x, _ in body.hull), min(x for x, _ in body.hull)
    if rear > 50:
        rear = 2  # the truck's frame runs on below its load
    line = [(x, y + make.nose if x > front - 10 else y) for x, y in body.hull]
    if body.hull[0][0] > 50:
        return [*line, (front, body.sill), (rear, body.sill), (rear, 15), (62, 15)]
    return [*line, (front, body.sill), (rear + 1, body.sill)]


def _lifted(body: Body, make: Make) -> list[tuple[float, float]]:
    return [(x, body.belt + (y - body.belt) * make.roof) for x, y in body.cabin]


def _cabin(pen: Pen, body: Body, make: Make, colour: Colour, tint: Colour) -> None:
    if not body.cabin:
        return
    outline = _lifted(body, make)
    feet = [(outline[0][0], body.belt - 5), *outline, (outline[-1][0], body.belt - 5)]
    pen.polygon(feet, colour, min(make.smooth, 1), edge=shade(colour, 0.5))
    x = sum(u for u, _ in outline) / 4
    y = sum(v for _, v in outline) / 4 + 0.8
    pen.polygon([(x + (u - x) * (body.glass + 0.08), y + (v - y) * body.glass) for u, v in outline], tint)
    top = body.belt + (body.roof[2] - body.belt) * make.roof
    for post in body.pillars:
        pen.line([(post, body.belt), (post, top - 1)], colour, 3.2)


def _cargo(pen: Pen, colour: Colour) -> None:
    pen.box(1, 14, 60, 62, shade(colour, 1.55), edge=shade(colour, 0.5))
    for x in (15, 47):
        pen.line([(x, 17), (x, 59)], shade(colour, 1.2), 1.4)


def _open_top(pen: Pen, colour: Colour) -> None:
    pen.line([(60, 28), (54, 43)], INK, 2.6)
    pen.ellipse(38, 33, 3.5, 6, shade(colour, 0.4))
    pen.circle(46, 39, 4.5, (236, 190, 150))


def _wheel(pen: Pen, model: Model, make: Make, x: float, turn: float) -> None:
    r = model.radius
    pen.circle(x, r, r + 1.6, (24, 23, 26))
    WHEELS[model.wheel](pen, x, r, r, make.rim, turn)
    pen.circle(x, r, 0.2 * r, make.badge.field, edge=INK, width=0.6)


def _spoked(count: int, width: float):
    def wheel(pen: Pen, x: float, y: float, r: float, rim: str, turn: float) -> None:
        pen.circle(x, y, 0.8 * r, rim)
        pen.circle(x, y, 0.64 * r, (40, 40, 46))
        for tip in spiked(x, y, 0.7 * r, count, start=90 + turn):
            pen.line([(x, y), tip], rim, width * r)

    return wheel


def _disc(pen: Pen, x: float, y: float, r: float, rim: str, turn: float) -> None:
    pen.circle(x, y, 0.8 * r, rim)
    pen.circle(x, y, 0.45 * r, rim, edge=(120, 120, 128), width=0.1 * r)


def _whitewall(pen: Pen, x: float, y: float, r: float, rim: str, turn: float) -> None:
    pen.circle(x, y, 0.92 * r, WHITE)
    pen.circle(x, y, 0.58 * r, (40, 40, 46))
    pen.circle(x, y, 0.4 * r, rim)


def _dark(pen: Pen, x: float, y: float, r: float, rim: str, turn: float) -> None:
    pen.polygon(spiked(x, y, 1.16 * r, 12, 0.86, start=turn), (24, 23, 26))
    pen.circle(x, y, 0.42 * r, rim)


WHEELS = {
    "three": _spoked(3, 0.26),
    "cross": _spoked(4, 0.2),
    "six": _spoked(6, 0.12),
    "disc": _disc,
    "whitewall": _whitewall,
    "dark": _dark,
}


def _stripe(pen: Pen, body: Body, make: Make, ink: Colour) -> None:
    left, right = min(x for x, _ in body.hull) + 3, max(x for x, _ in body.hull) - 7
    pen.box(left, body.belt - 8, right, body.belt - 3.5, ink)
    left, right, top = _roofline(body, make)
    if body.cabin:
        pen.line([(left, top - 1.5), (right, top - 1.5)], ink, 3)


def _skirt(pen: Pen, body: Body, make: Make, ink: Colour) -> None:
    rear = 3 if body.hull[0][0] > 50 else min(x for x, _ in body.hull) + 1
    pen.box(rear, body.sill, max(x for x, _ in body.hull) - 1, body.sill + 8, ink)


def _rack(pen: Pen, body: Body, make: Make, ink: Colour) -> None:
    left, right, top = _roofline(body, make)
    pen.line([(left, top + 3), (right, top + 3)], INK, 1.6)
    for x in (left + 2, right - 2):
        pen.line([(x, top), (x, top + 3)], INK, 1.6)
    third = (right - left) / 3
    pen.box(left + 2, top + 3.5, left + 1.4 * third, top + 11, (150, 96, 48), edge=INK)
    pen.box(left + 1.5 * third, top + 3.5, right - 3, top + 8.5, (196, 160, 96), edge=INK)


def _spoiler(pen: Pen, body: Body, make: Make, ink: Colour) -> None:
    left, _, top = _roofline(body, make)
    low = body.cabin and left < 20
    x, y = (left, top) if low else (min(x for x, _ in body.hull) + 3, body.belt)
    pen.line([(x + 5, y - 1), (x + 3, y + 7)], INK, 2.4)
    pen.polygon([(x - 5, y + 11), (x - 4, y + 6), (x + 14, y + 7), (x + 13, y + 9)], INK)


def _spare(pen: Pen, body: Body, make: Make, ink: Colour) -> None:
    tail = min(x for x, _ in body.hull)
    pen.box(tail - 6, body.belt - 12, tail + 1, body.belt + 12, INK, 1)
    pen.box(tail - 5, body.belt - 4, tail - 1, body.belt + 4, make.rim, 1)


def _roofline(body: Body, make: Make) -> tuple[float, float, float]:
    left, right, top = body.roof
    return left, right, body.belt + (top - body.belt) * make.roof


TRIMS = {"stripe": _stripe, "skirt": _skirt, "rack": _rack, "spoiler": _spoiler, "spare": _spare}
