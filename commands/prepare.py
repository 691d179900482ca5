"""`main.py prepare`: index a data set and check the index."""

import argparse
import logging
import sys
from pathlib import Path
from types import ModuleType

from data.builders import BUILDERS, OWN, describe, get_builder, options_of
from data.index import read_set, write_set
from utils.errors import ConfigError, DataError

HELP = "index a data set (train.jsonl, test.jsonl) and check it"
SETS = Path("data") / "sets"
# options that only some builders take: flag → (type, metavar, help)
OPTIONS = {
    "test-fraction": (float, "F", "part of each class held out where the data have no split of their own"),
    "seed": (int, "N", "seed of whatever is drawn: the split, the training images, the classes"),
    "exclude-small": (int, "N", "folder, csv, webdataset: leave out classes with fewer images"),
    "table": (Path, "FILE", "csv: the table (default: the one in the root, or train.csv and test.csv there)"),
    "columns": (str, "WHAT=NAME,…", "csv: which columns tell image, class, parent and split, as image=id,class=breed"),
    "unpack": (Path, "DIR", "webdataset: where the images are unpacked to (default: unpacked/ below the root)"),
    "per-class": (int, "N", "imagenet_dogs, caltech101: training images a class at most"),
    "keep": (Path, "FILE", "compcars: the models to keep, one a line"),
    "classes": (Path, "FILE", "imagenet100, imagenet900: the 100 classes' wnids, one a line"),
}
SHOWN = 5
log = logging.getLogger("lethe")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `prepare` to its parser."""
    width = max(map(len, BUILDERS))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "builders:\n" + "\n".join(f"  {name:{width}}  {line}" for name, line in describe().items())
    parser.add_argument("builder", metavar="NAME", help="which builder reads the data, see below")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="where the data lie")
    parser.add_argument("--download", action="store_true", help="have torchvision download the data to the root first")
    named = f"name of the set (default: NAME; for {', '.join(OWN)}, the root's name)"
    parser.add_argument("--name", metavar="SETNAME", help=named)
    parser.add_argument(
        "--out", type=Path, default=SETS, metavar="DIR", help="where the sets are (default: %(default)s)"
    )
    parser.add_argument("--no-decode", action="store_true", help="read image headers only, do not decode every image")
    for flag, (kind, metavar, text) in OPTIONS.items():
        parser.add_argument(f"--{flag}", type=kind, metavar=metavar, help=text)


def run(args: argparse.Namespace) -> int:
    """Build, write and check an index; the summary goes to standard output.

    Returns:
        0; warnings are listed below the summary.

    Raises:
        ConfigError: an option that the builder does not take, or a name that cannot be a folder's.
        DataError: the data are not there or not in their layout, or files of the index are missing or damaged.
        WriteError: the index cannot be written.
    """
    builder = get_builder(args.builder)
    options = _options(args, builder)
    name = _set_name(args)
    try:
        _index(args, builder, options, name)
    except OSError as error:
        raise DataError(f"{error.filename or args.root}: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{args.root}: a file's name is not UTF-8 text ({error.object[:80]!r}); rename it") from error
    return _check(args.out / name, name, decode=not args.no_decode)


def _options(args: argparse.Namespace, builder: ModuleType) -> dict:
    """The options that were given, as keyword arguments of the builder."""
    known = options_of(builder)
    given = {key: getattr(args, key) for key in (flag.replace("-", "_") for flag in OPTIONS)}
    options = {key: value for key, value in given.items() if value is not None}
    if args.download:
        if "download" not in known:
            raise DataError(f"{args.builder} cannot be downloaded from here; get the data from {builder.LAYOUT.source}")
        options["download"] = True
    for key in options:
        if key not in known:
            takes = ", ".join("--" + option.replace("_", "-") for option in known) or "no options"
            raise ConfigError(f"prepare {args.builder} has no --{key.replace('_', '-')}; it takes {takes}")
    return options


def _set_name(args: argparse.Namespace) -> str:
    name = args.name or (args.root.resolve().name if args.builder in OWN else args.builder)
    if Path(name).name != name or name in ("", ".", ".."):
        raise ConfigError(f"--name '{name}': a set is a folder below {args.out}, so its name holds no slash")
    return name


def _index(args: argparse.Namespace, builder: ModuleType, options: dict, name: str) -> None:
    if args.download:
        args.root.mkdir(parents=True, exist_ok=True)
    elif not args.root.is_dir():
        raise builder.LAYOUT.missing(args.root, "no such folder")
    built = builder.build(args.root, **options)
    write_set(args.out / name, built.root, built.splits, built.aliases)
    counts = ", ".join(f"{len(records)} {split}" for split, records in built.splits.items())
    log.info("%s: %s images indexed in %s", name, counts, args.out / name)


def _check(folder: Path, name: str, decode: bool) -> int:
    from data.check import check_set, report_table

    report = check_set(read_set(name, folder), decode=decode)
    sys.stdout.write(report_table(report))
    if report.unusable:
        named = "; ".join(f"{problem.place}: {problem.text}" for problem in report.unusable[:SHOWN])
        more = f" and {len(report.unusable) - SHOWN} more" if len(report.unusable) > SHOWN else ""
        raise DataError(
            f"{name}: {len(report.unusable)} files are missing or damaged; mend or remove them and "
            f"prepare the set again: {named}{more}"
        )
    return 0
