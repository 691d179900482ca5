"""Colours drawn by lot."""

import colorsys
from random import Random

Colour = tuple[int, int, int]

INK = (30, 28, 34)
WHITE = (246, 244, 238)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour from hue, saturation and value, each in [0, 1] (hue wraps round)."""
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def paint(dice: Random) -> Colour:
    """Any colour a car may have: mostly bright, one in five a grey."""
    if dice.random() < 0.2:
        return hsv(dice.random(), 0.08 * dice.random(), dice.uniform(0.2, 0.95))
    return hsv(dice.random(), dice.uniform(0.45, 0.95), dice.uniform(0.4, 0.95))


def near(dice: Random, hue: float, saturation: float, value: float, spread: float = 0.025) -> Colour:
    """A colour close to the one named."""
    return hsv(
        hue + dice.uniform(-spread, spread),
        min(1, max(0, saturation + dice.uniform(-0.1, 0.1))),
        min(1, max(0, value + dice.uniform(-0.1, 0.1))),
    )


def shade(colour: Colour, factor: float) -> Colour:
    """Darker for a factor below 1, lighter (towards white) above it."""
    if factor <= 1:
        return tuple(round(part * factor) for part in colour)
    return tuple(round(255 - (255 - part) * (2 - factor)) for part in colour)


def contrast(colour: Colour) -> Colour:
    """White on dark colours, near black on light ones."""
    light = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
    return INK if light > 140 else WHITE
