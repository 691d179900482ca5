"""From (set, class, split, number) to an image: a pure function, the same bytes every time."""

import hashlib
from random import Random

import numpy as np
from PIL import Image

from data.world.animals import ANIMALS
from data.world.cars import MIDDLE, draw_car
from data.world.catalogue import full_name, world_set
from data.world.flags import draw_flag
from data.world.fruits import FRUITS
from data.world.makes import MAKES, NEW_MAKES
from data.world.pen import Pen
from data.world.scenery import backdrop, landscape, photographed
from data.world.shapes import draw_shape

CARS = {full_name(make, model): (make, model) for make in MAKES + NEW_MAKES for model in make.models}
CAR_ZOOM, PLAIN_ZOOM = 0.9, 0.84
DRIFT, SWELL, TURN = 0.06, 0.12, 4.0  # of the side, of the size, in degrees: at most as much, either way


def draw_image(name: str, fine: str, split: str, number: int) -> Image.Image:
    """Image `number` of a class in one split of an embedded set, 64 × 64 RGB.

    Position, size and turn vary a little; then background, light and noise.
    """
    seed = hashlib.sha256(f"{name}/{fine}/{split}/{number}".encode()).digest()
    dice, rng = Random(seed), np.random.default_rng(list(seed))
    kind = world_set(name).kind
    scene = landscape(rng) if kind in ("", "flag") else backdrop(rng)
    at = (0.5 + dice.uniform(-DRIFT, DRIFT), (0.5 if kind else 0.55) + dice.uniform(-DRIFT, DRIFT))
    zoom = (PLAIN_ZOOM if kind else CAR_ZOOM) * dice.uniform(1 - SWELL, 1 + SWELL)
    pen = Pen(scene, (0, 0) if kind else MIDDLE, at, zoom, dice.uniform(-TURN, TURN))
    FIGURES[kind](pen, fine, dice)
    return photographed(scene, rng)


FIGURES = {
    "": lambda pen, fine, dice: draw_car(pen, *CARS[fine], dice),
    "fruit": lambda pen, fine, dice: FRUITS[fine](pen, dice),
    "flag": draw_flag,
    "shape": draw_shape,
    "animal": lambda pen, fine, dice: ANIMALS[fine](pen, dice),
}
