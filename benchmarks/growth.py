"""How time and memory grow with classes, images and sessions, on features that are there already.

python benchmarks/growth.py [--device cpu|cuda|auto] [--small]
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its profiler speaks of GPUs that are not there

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.made import Images, carry_out, labels_of, order_of
from benchmarks.measure import Call, peak_extra, seconds
from convs.backbone import Backbone, Preprocess
from convs.model import Model
from data.sessions import Session
from models.adapter import AdapterLearner
from utils.devices import choose_device
from utils.gaussians import class_statistics, draw, median_spread, shifted_means
from utils.loop import Recipe

REPEATS = 3
COLUMNS = ("what", "against", "from … to", "ms", "time ^", "peak extra MB", "memory ^", "stored MB", "stored ^")


@dataclass(frozen=True)
class Sizes:
    """At which sizes is measured; what is not varied is fixed."""

    classes: tuple[int, ...] = (10, 30, 100, 300, 1000)
    images: tuple[int, ...] = (1_000, 3_000, 10_000, 30_000, 100_000)
    sessions: tuple[int, ...] = (2, 5, 10, 20, 35, 50)  # the first one draws nothing
    width: int = 128
    fixed_classes: int = 50
    fixed_images: int = 2_000
    drawn: int = 64  # features of a class, an epoch
    per_session: int = 4  # classes


SIZES = {"full": Sizes(), "small": Sizes((2, 4), (20, 40), (2, 3), 8, 3, 12, 2, 2)}


@dataclass(frozen=True)
class Point:
    """What was measured at one size: seconds, the most extra bytes, bytes that stay (None: nothing does)."""

    size: int
    seconds: float
    peak: int
    stored: int | None = None


@dataclass(frozen=True)
class Series:
    """The points of one cost, the sizes ascending."""

    what: str
    against: str
    points: Sequence[Point]

    def cells(self) -> list[str]:
        """The texts of a row."""
        sizes = [point.size for point in self.points]
        times = [1e3 * point.seconds for point in self.points]
        peaks = [point.peak / 2**20 for point in self.points]
        stored = [point.stored / 2**20 for point in self.points if point.stored is not None]
        cells = [self.what, self.against, f"{sizes[0]:,} … {sizes[-1]:,}"]
        for values in (times, peaks, stored):
            cells += [_figures(values), f"{exponent(sizes, values):.2f}"] if values else ["–", "–"]
        return cells


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The k of value ≈ c·size^k, by least squares on the logarithms."""
    slope, _ = np.polyfit(np.log(sizes), np.log(values), 1)
    return float(slope)


def all_series(sizes: Sizes, device: torch.device) -> Iterator[Series]:
    """Every cost, one after another."""
    classes = [measured(n, shift(n, sizes.fixed_images, sizes, device), device) for n in sizes.classes]
    yield Series("semantic shift", "classes", classes)
    images = [measured(n, shift(sizes.fixed_classes, n, sizes, device), device) for n in sizes.images]
    yield Series("semantic shift", "images", images)
    images = [measured(n, remember(n, sizes), device) for n in sizes.images]
    yield Series("statistics of all classes, width of the kernel", "images", images)
    yield Series("an epoch of drawn features", "classes", [sampling(n, sizes, device) for n in sizes.classes])
    yield Series("a learn session", "sessions", sessions(sizes, device))


def measured(size: int, call: Call, device: torch.device, stored: int | None = None) -> Point:
    """The median time of some calls, and the memory of another."""
    peak = peak_extra(call, device)
    return Point(size, median(seconds(call, device) for _ in range(REPEATS)), peak, stored)


def features(count: int, width: int, seed: int = 0) -> Tensor:
    """Features that say nothing, [count, width]."""
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def shift(classes: int, images: int, sizes: Sizes, device: torch.device) -> Call:
    """The means of so many classes follow so many images."""
    counts = (classes, images, images)
    means, before, after = (features(count, sizes.width, seed).to(device) for seed, count in enumerate(counts))
    return lambda: shifted_means(means, before, after, sizes.width**0.5)


def remember(images: int, sizes: Sizes) -> Call:
    """What is made of the features of a session, of a fixed number of classes."""
    seen, labels = features(images, sizes.width), torch.arange(images) % sizes.fixed_classes

    def call() -> None:
        median_spread(seen, labels)
        for label in range(sizes.fixed_classes):
            class_statistics(seen[labels == label], 1e-3)

    return call


def sampling(classes: int, sizes: Sizes, device: torch.device) -> Point:
    """Features of every class once; what is stored are the statistics."""
    items = [class_statistics(features(50, sizes.width, seed), 1e-3) for seed in range(classes)]
    generator = torch.Generator().manual_seed(0)
    stored = size_of(value for item in items for value in item.tensors().values())
    return measured(classes, lambda: draw(items, [1.0] * classes, sizes.drawn, generator), device, stored)


def sessions(sizes: Sizes, device: torch.device) -> list[Point]:
    """Some learn sessions of a stream of equal ones, with what a checkpoint holds after them."""
    times = along_stream(sizes, device, lambda call: seconds(call, device))
    peaks = along_stream(sizes, device, lambda call: peak_extra(call, device))
    return [Point(n, times[n][0], peaks[n][0], peaks[n][1]) for n in sizes.sessions]


def along_stream(sizes: Sizes, device: torch.device, measure: Callable[[Call], float]) -> dict[int, tuple[float, int]]:
    """Carry out a stream; of the sessions of interest, by their number from 1, the measure and the bytes stored."""
    torch.manual_seed(0)
    recipe = Recipe(epochs=1, lr=0.01, batch_size=16)
    model = Model(Given(sizes.width)).to(device).eval()
    learner = AdapterLearner(model, recipe, recipe, ffn_num=8, ca_samples=sizes.drawn, ca_epochs=1)
    found = {}
    for session in stream(sizes):
        number, call = session.index + 1, partial(follow, learner, session, device)
        if number in sizes.sessions:
            found[number] = measure(call), size_of(learner.state_dict().values())
        else:
            call()
    return found


def follow(learner: AdapterLearner, session: Session, device: torch.device) -> None:
    """What a run does of a session, but for decoding, encoding and evaluation."""
    for phase in learner.phases(session):
        carry_out(phase, device)


def stream(sizes: Sizes) -> Iterator[Session]:
    """Learn sessions of a few classes each; an "image" is a feature."""
    order = order_of(sizes.per_session * max(sizes.sessions), 1)
    for index in range(max(sizes.sessions)):
        start = index * sizes.per_session
        classes, seen = range(start, start + sizes.per_session), tuple(range(start + sizes.per_session))
        count = 10 * sizes.per_session
        images = Images(features(count, sizes.width, index), labels_of(count, order, classes))
        streams = dict.fromkeys(("train", "plain"), lambda images=images: images)
        yield Session(index, "learn", tuple(classes), seen, seen, order, learned=index, streams=streams)


class Given(Backbone):
    """Features come in and go out of one frozen block; adapters see to it that they change.

    Args:
        dim: their width.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.net, self.dim, self.preprocess = nn.Sequential(Block(dim)), dim, Preprocess(1, (0.0,) * 3, (1.0,) * 3)

    @property
    def blocks(self) -> list[nn.Module]:
        """The one."""
        return list(self.net)

    def embed(self, images: Tensor) -> Tensor:
        """[B, dim] → [B, dim]."""
        return self.net(images)


class Block(nn.Module):
    """As much of a transformer block as an adapter needs."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim] → [B, dim]."""
        return x + self.norm2(x)


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes."""
    return sum(value.numel() * value.element_size() for value in tensors)


def table(found: Iterable[Series]) -> str:
    """The series as markdown."""
    ruler = ["---"] * 3 + ["---:"] * (len(COLUMNS) - 3)
    return "".join(f"| {' | '.join(line)} |\n" for line in [COLUMNS, ruler, *(each.cells() for each in found)])


def _figures(values: Sequence[float]) -> str:
    return " · ".join(f"{value:.3g}" for value in values)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or auto")
    parser.add_argument("--small", action="store_true", help="sizes for tests")
    args = parser.parse_args(argv)
    sizes = SIZES["small" if args.small else "full"]
    sys.stdout.write(table(all_series(sizes, choose_device(args.device, strict=True))))


if __name__ == "__main__":
    main()
