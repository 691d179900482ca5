"""Reading large JPEG photographs: as drafts beside whole, and from a folder of decoded images beside decoding."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.testing import assert_close

from benchmarks.item import Item
from benchmarks.photographs import Work, draw
from data.decoding import Decoding, PixelFolder

TOWER_SIDE = 224
SIZES = {
    "full": Work("", 16, 4000, 3000),
    "modest": Work("", 4, 4000, 3000),
    "small": Work("", 2, 960, 720),
}


def items(size: str, device: torch.device) -> Iterator[Item]:
    """The same photographs, read in three ways; the files are there as long as it is asked for items."""
    with TemporaryDirectory() as folder:
        yield from _items(SIZES[size], Path(folder))


def _items(work: Work, folder: Path) -> Iterator[Item]:
    photographs = draw(work, folder)
    files = [photographs.file("train", place) for place in range(work.images)]
    drafts, whole = Decoding(jpeg_side=2 * TOWER_SIDE), Decoding()
    kept = Decoding(folder=PixelFolder(folder / "decoded", 4.0))
    text = f"{work.images} photographs of {work.width} × {work.height}"

    def every(decoding: Decoding):
        return lambda: [decoding.read(file) for file in files]

    def close() -> None:
        draft, original = (decoding.read(files[0]).double() for decoding in (drafts, whole))
        (height, width), block = draft.shape[1:], original.shape[1] // draft.shape[1]
        means = original.reshape(3, height, block, width, block).mean((2, 4))
        assert (means - draft).abs().mean() < 1.5  # of 255 levels; colours are stored at half the size

    def equal() -> None:
        for _ in range(2):  # decoded and written, then read
            assert_close(kept.read(files[0]), whole.read(files[0]), rtol=0, atol=0)

    yield Item(f"JPEGs no smaller than {2 * TOWER_SIDE} pixels, beside whole", text, every(drafts), every(whole), close)
    yield Item("a folder of decoded images, beside decoding", text, every(kept), every(whole), equal)
