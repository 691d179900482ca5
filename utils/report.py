"""The page of one or more runs, for people: what was asked, what came of it, figure by figure, complete in itself."""

import base64
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from utils import tables
from utils.formats import Grid
from utils.group_plots import norms
from utils.html import Markup, element, joined, names, page, table
from utils.markdown import markup
from utils.plain import finite
from utils.request_report import request_part
from utils.run_folder import FinishedRun
from utils.svg import Line, line_chart

# shown elsewhere, or of one machine
OF_THE_MACHINE = {"data_root", "index_root", "logs", "workers", "cache_gb", "cache_dir", "cache_dir_gb"}
UNSHOWN = {"about", "sessions", "plugins"} | OF_THE_MACHINE
TILES = ("accuracy_last", "accuracy_average", "forgetting", "quality", "utility", "qu", "zero_shot", "tunable_ratio")
COMPARED = (*TILES, "wall_s")
LEFT_OUT = (
    "Of the time before a request numbers remain, and pictures only where the run was to keep them (`keep_history`). "
    "Tests of what is left of a concept are those of `python main.py audit RUN_DIR`."
)


def report(runs: Sequence[FinishedRun]) -> str:
    """An HTML page; the same runs give the same bytes.

    Args:
        runs: at least one.

    Raises:
        ValueError: there is none.
    """
    if not runs:
        raise ValueError("a report needs a run")
    title = runs[0].title if len(runs) == 1 else f"{len(runs)} runs"
    overview = _overview(runs) if len(runs) > 1 else None
    parts = [_run(run, f"run-{number}", alone=len(runs) == 1) for number, run in enumerate(runs)]
    note = element("div", markup(LEFT_OUT), class_="note")
    return page(f"Lethe: {title}", element("h1", title), overview, *parts, note)


def _overview(runs: Sequence[FinishedRun]) -> Markup:
    """All runs side by side: their figures, their curves, the way to each."""
    known = [key for key in COMPARED if any(finite(run.summary.get(key)) for run in runs)]
    rows = [[_label(run, runs), *(tables.figure_text(key, run.summary.get(key)) for key in known)] for run in runs]
    links = [element("li", element("a", _label(run, runs), href=f"#run-{i}")) for i, run in enumerate(runs)]
    lines = [Line(_label(run, runs), run.results.curve()) for run in runs]
    return element(
        "section",
        element("ul", *links),
        table(Grid(["run", *map(tables.title_of, known)], rows)),
        element("h3", "Accuracy after each session, fine labels (%)"),
        line_chart("accuracy of every run after each session", lines),
    )


def _label(run: FinishedRun, runs: Sequence[FinishedRun]) -> str:
    """The shortest name that tells a run from the others."""
    for label in (run.title, f"{run.title}, {run.about}", f"{run.title}, {run.about}, {run.config.prefix}"):
        if sum(label in f"{other.title}, {other.about}, {other.config.prefix}" for other in runs) == 1:
            return label
    return str(run.folder)


def _run(run: FinishedRun, place: str, alone: bool) -> Markup:
    return element(
        "section",
        None if alone else element("h2", run.title),
        element("p", run.about),
        _about(run),
        _tiles(run),
        _asked(run),
        _curves(run),
        _matrices(run),
        *(request_part(row, run.albums.get(row.index, ())) for row in run.results.forgets),
        _groups(run),
        _audits(run),
        _summary(run),
        _settings(run),
        _pictures(run),
        id=place,
    )


def _about(run: FinishedRun) -> Markup | None:
    about = run.config.about
    lines = (about,) if isinstance(about, str) else about
    return element("p", joined(*lines, by=Markup("<br>")), class_="note") if any(lines) else None


def _tiles(run: FinishedRun) -> Markup:
    known = [key for key in TILES if finite(run.summary.get(key))]
    tiles = [
        element(
            "div", element("b", _short(key, run.summary[key])), element("span", tables.title_of(key)), class_="tile"
        )
        for key in known
    ]
    return element("div", *tiles, class_="tiles")


def _short(key: str, value: float) -> str:
    return tables.figure_text(key, value) if key == "tunable_ratio" else f"{value:.1f}"


def _asked(run: FinishedRun) -> Markup:
    def entry(row) -> Markup:
        verb = "learn" if row.kind == "learn" else f"forget ({row.request.level})" if row.request else "forget"
        return element("li", f"{verb} {len(row.classes)}: ", names(row.classes, 12))

    return joined(
        element("h3", "What was asked"),
        element("ol", *(entry(row) for row in run.results.sessions), start=0),
        _command(run),
    )


def _command(run: FinishedRun) -> Markup | None:
    words = run.environment.get("command")
    return element("pre", element("code", shlex.join(["python", *map(str, words)]))) if words else None


def _curves(run: FinishedRun) -> Markup:
    results = run.results
    lines = [Line(level, results.curve(level)) for level in results.levels]
    lines.append(Line("fine, top-5", results.curve("fine", "top5")))
    forgot = [step for step, row in enumerate(results.sessions) if row.kind == "forget"]
    return joined(
        element("h3", "Accuracy after each session (%)"),
        line_chart("accuracy after each session", lines, forgot),
        element("p", "Tinted: sessions that forgot.", class_="note") if forgot else None,
        table(tables.sessions_grid(results)),
        element("p", f"* {tables.FEW_CLASSES}", class_="note") if tables.counts_fewer(results) else None,
    )


def _matrices(run: FinishedRun) -> Markup | None:
    parts = []
    for level in run.results.levels:
        if any(run.results.matrix(level)):
            grid = tables.matrix_grid(run.results, level)
            shades = _shades(run.results.matrix(level), len(grid.header) - 1, 100)
            parts.append(element("div", element("h4", f"{level} labels"), table(grid, shades)))
    title = element("h3", "Top-1 of each session's classes (%)")
    return joined(title, element("div", *parts, class_="beside")) if parts else None


def _shades(values: Sequence[Sequence[float | None]], width: int, whole: float) -> list[list[float | None]]:
    padded = [[*row, *[None] * (width - len(row))] for row in values]
    return [[value / whole if finite(value) else None for value in row] for row in padded]


def _groups(run: FinishedRun) -> Markup | None:
    """GS-LoRA's: which groups of parameters each request touched."""
    found = {row.index: norms(row) for row in run.results.sessions if norms(row)}
    if not found:
        return None
    lines = list(dict.fromkeys(group for column in found.values() for group in column))
    values = [[column.get(group, math.nan) for column in found.values()] for group in lines]
    whole = max([value for row in values for value in row if finite(value)], default=0) or 1
    cells = [[line, *(f"{v:.3g}" if finite(v) else "–" for v in row)] for line, row in zip(lines, values, strict=True)]
    grid = Grid(["group", *(f"session {index}" for index in found)], cells)
    return joined(element("h3", "Norm of each group of LoRAs"), table(grid, _shades(values, len(found), whole)))


def _audits(run: FinishedRun) -> Markup | None:
    return joined(element("h3", "Audits"), markup(run.audits, skip_title=True)) if run.audits else None


def _summary(run: FinishedRun) -> Markup:
    return joined(element("h3", "Summary"), table(tables.summary_grid(run.summary)))


def _settings(run: FinishedRun) -> Markup:
    """What differs from the defaults, and what it ran on."""
    given = run.config.model_dump(mode="json", exclude_defaults=True, exclude=UNSHOWN)
    ran_on = {key: value for key, value in run.environment.items() if key != "command"}
    grids = {"Settings that are not the default": given, "Run on": ran_on}
    return joined(*(_pairs(title, pairs) for title, pairs in grids.items() if pairs))


def _pairs(title: str, pairs: dict) -> Markup:
    rows = [[key, _words(value)] for key, value in pairs.items()]
    return element("details", element("summary", title), table(Grid(["key", "value"], rows, texts=2)))


def _words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    return str(value)


def _pictures(run: FinishedRun) -> Markup | None:
    images = [
        element("p", element("img", src=f"data:image/png;base64,{_base64(file)}", alt=f"the run's {file.name}"))
        for file in run.pictures
    ]
    return element("details", element("summary", "Pictures that the run drew"), *images) if images else None


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode("ascii")
