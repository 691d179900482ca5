"""One table of what the toolbox saves over plain readings of the published algorithms.

python benchmarks/run.py [--device cpu|cuda|auto] [--only NAME] [--modest | --small] [--times]
"""

import argparse
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its profiler speaks of GPUs that are not there

import torch

from benchmarks.item import Item
from benchmarks.measure import matrix_flops, medians, peak_extra, product
from utils.devices import choose_device
from utils.environment import describe_environment

FILES = (
    "shift",
    "sampling",
    "clip_evaluation",
    "loop_overhead",
    "decoding",
    "photographs",
    "gs_lora_step",
    "request_step",
)
COLUMNS = ("item", "size", "toolbox", "plain", "faster", "toolbox MB", "plain MB", "smaller", "× floor", "must reach")


@dataclass(frozen=True)
class Row:
    """What was measured of an item; of each pair the toolbox's side comes first.

    Attributes:
        item: what was measured.
        seconds: medians, the plain side's for the whole of the work.
        peaks: extra bytes; None where times alone were measured.
        flops: of the toolbox's matrix products; None likewise.
        rate: FLOPs a second of a large product that took turns with both sides.
        device: its kind.
    """

    item: Item
    seconds: tuple[float, float]
    peaks: tuple[int, int] | None
    flops: int | None
    rate: float
    device: str

    @property
    def faster(self) -> float:
        """The plain side's time over the toolbox's."""
        return self.seconds[1] / self.seconds[0]

    @property
    def smaller(self) -> float | None:
        """The plain side's memory over the toolbox's; None where it was not measured."""
        return self.peaks[1] / max(1, self.peaks[0]) if self.peaks else None

    @property
    def floors(self) -> float | None:
        """The toolbox's time over the floor; None where there is hardly a matrix product in it, or none was counted."""
        floor = (self.flops or 0) / self.rate
        return self.seconds[0] / floor if floor > 0.01 * self.seconds[0] else None

    def cells(self, judged: bool) -> list[str]:
        """The texts of the row."""
        times = [_time(value) for value in self.seconds]
        memory = [f"{value / 2**20:.1f}" for value in self.peaks] if self.peaks else ["–", "–"]
        faster, smaller, floors = (
            "–" if value is None else f"{value:.2f}{sign}"
            for value, sign in ((self.faster, " ×"), (self.smaller, " ×"), (self.floors, ""))
        )
        name, size = self.item.name, self.item.size
        return [name, size, *times, faster, *memory, smaller, floors, "; ".join(self.verdicts(judged)) or "–"]

    def verdicts(self, judged: bool) -> Iterator[str]:
        """What is asked of the row and whether it is reached."""
        target = self.item.target
        asked = [("time", "≥", target.faster, target.faster and self.faster >= target.faster)]
        if self.smaller is not None:
            asked.append(("memory", "≥", target.smaller, target.smaller and self.smaller >= target.smaller))
        if self.floors is not None and self.device == target.floors_on:
            asked.append(("floor", "≤", target.floors, target.floors and self.floors <= target.floors))
        for what, sign, bound, reached in asked:
            if bound is not None:
                yield f"{what} {sign} {bound:.3g} ×" + (f": {'yes' if reached else '**no**'}" if judged else "")


def items(size: str, device: torch.device, only: str | None = None) -> Iterator[Item]:
    """The items of all files, in order, or of one of them; each is made when it is asked for."""
    for name in FILES if only is None else (only,):
        yield from importlib.import_module(f"benchmarks.{name}").items(size, device)


def measure(item: Item, device: torch.device, rounds: int, limit: float) -> Row:
    """See that both sides compute the same, then measure them."""
    item.check()
    peaks = peak_extra(item.toolbox, device), peak_extra(item.plain, device)  # the first call of each, too
    timed = measure_times(item, device, rounds, limit)
    return replace(timed, peaks=peaks, flops=matrix_flops(item.toolbox))


def measure_times(item: Item, device: torch.device, rounds: int, limit: float) -> Row:
    """The times of both sides and nothing else, the first call of each among them."""
    best, work = product(device)
    toolbox, plain, full_speed = medians((item.toolbox, item.plain, best), device, rounds, limit)
    return Row(item, (toolbox, plain / item.share), None, None, work / full_speed, device.type)


def table(rows: Sequence[Row], judged: bool) -> str:
    """The rows as markdown.

    Args:
        rows: in order.
        judged: whether the sizes are such that it can be said what is reached.
    """
    ruler = ["---", "---", *["---:"] * (len(COLUMNS) - 3), "---"]
    lines = [COLUMNS, ruler, *(row.cells(judged) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def machine(device: torch.device, rows: Sequence[Row]) -> str:
    """What was measured on, one line."""
    found = describe_environment(device)
    where = found["device"] if device.type == "cuda" else f"{found['processor']}, {found['threads']} thread(s)"
    rates = [row.rate / 1e9 for row in rows]
    products = f"matrix products {min(rates):.0f} to {max(rates):.0f} GFLOP/s"
    return f"{where}, torch {torch.__version__}, {products}, commit {found['commit']}"


def _time(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.2f} ms"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or auto")
    parser.add_argument("--only", choices=FILES, help="the items of one file")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--modest", dest="size", action="store_const", const="modest", help="a share of the examples")
    sizes.add_argument("--small", dest="size", action="store_const", const="small", help="shapes for tests")
    parser.add_argument(
        "--times", action="store_true", help="neither checks nor memory nor floors: for what takes hours"
    )
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side, at most")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which no further round begins")
    args = parser.parse_args(argv)
    device, size = choose_device(args.device, strict=True), args.size or "full"
    how = measure_times if args.times else measure
    rows = [how(item, device, args.rounds, args.limit) for item in items(size, device, args.only)]
    sys.stdout.write(f"{machine(device, rows)}\n\n{table(rows, judged=size != 'small')}")


if __name__ == "__main__":
    main()
