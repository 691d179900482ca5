"""`main.py audit`: what is left of the concepts in the models of runs, beside the original, a control and an oracle."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from audits import AUDITS, check_names
from audits.runs import Auditor, check_stream, has_audits, leave
from audits.table import page, pages
from utils.atomic import write_text
from utils.config import Config
from utils.devices import choose_device
from utils.place import find_place
from utils.processes import by_the_first, joined

HELP = "audit the models of runs that forgot: erased, suppressed, or hidden in the head?"
log = logging.getLogger("lethe")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `audit` to its parser."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="the folders of finished runs")
    parser.add_argument("--only", nargs="+", choices=AUDITS, metavar="AUDIT", help=f"of: {', '.join(AUDITS)}")
    parser.add_argument(
        "--oracle",
        metavar="FILE",
        help="weights of a model that has never seen the concepts (default: the run's oracle_weights)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write what goes to standard output there, too")
    parser.add_argument("--device", default="auto", metavar="cpu|cuda|auto", help="where to compute")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    width = max(map(len, AUDITS))
    parser.epilog = "audits:\n" + "\n".join(f"  {name:{width}}  {line}" for name, line in AUDITS.items())


def run(args: argparse.Namespace) -> int:
    """Audit runs: a page and the figures into each run's folder; one table of all to standard output.

    Raises:
        ConfigError: a run's stream has a learn session, or leaves no class.
        CheckpointError: there is no finished run.
        LetheError: its data or weights are not there any more.
    """
    names = args.only or list(AUDITS)
    text = _audited(args.runs, names, choose_device(args.device, strict=args.device != "auto"), args.oracle)
    if args.out:
        write_text(args.out, text)
    sys.stdout.write(text)
    return 0


def check(config: Config) -> None:
    """See, before a run, that the audits it is to end with can be carried out.

    Raises:
        ConfigError: one is unknown, or the stream has learn sessions.
    """
    check_names(config.audit, "key 'audit': ")
    if config.audit:
        check_stream(config, "key 'audit'")


def follow(config: Config, strict_device: bool) -> None:
    """Carry out the audits that a config asks for on the runs that it has left; those that are there are not repeated.

    Raises:
        LetheError: see `run`.
    """
    folders = [find_place(config, seed, resume=True).folder for seed in config.seed]
    if all(has_audits(folder, config.audit) for folder in folders):
        return
    with joined(choose_device(config.device, strict_device)) as device:
        log.info("%s", _audited(folders, config.audit, device))


def _audited(folders: Sequence[Path], names: Sequence[str], device: torch.device, oracle: str | None = None) -> str:
    """Audit runs, each into its folder; returns the table of all."""
    auditor, found = Auditor(names, device, oracle), []
    for folder in dict.fromkeys(folders):
        found.append(auditor.audit(folder))
        by_the_first(leave)(found[-1], names, page(found[-1]))
    return pages(found)
