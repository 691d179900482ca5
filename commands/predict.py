"""`main.py predict`: what the model of a run sees in some pictures."""

import argparse
import sys
from pathlib import Path

from models import load_run
from utils.errors import ConfigError

HELP = "ask the model of a run what some pictures show"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `predict` to its parser."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="the folder of a finished run")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="pictures")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="so many names each (default: 5)")
    parser.add_argument("--level", choices=("fine", "coarse"), default="fine", help="of the names (default: fine)")
    parser.add_argument("--device", default="auto", metavar="cpu|cuda|auto", help="where to compute")


def run(args: argparse.Namespace) -> int:
    """Ask; names and their probabilities go to standard output, below the name of each file.

    Raises:
        LetheError: there is no finished run, its data set's index or weights are gone, or a file is no image.
    """
    if args.top < 1:
        raise ConfigError(f"--top {args.top}: at least one name is needed")
    loaded = load_run(args.run, args.device)
    names, probabilities = loaded.predict(args.images, args.level, args.top)
    gone = loaded.forgotten[args.level]
    for file, some, shares in zip(args.images, names, probabilities.tolist(), strict=True):
        lines = [
            f"{100 * share:5.1f} %  {name}{_mark(name in gone)}\n" for name, share in zip(some, shares, strict=True)
        ]
        sys.stdout.write("".join([f"{file}\n", *lines]))
    return 0


def _mark(forgotten: bool) -> str:
    return " (was to be forgotten)" if forgotten else ""
