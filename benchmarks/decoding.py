"""Reading large JPEG photographs: as drafts beside whole, and from a folder of decoded images beside decoding."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.testing import assert_close

from benchmarks.item import Item
from benchmarks.photographs import draw
from data.decoding import Decoding, PixelFolder

SIDE = 448  # pixels
SIZES = {"full": (16, 4000, 3000), "modest": (4, 4000, 3000), "small": (2, 1280, 960)}  # how many, width, height


def items(size: str, device: torch.device) -> Iterator[Item]:
    """The same photographs, read in three ways; the files are there as long as it is asked for items."""
    with TemporaryDirectory() as folder:
        yield from _items(*SIZES[size], Path(folder))


def _items(count: int, width: int, height: int, folder: Path) -> Iterator[Item]:
    photographs = draw(folder, count, width, height)
    files = [photographs.file("train", place) for place in range(count)]
    drafts, whole = Decoding(jpeg_side=SIDE), Decoding()
    kept = Decoding(folder=PixelFolder(folder / "decoded", 4.0))
    text = f"{count} photographs of {width} × {height}"

    def every(decoding: Decoding):
        return lambda: [decoding.read(file) for file in files]

    def close() -> None:
        draft, original = (decoding.read(files[0]).double() for decoding in (drafts, whole))
        (high, wide), block = draft.shape[1:], height // draft.shape[1]
        assert block > 1
        means = original.reshape(3, high, block, wide, block).mean((2, 4))
        assert (means - draft).abs().mean() < 1.5  # of 255 levels; colours are stored at half the size

    def equal() -> None:
        for _ in range(2):  # decoded and written, then read
            assert_close(kept.read(files[0]), whole.read(files[0]), rtol=0, atol=0)

    yield Item(f"JPEGs no smaller than {SIDE} pixels, beside whole", text, every(drafts), every(whole), close)
    yield Item("a folder of decoded images, beside decoding", text, every(kept), every(whole), equal)
