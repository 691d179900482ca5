"""An image file as pixels: eight bits a channel, red, green and blue, the way up that the camera noted."""

import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

# all that Pillow's decoders were seen to raise on damaged files
BROKEN = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, struct.error,
    zlib.error, Image.DecompressionBombError,
)  # fmt: skip


def decode(file: Path | IO[bytes], jpeg_side: int | None = None) -> np.ndarray:
    """The pixels of a file's first picture, [H, W, 3] uint8.

    Sixteen bits of grey keep their upper eight; Pillow's own conversion would cut all above 255 to white. Transparency
    is dropped, the later frames of an animation are not looked at.

    Args:
        file: in a format that Pillow reads.
        jpeg_side: a JPEG is decoded at a half, a quarter or an eighth of its size, the smallest of which no side is
            shorter than so many pixels; None: whole.

    Raises:
        one of `BROKEN`: it is no whole image, has more pixels than Pillow takes for honest, or pixels without a range.
    """
    with Image.open(file) as image:
        if jpeg_side:
            image.draft(None, (jpeg_side, jpeg_side))  # formats other than JPEG pass over it
        return pixels(image)


def pixels(image: Image.Image) -> np.ndarray:
    """The same of a picture that has been opened; what is raised is what `decode` raises."""
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are numbers of mode {image.mode}, without a range; save them with 8 bits")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        grey = (np.array(upright) >> 8).astype(np.uint8)  # [H, W]
        return np.stack([grey] * 3, axis=-1)
    return np.array(upright.convert("RGB"))


def fault(error: Exception) -> str:
    """What is wrong with a file of which `decode` raised an error."""
    if isinstance(error, Image.DecompressionBombError):
        return f"has too many pixels ({error})"
    return f"is truncated or not an image ({error})"
