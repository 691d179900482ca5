"""The command line: runs JSON experiments, and what stands beside a run as sub-commands.

python main.py --config exps/quickstart.json
"""

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.errors import ConfigError, LetheError, told

LAUNCHERS = ("local", "slurm")
COMMANDS = ("audit", "compare", "export", "forget", "predict", "prepare", "report")
log = logging.getLogger("lethe")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    from utils.logs import log_to_console

    argv = list(sys.argv[1:] if argv is None else argv)
    log_to_console()
    try:
        return _dispatch(argv)
    except (LetheError, OSError) as error:  # a full disk or a folder without permission needs no traceback either
        return _fail(told(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted; a run goes on with --resume, forget with the same command", 130)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"lethe: {message}\n")
    return code


class _Parser(argparse.ArgumentParser):
    """Wrong arguments end like every other mistake: in one line."""

    def error(self, message: str):
        raise ConfigError(f"{message}; see '{self.prog} --help'")


def _dispatch(argv: list[str]) -> int:
    if argv and argv[0] in COMMANDS:
        return _command(argv[0], argv[1:])
    parser = run_parser()
    args = parser.parse_args(argv)
    if args.list:
        return list_everything()
    if not args.config:
        parser.error("give an experiment: --config exps/quickstart.json (or --list, or a command: prepare)")
    if args.launcher_set and not args.launcher:
        parser.error("--launcher-set goes with --launcher")
    return run_experiments(args)


def run_parser() -> argparse.ArgumentParser:
    """The parser of `main.py --config …`."""
    parser = _Parser(
        prog="main.py",
        description="Lethe: pre-trained vision models that learn session by session and forget on request.",
        epilog=f"commands: {', '.join(COMMANDS)}; each has its own --help (main.py prepare --help)",
    )
    parser.add_argument(
        "--config", nargs="+", type=Path, metavar="FILE", help="JSON experiment(s), run one after another"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the config(s)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--smoke", action="store_true", help="dry run: embedded miniatures instead of data and weights")
    parser.add_argument(
        "--device", metavar="cpu|cuda|auto", help="overrides the config; a missing GPU is then an error"
    )
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, help="every run a job of its own, on this machine or through Slurm"
    )
    parser.add_argument(
        "--launcher-set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="of the jobs: gpus, parallel, hours, … (docs/scaling.md)",
    )
    parser.add_argument("--list", action="store_true", help="learners, backbones and data sets, one line each")
    return parser


def run_experiments(args: argparse.Namespace) -> int:
    """Read all configs first, then run them one after another."""
    from convs.names import is_clip
    from utils.config import load_config, parse_override
    from utils.smoke import smoke

    overrides = dict(parse_override(text) for text in args.set)
    if args.device:
        overrides["device"] = args.device
    experiments = [load_config(path, overrides) for path in _experiments(args.config)]
    if args.smoke:
        experiments = [item.with_config(smoke(item.config, is_clip)) for item in experiments]
    from commands import audit
    from models import learner_class
    from models.plugins import check_unchanged, load_plugins
    from trainer import run

    for item in experiments:  # an unknown learner in the last file shows before the first has run
        check_unchanged(item.config)
        load_plugins(item.config.plugins)
        learner_class(item.config.model_name)
        audit.check(item.config)
    if args.launcher:
        from commands.launch import launch

        return launch(experiments, args.launcher, args.launcher_set, strict_device=bool(args.device))
    for item in experiments:
        log.info("running %s%s", item.path, " (smoke)" if args.smoke else "")
        run(item, resume=args.resume, strict_device=bool(args.device))
        audit.follow(item.config, strict_device=bool(args.device))
    return 0


def _experiments(files: list[Path]) -> list[Path]:
    """The experiments among some files: a pattern such as exps/*.json also finds what belongs to experiments."""
    from utils.config import is_experiment

    if len(files) == 1:
        return files
    others = [file for file in files if not is_experiment(file)]
    if others:
        log.info("passed over, no experiments: %s", ", ".join(map(str, others)))
    return [file for file in files if file not in others]


def list_everything() -> int:
    """Print learners, backbone names and data sets."""
    from convs.names import describe
    from data.registry import list_sets
    from models import LEARNERS

    sections = {
        "learners (model_name)": {name: line for name, (_, _, line) in LEARNERS.items()},
        "backbones (convnet_type); besides these any timm ViT and any open_clip model": describe(),
        "data sets (dataset)": list_sets(Path("data/sets")),
    }
    for title, rows in sections.items():
        sys.stdout.write(f"{title}\n" + "".join(f"  {name:40} {line}\n" for name, line in rows.items()) + "\n")
    return 0


def _command(name: str, argv: list[str]) -> int:
    module = importlib.import_module(f"commands.{name}")
    parser = _Parser(prog=f"main.py {name}", description=module.HELP)
    module.add_arguments(parser)
    return module.run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
