"""`main.py compare`: the runs below some folders in one table, seeds merged, and what is missing from it."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from utils.comparison import PAIRS, Comparison, Row, Run, compare, significance
from utils.comparison_dots import dots
from utils.config import Config, load_config
from utils.errors import ConfigError, nearest
from utils.formats import Best, Grid, csv_text, latex, markdown
from utils.html import Markup, element, joined, page, table
from utils.metrics import mean_std
from utils.plain import one_line
from utils.run_folder import CONFIG, finished
from utils.tables import figure_text, spread_text, title_of

HELP = "compare the runs below some folders: seeds merged, the best in bold, what is missing listed"
TEST = (
    f"p: two-sided paired t-test against the best over the common seeds, where there are at least {PAIRS}; not "
    "corrected for the number of rows."
)
log = logging.getLogger("lethe")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `compare` to its parser."""
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="where to look for runs, e.g. logs/")
    parser.add_argument(
        "--metric",
        type=_listed,
        metavar="NAME[,NAME]",
        help="figures of summary.json (default: qu where something was to be forgotten, else accuracy_average)",
    )
    parser.add_argument(
        "--group",
        type=_listed,
        default=("model_name", "dataset"),
        metavar="KEY[,KEY]",
        help="keys of the config that name the rows (default: model_name,dataset); further ones are added where runs "
        "of one name differ in them",
    )
    parser.add_argument("--format", choices=sorted(FORMATS), default="md", help="default: md")


def run(args: argparse.Namespace) -> int:
    """Compare runs; the tables go to standard output.

    Raises:
        ConfigError: a folder is missing or holds no run, no key or no figure has such a name.
    """
    if unknown := [key for key in args.group if key not in Config.model_fields]:
        raise ConfigError(f"--group: no key '{unknown[0]}'{nearest(unknown[0], Config.model_fields)}")
    runs, unread = _found(args.folders)
    _check_metrics(args.metric or (), runs)
    found = compare(runs, args.group)
    sys.stdout.write(
        FORMATS[args.format](found, args.metric, [line for item in found for line in _gaps(item)] + unread)
    )
    return 0


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _found(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The runs below some folders in the order of their paths, and a line for each that cannot be read."""
    for folder in folders:
        if not folder.is_dir():
            beside = [item.name for item in folder.parent.glob("*/")] if folder.parent.is_dir() else []
            raise ConfigError(f"{folder}: no such folder{nearest(folder.name, beside)}")
    places = sorted({file.parent for folder in folders for file in folder.rglob(CONFIG)})
    runs, unread = [], []
    for place in places:
        try:
            runs.append(Run(place, load_config(place / CONFIG).config, finished(place)))
        except ConfigError as error:
            unread.append(f"unreadable: {error}")
    if not runs:
        where = ", ".join(map(str, folders))
        raise ConfigError(
            f"{where}: no run is here (a folder with a config.json){''.join(f'; {x}' for x in unread[:1])}"
        )
    return runs, unread


def _check_metrics(metrics: Sequence[str], runs: Sequence[Run]) -> None:
    known = {name for item in runs for name in item.figures or ()}
    for name in metrics:
        if name not in known:
            raise ConfigError(f"--metric: no finished run has a figure '{name}'{nearest(name, known)}")


def _gaps(found: Comparison) -> list[str]:
    """What is not in the table although it might be."""
    every = [(row, item) for row in found.rows for item in row.runs.values()]
    lines = [
        f"unfinished: {_name(row)}, seed {item.seed} ({item.folder})" for row, item in every if item.figures is None
    ]
    lines += [f"missing: {_name(row)}, seed {seed}" for row in found.rows for seed in found.lacking(row)]
    return lines + [f"not counted, the same experiment and seed as another run: {item.folder}" for item in found.twins]


def _name(row: Row) -> str:
    return ", ".join(row.labels.values())


def _grid(found: Comparison, metrics: Sequence[str] | None) -> Grid:
    """The table of a task."""
    metrics = _chosen(found, metrics)
    keys = list(found.rows[0].labels)
    header = [*keys, "seeds", *(title for name in metrics for title in (title_of(name), "p"))]
    rows = [[*row.labels.values(), _seeds(row)] for row in found.rows]
    for name in metrics:
        best = found.best(name)
        for cells, row in zip(rows, found.rows, strict=True):
            cells += _measured(row, name, best)
    return Grid(header, rows, texts=len(keys))


def _seeds(row: Row) -> str:
    return str(sum(item.figures is not None for item in row.runs.values()))


def _measured(row: Row, name: str, best: Sequence[Row]) -> list[str]:
    """A figure, and how likely its distance to the best is luck."""
    values = list(row.values(name).values())
    text = spread_text(name, values) if len(values) > 1 else figure_text(name, values[0] if values else None)
    p = _p(row, name, best)
    return [Best(text) if row in best else text, "–" if p is None else f"{p:.2g}"]


def _p(row: Row, name: str, best: Sequence[Row]) -> float | None:
    return significance(best[0].values(name), row.values(name)) if best and row is not best[0] else None


@dataclass(frozen=True)
class Style:
    """How tables are written as text: a table, and what stands before its title, before a line and before a gap."""

    table: Callable[[Grid], str]
    heading: str
    line: str
    gap: str

    def write(self, found: Sequence[Comparison], metrics: Sequence[str] | None, gaps: Sequence[str]) -> str:
        """All tables, each under its task, what p is, and the gaps."""
        tables = [(self.heading + one_line(item.task), self.table(_grid(item, metrics))) for item in found]
        listed = "\n".join(self.gap + one_line(gap) for gap in gaps)
        return "\n\n".join([*chain(*tables), self.line + TEST, *([listed] if gaps else [])]) + "\n"


def _html(found: Sequence[Comparison], metrics: Sequence[str] | None, gaps: Sequence[str]) -> str:
    """The same as a page, with a picture of every figure."""
    parts = [part for item in found for part in _task(item, metrics)]
    listed = element("ul", *(element("li", gap) for gap in gaps)) if gaps else None
    title = "Runs compared"
    return page(f"Lethe: {title}", element("h1", title), *parts, element("p", TEST, class_="note"), listed)


def _task(found: Comparison, metrics: Sequence[str] | None) -> list[Markup | None]:
    drawn = [(title_of(metric), dots(found, metric)) for metric in _chosen(found, metrics)]
    pictures = [joined(element("h3", title), picture) for title, picture in drawn if picture]
    note = element("p", "A large dot is the mean, a small one a seed.", class_="note") if pictures else None
    return [element("h2", found.task), *pictures, note, table(_grid(found, metrics))]


def _chosen(found: Comparison, metrics: Sequence[str] | None) -> Sequence[str]:
    return metrics or [found.metric()]


def _csv(found: Sequence[Comparison], metrics: Sequence[str] | None, gaps: Sequence[str]) -> str:
    """A row a figure, with all digits; the gaps go to the log."""
    for gap in gaps:
        log.info(gap)
    keys = dict.fromkeys(key for item in found for key in item.rows[0].labels)
    rows = [(item, name, row) for item in found for name in _chosen(item, metrics) for row in item.rows]
    labels = [{"task": item.task} | {key: row.labels.get(key, "") for key in keys} for item, _, row in rows]
    return csv_text([own | _csv_figures(*row) for own, row in zip(labels, rows, strict=True)])


def _csv_figures(found: Comparison, name: str, row: Row) -> dict:
    values, best = list(row.values(name).values()), found.best(name)
    mean, std = mean_std(values) if values else (None, None)
    own = {"metric": name, "seeds": len(values), "mean": mean, "std": std if len(values) > 1 else None}
    return own | {"best": int(row in best), "p": _p(row, name, best)}


FORMATS = {
    "md": Style(markdown, heading="## ", line="", gap="- ").write,
    "latex": Style(latex, heading="% ", line="% ", gap="% ").write,
    "html": _html,
    "csv": _csv,
}
