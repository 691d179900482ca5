"""`main.py export`: the model of a run as files of other libraries, its names, heads and model card beside them."""

import argparse
import logging
from pathlib import Path

HELP = "write the model of a run as files that other libraries load"
FORMATS = {
    "open_clip": "a folder for open_clip, LoRAs merged",
    "timm": "a folder for timm, LoRAs merged",
    "peft": "the LoRAs alone, for peft to put onto the original weights",
    "torchscript": "one file for torch, whatever the model is made of; classifier inside",
    "onnx": "one file for any ONNX runtime; classifier inside",
}
log = logging.getLogger("lethe")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `export` to its parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "formats:\n" + "\n".join(f"  {name:12} {line}" for name, line in FORMATS.items())
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="the folder of a finished run")
    parser.add_argument("--to", required=True, choices=FORMATS, help="whose files, see below")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a folder that is not there yet")


def run(args: argparse.Namespace) -> int:
    """Export a run's model; the folder is there whole or not at all.

    Raises:
        LetheError: see `models.export.export_run`.
    """
    from models.export import export_run

    export_run(args.run, args.to, args.out)
    log.info("exported to %s; MODEL_CARD.md says how it is loaded", args.out)
    return 0
