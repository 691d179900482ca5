"""The training loop beside a bare PyTorch loop over the same batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from benchmarks.item import Item, Target
from benchmarks.made import noise, one_epoch
from convs.factory import build_backbone
from utils.loop import Recipe
from utils.streams import TensorStream

CLASSES, LR, MOMENTUM = 10, 0.01, 0.9


@dataclass(frozen=True)
class Work:
    """What is trained.

    Attributes:
        tower: a backbone's name.
        batch: examples of a step.
        steps: of a run.
    """

    tower: str
    batch: int
    steps: int


VIT = {
    "full": Work("vit_tiny_patch16_224", 32, 2),
    "modest": Work("vit_tiny_patch16_224", 8, 4),
    "small": Work("tiny_vit", 2, 2),
}
EMPTY = {"full": 500, "modest": 500, "small": 3}  # steps


def items(size: str, device: torch.device) -> Iterator[Item]:
    """A small ViT; and a model that computes next to nothing, whose steps are the loop's own time."""
    work = VIT[size]
    text = f"{work.tower}, batch {work.batch}, {work.steps} steps"
    yield _item("the loop itself", text, partial(vit, work), device, Target(faster=1 / 1.03))
    steps = EMPTY[size]
    yield _item("the loop alone", f"a linear layer, {steps} steps", partial(linear, steps), device, Target())


Made = Callable[[torch.device], tuple[nn.Module, Tensor, Tensor, int]]  # module, inputs, labels, batch size


def vit(work: Work, device: torch.device) -> tuple[nn.Module, Tensor, Tensor, int]:
    """A tower and a linear head on noise."""
    torch.manual_seed(0)
    backbone = build_backbone(work.tower, "random")
    module = nn.Sequential(backbone, nn.Linear(backbone.dim, CLASSES)).to(device)
    images = noise(work.batch * work.steps, backbone.preprocess.size)
    return module, images, torch.arange(len(images)) % CLASSES, work.batch


def linear(steps: int, device: torch.device) -> tuple[nn.Module, Tensor, Tensor, int]:
    """One layer on one example a step."""
    torch.manual_seed(0)
    return nn.Linear(4, CLASSES).to(device), torch.randn(steps, 4), torch.arange(steps) % CLASSES, 1


def _item(name: str, size: str, made: Made, device: torch.device, target: Target) -> Item:
    ours, theirs = made(device), made(device)
    run, bare = (partial(each, device=device) for each in (by_fit, by_hand))
    return Item(name, size, lambda: run(*ours), lambda: bare(*theirs), partial(check, made, device), target)


def by_fit(module: nn.Module, inputs: Tensor, labels: Tensor, size: int, device: torch.device) -> None:
    """One epoch of the loop."""
    stream = TensorStream({"image": inputs, "fine": labels}, shuffle=False)
    one_epoch(module, stream, Recipe(epochs=1, lr=LR, momentum=MOMENTUM, batch_size=size), device)


def by_hand(module: nn.Module, inputs: Tensor, labels: Tensor, size: int, device: torch.device) -> None:
    """The least that trains the same."""
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=LR, momentum=MOMENTUM)
    for some, true in zip(inputs.split(size), labels.split(size), strict=True):
        optimizer.zero_grad()
        F.cross_entropy(module(some.to(device)), true.to(device)).backward()
        optimizer.step()


def check(made: Made, device: torch.device) -> None:
    """Both leave the same weights."""
    sides = [made(device) for _ in range(2)]
    for train, side in zip((by_fit, by_hand), sides, strict=True):
        train(*side, device=device)
    for ours, theirs in zip(*(side[0].parameters() for side in sides), strict=True):
        assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
