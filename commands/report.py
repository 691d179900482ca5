"""`main.py report`: one HTML page of one or more runs, complete in itself."""

import argparse
import logging
from pathlib import Path

from utils.atomic import write_text
from utils.report import report
from utils.run_folder import REPORT, read_run

HELP = "write one self-contained HTML page of finished runs: what was asked, tables, curves, every class"
log = logging.getLogger("lethe")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `report` to its parser."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="folders of finished runs")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"default: {REPORT} in the (first) run's folder")


def run(args: argparse.Namespace) -> int:
    """Read the runs and write their page.

    Raises:
        CheckpointError: one is not there, not finished, or damaged.
        WriteError: the page cannot be written.
    """
    file = args.out or args.runs[0] / REPORT
    write_text(file, report([read_run(folder) for folder in args.runs]))
    log.info("%s: the report of %d run%s", file, len(args.runs), "s" * (len(args.runs) > 1))
    return 0
