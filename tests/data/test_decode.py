"""Images of every kind: taken as they are meant, or named with their line."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.check import check_set
from data.images import ImageSet
from data.index import read_set
from utils.errors import DataError


@pytest.fixture
def one(draw_set, tmp_path):
    """A function that decodes an image written by another one, as the first of a set."""
    indexed = draw_set(tmp_path, (("c", "f"),))

    def decode(write) -> np.ndarray:
        write(indexed.file("train", 0))
        return ImageSet(indexed, "train", [0], {"fine": torch.zeros(1)}).image(0).permute(1, 2, 0).numpy()

    return decode


RED, BLUE = (254, 0, 0), (0, 0, 254)
HALVES = np.array([[RED] * 16] * 8 + [[BLUE] * 16] * 8, dtype=np.uint8)  # red above, [16, 16, 3]


def near(pixels: np.ndarray, expected: np.ndarray) -> bool:
    """Up to what JPEG loses away from the edge between the halves."""
    return pixels.shape == expected.shape and np.abs(pixels.astype(int) - expected).mean() < 12


def test_cmyk_becomes_rgb(one):
    assert near(one(lambda file: Image.fromarray(HALVES).convert("CMYK").save(file, "JPEG")), HALVES)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_upper_eight(one, form):
    grey = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    found = one(lambda file: Image.fromarray(grey).save(file, form))
    assert np.array_equal(found, np.stack([np.arange(256).reshape(16, 16)] * 3, -1))


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(one, form):
    later = [Image.new("RGB", (16, 16), BLUE)] * 2
    found = one(lambda file: Image.new("RGB", (16, 16), RED).save(file, form, save_all=True, append_images=later))
    assert np.abs(found.astype(int) - RED).max() <= 2


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(1, HALVES), (3, HALVES[::-1]), (6, np.rot90(HALVES, -1)), (8, np.rot90(HALVES))],
)
def test_a_photograph_stands_upright(one, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert near(one(lambda file: Image.fromarray(HALVES).save(file, "JPEG", exif=exif, quality=95)), turned)


def test_a_palette_with_transparency_becomes_rgb(one):
    palette = Image.fromarray(HALVES).quantize(4)
    assert near(one(lambda file: palette.save(file, "PNG", transparency=bytes([0, 255]))), HALVES)


def bomb(file: Path) -> None:
    """A png of a few bytes that says it is 60000 pixels wide and high."""
    Image.new("L", (1, 1)).save(file, "PNG")
    content = bytearray(file.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    file.write_bytes(content)


def floats(file: Path) -> None:
    Image.fromarray(np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)).save(file, "TIFF")


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (bomb, "has too many pixels"),
        (floats, "its pixels are numbers of mode F, without a range"),
        (lambda file: file.write_bytes(b""), "is truncated or not an image"),
        (lambda file: file.write_bytes(file.read_bytes()[:-300]), "is truncated or not an image"),
    ],
    ids=["bomb", "floats", "empty", "truncated"],
)
def test_an_image_that_cannot_be_taken_is_named_with_its_line(one, tmp_path, write, says):
    with pytest.raises(DataError, match=says) as caught:
        one(write)
    line = f"{tmp_path / 'index' / 'train.jsonl'}:1"
    assert str(caught.value).startswith(f"{line}: ") and "\n" not in str(caught.value)
    found = check_set(read_set("pets", tmp_path / "index"))  # `prepare` says so before any run
    assert [(problem.kind, problem.place) for problem in found.unusable] == [("damaged", line)]
