"""Sessions of made-up images, so that a benchmark can ask learners for their own steps."""

from collections.abc import Mapping, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.sessions import ClassOrder, Session
from utils.imagenet import imagenet_names
from utils.loop import Phase, Recipe, Stream, fit
from utils.pieces import Batch
from utils.streams import TensorStream


class Images(TensorStream):
    """Images in memory, as streams of a session give them.

    Args:
        images: [N, 3, size, size], or whatever stands for images.
        labels: level → [N].
    """

    def __init__(self, images: Tensor, labels: Mapping[str, Tensor]):
        self.items = torch.arange(len(images))
        super().__init__({"image": images, "item": self.items, **labels}, shuffle=False)

    def labels(self, level: str) -> Tensor:
        """The labels of a level, [N]."""
        return self.fields[level]


def noise(count: int, side: int, seed: int = 0) -> Tensor:
    """Images that show nothing, [count, 3, side, side]."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def order_of(fine: int, coarse: int) -> ClassOrder:
    """So many classes, and parents that take turns; the names are ImageNet's, of one to five words."""
    names = _names()
    return ClassOrder(names[:fine], names[-coarse:], tuple(label % coarse for label in range(fine)))


@cache
def _names() -> tuple[str, ...]:
    return tuple(imagenet_names().values())


def labels_of(count: int, order: ClassOrder, classes: Sequence[int]) -> dict[str, Tensor]:
    """Labels of so many images whose classes take turns."""
    fine = [classes[place % len(classes)] for place in range(count)]
    return {"fine": torch.tensor(fine), "coarse": torch.tensor([order.parents[label] for label in fine])}


def request(order: ClassOrder, classes: Sequence[int], streams: Mapping[str, Images]) -> Session:
    """A request to forget some classes, all being known, at the fine level."""
    seen = tuple(range(len(order.fine)))
    alive = tuple(label for label in seen if label not in classes)
    makers = {name: lambda stream=stream: stream for name, stream in streams.items()}
    return Session(0, "forget", tuple(classes), seen, alive, order, streams=makers)


def one_epoch(module: nn.Module, examples: Stream, recipe: Recipe, device: torch.device) -> None:
    """A pass over labelled images by the loop, with cross-entropy."""

    def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
        batch = batches["train"]
        return {"ce": F.cross_entropy(module(batch["image"]), batch["fine"])}

    carry_out(Phase("bench", module, {"train": examples}, loss, module.parameters(), recipe), device)


def carry_out(phase: Phase, device: torch.device) -> None:
    """The steps of a phase, from where its parameters stand."""
    fit(phase, seed=0, device=device)
