"""Backgrounds, light and noise: what varies from image to image and says nothing about the class."""

import numpy as np
from PIL import Image

from data.world.pen import FINE, SIDE

ROWS = np.linspace(0, 1, SIDE, dtype=np.float32)


def landscape(rng: np.random.Generator) -> Image.Image:
    """Sky, hills and a road, each of random colours; RGB, `SIDE * FINE` pixels a side."""
    scene = gradient(rng, low=120, high=250)
    for base in (0.45, 0.58):
        ridge = base + rng.uniform(-0.08, 0.08) + rng.uniform(0.02, 0.09) * wave(rng)
        scene = np.where((ridge < ROWS[:, None])[..., None], rng.uniform(60, 200, 3), scene)
    ground = rng.uniform(0.66, 0.8)
    scene[int(SIDE * ground) + 1 :] = rng.uniform(70, 150) + rng.uniform(-18, 18, 3)
    if rng.random() < 0.5:
        scene[int(SIDE * ground) + 1] = rng.uniform(180, 240)
    return enlarged(scene + cloud(rng, rng.uniform(4, 16)))


def backdrop(rng: np.random.Generator) -> Image.Image:
    """A cloth: a gradient with blotches and, half the time, faint bands."""
    scene = gradient(rng, low=70, high=245)
    if rng.random() < 0.5:
        band = np.sin(2 * np.pi * (rng.uniform(1, 6) * ROWS[:, None] + rng.uniform(-5, 5) * ROWS[None] + rng.random()))
        scene = scene + rng.uniform(4, 18) * band[..., None]
    return enlarged(scene + cloud(rng, rng.uniform(4, 20)))


def gradient(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """From one random colour at the top to another at the bottom, [SIDE, SIDE, 3]."""
    top, bottom = rng.uniform(low, high, (2, 3)).astype(np.float32)
    return np.broadcast_to((top + ROWS[:, None] * (bottom - top))[:, None], (SIDE, SIDE, 3)).copy()


def wave(rng: np.random.Generator) -> np.ndarray:
    """A smooth line across the image within about ±1.5, [SIDE]."""
    return sum(np.sin(2 * np.pi * (turns * ROWS + rng.random())) / turns for turns in (1, 2, 3))


def cloud(rng: np.random.Generator, strength: float) -> np.ndarray:
    """Smooth blotches of the given strength in grey levels, [SIDE, SIDE, 1]."""
    coarse = Image.fromarray(rng.normal(0, strength, (8, 8)).astype(np.float32))
    return np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR))[..., None]


def enlarged(scene: np.ndarray) -> Image.Image:
    """An [SIDE, SIDE, 3] array as an image to draw on."""
    small = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))
    return small.resize((SIDE * FINE, SIDE * FINE), Image.Resampling.NEAREST)


def photographed(drawing: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The drawing at its final size, with random brightness and contrast and Gaussian noise."""
    pixels = np.asarray(drawing.reduce(FINE), dtype=np.float32)
    mean = pixels.mean()
    pixels = rng.uniform(0.85, 1.15) * (pixels - mean) + mean * rng.uniform(0.82, 1.15)
    pixels = pixels + rng.uniform(2, 7) * rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
