"""Whole runs beside plain readings of the same algorithms: seconds, and what both come to.

python benchmarks/whole_runs.py [--only quickstart|gs_lora] [--small]
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.measure import seconds
from benchmarks.plain_gs_lora import plain_gs_lora
from benchmarks.plain_quickstart import plain_quickstart
from models.build import Built, build
from trainer import run
from utils.config import Config, Loaded, load_config
from utils.formats import Grid, markdown
from utils.seeds import seed_everything

CPU = torch.device("cpu")
COLUMNS = ("run", "seeds", "toolbox", "plain", "faster", "figure", "toolbox's", "plain's", "must reach")


@dataclass(frozen=True)
class Whole:
    """A run to be compared.

    Attributes:
        file: the experiment.
        plain: the same by a plain reading; returns the figure.
        figure: what is compared at the end, in words.
        read: the last line of a run's metrics → the figure, in percent.
        faster: what must be reached.
        small: keys of a run for tests.
    """

    file: str
    plain: Callable[[Built, Config], float]
    figure: str
    read: Callable[[dict], float]
    faster: float
    small: dict


RUNS = {
    "quickstart": Whole(
        "exps/quickstart.json",
        plain_quickstart,
        "accuracy at the end",
        lambda last: last["fine"]["top1"],
        3.0,
        {"init_epochs": 1, "inc_epochs": 1, "forget_epochs": 1, "ca_epochs": 1, "ca_samples": 8},
    ),
    "gs_lora": Whole(
        "exps/cl_forget_toycars_gs_lora.json",
        plain_gs_lora,
        "H of the last request",
        lambda last: last["extra"]["h"],
        1.5,
        {"forget_epochs": 1, "num_tasks": 2, "num_of_first_cls": 46, "per_forget_cls": 1, "data_ratio": 0.02},
    ),
}


def compare(whole: Whole, small: bool) -> list[str]:
    """A row of the table: both sides take turns, seed by seed."""
    loaded = load_config(Path(whole.file), whole.small if small else {})
    seeds = loaded.config.seed[:1] if small else loaded.config.seed
    taken, figures = zip(*(turn(whole, loaded, seed) for seed in seeds), strict=True)
    times = [f"{median(side):.1f} s" for side in zip(*taken, strict=True)]
    values = [f"{mean(side):.1f}" for side in zip(*figures, strict=True)]
    ratio = median(plain / ours for ours, plain in taken)
    reached = "" if small else f": {'yes' if ratio >= whole.faster else '**no**'}"
    named = ", ".join(map(str, seeds))
    return [whole.file, named, *times, f"{ratio:.2f} ×", whole.figure, *values, f"time ≥ {whole.faster:g} ×{reached}"]


def turn(whole: Whole, loaded: Loaded, seed: int) -> tuple[list[float], list[float]]:
    """Seconds and figure of the toolbox and of the plain reading."""
    found: list[float] = []
    with tempfile.TemporaryDirectory() as logs:
        config = loaded.config.model_copy(update={"seed": (seed,), "logs": logs})
        sides = (partial(toolbox, whole, loaded.with_config(config)), partial(plainly, whole, config))
        taken = [seconds(lambda side=side: found.append(side()), CPU) for side in sides]
    return taken, found


def toolbox(whole: Whole, loaded: Loaded) -> float:
    """The run as shipped, with its logs, tables, figures and checkpoints."""
    run(loaded)
    (metrics,) = Path(loaded.config.logs).rglob("metrics.jsonl")
    return whole.read(json.loads(metrics.read_text(encoding="utf-8").splitlines()[-1]))


def plainly(whole: Whole, config: Config) -> float:
    """The same in single precision, every image decoded whenever it is asked for."""
    config = config.model_copy(update={"cache_gb": 0.0, "precision": "fp32"})
    (seed,) = config.seed
    built = build(config, seed, CPU)
    seed_everything(seed, "plain")
    return whole.plain(built, config)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=RUNS, help="one of the runs")
    parser.add_argument("--small", action="store_true", help="a step of everything, for tests")
    args = parser.parse_args(argv)
    rows = [compare(whole, args.small) for name, whole in RUNS.items() if args.only in (None, name)]
    sys.stdout.write(markdown(Grid(COLUMNS, rows, texts=2)) + "\n")


if __name__ == "__main__":
    main()
