"""An epoch over photographs that are in memory already, beside one whose batches are ready, and one that decodes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.testing import assert_close

from benchmarks.item import Item, Target
from benchmarks.made import one_epoch
from convs.factory import build_backbone
from data.decoding import PLAIN, Decoding
from data.images import ImageSet, ImageStream
from data.index import IndexedSet, Record
from data.transforms import Transform, train_transform
from utils.loop import Recipe
from utils.streams import TensorStream

CLASSES, SEED, GRAIN = 10, 0, 12


@dataclass(frozen=True)
class Work:
    """What is trained on what.

    Attributes:
        tower: a backbone's name.
        images: how many photographs.
        width, height: of each, in pixels.
        batch: examples of a step.
    """

    tower: str
    images: int
    width: int = 500
    height: int = 375
    batch: int = 32


SIZES = {
    "full": Work("vit_tiny_patch16_224", 2000),
    "modest": Work("vit_tiny_patch16_224", 32, batch=8),
    "small": Work("tiny_vit", 4, 80, 60, 2),
}


def items(size: str, device: torch.device) -> Iterator[Item]:
    """The same epoch three times; what the first takes above the second is waiting for data.

    The files are there as long as it is asked for items.
    """
    with TemporaryDirectory() as folder:
        yield from _items(SIZES[size], Path(folder), device)


def _items(work: Work, folder: Path, device: torch.device) -> Iterator[Item]:
    photographs = draw(folder, work.images, work.width, work.height)
    torch.manual_seed(SEED)
    backbone = build_backbone(work.tower, "random")
    module = nn.Sequential(backbone, nn.Linear(backbone.dim, CLASSES)).to(device)
    look = backbone.preprocess
    transform = train_transform(look.size, look.interpolation)
    kept, bare = (stream(photographs, transform, each) for each in (PLAIN, Decoding(0)))
    ready = as_tensors(kept, work.batch)

    def check() -> None:
        decoded = as_tensors(bare, work.batch).fields
        for name, value in ready.fields.items():
            assert_close(value, decoded[name], rtol=0, atol=0)

    recipe = Recipe(epochs=1, lr=0.01, batch_size=work.batch)
    ours, waitless, anew = (partial(one_epoch, module, each, recipe, device) for each in (kept, ready, bare))
    text = f"{work.tower}, {work.images} photographs of {work.width} × {work.height}, batch {work.batch}"
    name = "epoch 2 of a JPEG set, beside"
    yield Item(f"{name} ready batches", text, ours, waitless, check, Target(faster=0.95))
    yield Item(f"{name} decoding again", text, ours, anew, check)


def draw(folder: Path, count: int, width: int, height: int) -> IndexedSet:
    """Smooth noise as so many JPEG files, in the place of photographs."""
    generator = torch.Generator().manual_seed(SEED)
    records = [Record(f"{number}.jpg", "c", f"f{number % CLASSES}") for number in range(count)]
    for record in records:
        grain = torch.rand(1, 3, height // GRAIN, width // GRAIN, generator=generator)
        pixels = F.interpolate(grain, (height, width), mode="bicubic").clamp(0, 1)[0]
        Image.fromarray((255 * pixels).byte().permute(1, 2, 0).numpy()).save(folder / record.path, quality=90)
    return IndexedSet("photographs", folder, folder, {"train": records})


def stream(photographs: IndexedSet, transform: Transform, decoding: Decoding) -> ImageStream:
    """All photographs, shuffled, as a session streams its training images."""
    count = len(photographs.splits["train"])
    labels = {"fine": torch.arange(count) % CLASSES}
    images = ImageSet(photographs, "train", range(count), labels, decoding)
    return ImageStream(images, range(count), transform, shuffle=True)


def as_tensors(images: ImageStream, size: int) -> TensorStream:
    """The batches of one pass, in memory as the tower takes them."""
    batches = list(images.batches(size, SEED))
    return TensorStream({name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}, shuffle=False)
