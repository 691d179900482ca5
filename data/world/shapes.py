"""Plain shapes of any colour."""

from random import Random

from data.world.colours import hsv, shade
from data.world.pen import Pen, oval, spiked

HALF_HEART = [(0, 18), (8, 34), (30, 38), (42, 20), (34, -4), (8, -30), (0, -44), (0, -44)]
SHAPES = {
    "circle": oval(0, 0, 36, 36),
    "square": [(-32, -32), (-32, 32), (32, 32), (32, -32)],
    "triangle": [(0, 38), (42, -32), (-42, -32)],
    "star": spiked(0, -2, 44, 5, 0.4),
    "heart": HALF_HEART + [(-x, y) for x, y in reversed(HALF_HEART[1:-2])],
    "cross": [(12, 40), (12, 12), (40, 12), (40, -12), (12, -12), (12, -40),
              (-12, -40), (-12, -12), (-40, -12), (-40, 12), (-12, 12), (-12, 40)],
    "hexagon": spiked(0, 0, 40, 6, start=0),
    "ring": oval(0, 0, 38, 38),
    "crescent": oval(0, 0, 38, 38)[5:24] + [(x + 15, y) for x, y in reversed(oval(0, 0, 27, 27)[4:25])],
}  # fmt: skip


def draw_shape(pen: Pen, name: str, dice: Random) -> None:
    """One shape with a shadow; its colour is any, its outline darker."""
    colour = hsv(dice.random(), dice.uniform(0.5, 1), dice.uniform(0.7, 1))
    smooth = 2 if name == "heart" else 0
    corners = SHAPES[name]
    if name == "ring":
        pen.circle(1.5, -1.5, 38, None, edge=(40, 40, 44), width=17)
        pen.circle(0, 0, 38, None, edge=shade(colour, 0.2), width=18)
        pen.circle(0, 0, 34, None, edge=colour, width=10)
        return
    pen.polygon([(x + 3, y - 3) for x, y in corners], (40, 40, 44), smooth)
    pen.polygon(corners, colour, smooth, edge=shade(colour, 0.2), width=5)
