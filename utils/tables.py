"""The files that a run leaves of its figures: csv, jsonl, markdown and the flat `summary.json`; the table of seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from utils import metrics
from utils.atomic import write_text
from utils.continual import TASK_FIGURES
from utils.formats import Grid, csv_text, markdown
from utils.plain import dumps, finite, one_line, plain
from utils.results import LEVELS, REQUEST_FIGURES, SCORES, RequestResult, RunResults, SessionResult

HEADINGS = (
    REQUEST_FIGURES
    | TASK_FIGURES
    | {
        "accuracy_last": "last",
        "accuracy_average": "average",
        "top5_last": "top-5 last",
        "forgetting": "forgetting",
        "bwt": "BWT",
        "coarse_accuracy_last": "coarse last",
        "coarse_accuracy_average": "coarse average",
        "coarse_top5_last": "coarse top-5 last",
        "coarse_forgetting": "coarse forgetting",
        "coarse_bwt": "coarse BWT",
        "wall_s": "seconds",
        "peak_mb": "peak MB",
        "tunable_ratio": "tunable share",
    }
)
BY_TASK = "Task by task; Drop and H against the model before the first request"
FEW_CLASSES = "all classes count where there are fewer than five."
WORST = 5  # as many of the most damaged classes are shown


def write_tables(folder: Path, results: RunResults, summary: Mapping, title: str, command: str) -> None:
    """Writes `sessions.csv`, `metrics.jsonl`, `table.md` and `summary.json`, each in one atomic step.

    A run with forget sessions also leaves `requests.csv`, a row a forget session, and `classes.csv`, a row a class and
    forget session.

    Args:
        folder: made where it is missing.
        results: at least one session.
        summary: flat, as `RunResults.summary` gives it, with or without further figures.
        title: what was run, one line.
        command: the command line that runs it again.
    """
    rows = [row.to_json() for row in results.sessions]
    write_text(folder / "sessions.csv", csv_text(_session_rows(results)))
    if results.forgets:
        write_text(folder / "requests.csv", csv_text(_request_rows(results)))
        write_text(folder / "classes.csv", csv_text(_class_rows(results)))
    write_text(folder / "metrics.jsonl", "".join(dumps(row) + "\n" for row in rows))
    write_text(folder / "table.md", table(results, summary, title, command))
    write_text(folder / "summary.json", dumps(plain(dict(summary)), indent=2) + "\n")


def table(results: RunResults, summary: Mapping, title: str, command: str) -> str:
    """`table.md`: what was run, a row a session, the requests, the accuracy matrices, the summary.

    The arguments are those of `write_tables`.
    """
    parts = [f"# {title}", f"```sh\n{command}\n```", _sessions_table(results)]
    parts += _requests_parts(results) if results.forgets else []
    for level in results.levels:
        heading = f"## Top-1 (%) of each session's classes, {level} labels"
        parts += [heading, markdown(matrix_grid(results, level))] if any(results.matrix(level)) else []
    return "\n\n".join([*parts, "## Summary", markdown(summary_grid(summary))]) + "\n"


def seeds_table(runs: Sequence[tuple[int, Mapping]]) -> str:
    """A markdown table: a row a figure, a column a seed, then mean ± sample standard deviation.

    A figure of a request reads "before → after".

    Args:
        runs: (seed, summary) pairs, at least one; a figure that some summary lacks is averaged over the others, one
            that all of them lack is left out.
    """
    columns = {name: [row.get(name) for _, row in runs] for name in _ordered(name for _, row in runs for name in row)}
    rows = []
    for name, values in columns.items():
        if not (_is_bound(name) or _is_before(name, columns) or all(map(_missing, values))):
            before = [] if name in SCORES else columns.get(f"{name}_before", [])
            sides = [side for side in (before, values) if not all(map(_missing, side))]
            cells = [" → ".join(figure_text(name, value) for value in pair) for pair in zip(*sides, strict=True)]
            rows.append([title_of(name), *cells, " → ".join(spread_text(name, side) for side in sides)])
    return markdown(Grid(["figure", *(f"seed {seed}" for seed, _ in runs), "mean ± std"], rows)) + "\n"


def spread_text(name: str, values: Iterable[float | None]) -> str:
    """Mean ± sample standard deviation of a figure; "–" where no value is known."""
    known = [value for value in values if finite(value)]
    if not known:
        return "–"
    mean, std = metrics.mean_std(known)
    return f"{figure_text(name, mean)} ± {figure_text(name, std)}"


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and not finite(value))


def _is_bound(name: str) -> bool:
    return name.endswith(("_low", "_high"))


def _is_before(name: str, names: Iterable[str]) -> bool:
    return name.endswith("_before") and name.removesuffix("_before") in names


def _sessions_table(results: RunResults) -> str:
    text = markdown(sessions_grid(results))
    return f"{text}\n\n\\* {FEW_CLASSES}" if counts_fewer(results) else text


def counts_fewer(results: RunResults) -> bool:
    """Whether "top-5" counted fewer than five in some session."""
    return any(row.k < 5 for row in results.sessions)


def sessions_grid(results: RunResults) -> Grid:
    """A row a session; "top-5*" where it counted fewer, see `FEW_CLASSES`."""
    coarse = "coarse" in results.levels
    top5 = "top-5*" if counts_fewer(results) else "top-5"
    header = ["session", "learned / forgot", "classes", "fine top-1", top5, "old", "new"]
    rows = [_session_cells(row, coarse) for row in results.sessions]
    return Grid([*header, *(["coarse"] if coarse else []), "seconds"], rows, texts=3)


def _session_cells(row: SessionResult, coarse: bool) -> list[str]:
    did = f"learned {row.label}" if row.kind == "learn" else f"forgot {len(row.classes)}"
    did += f" ({row.request.level})" if row.request else ""
    shown = ", ".join(row.classes[:3]) + (f" … ({len(row.classes)})" if len(row.classes) > 3 else "")
    figures = [row.fine.top1, row.fine.top5, row.fine.old, row.fine.new]
    figures += [row.coarse.top1 if row.coarse else None] if coarse else []
    return [str(row.index), did, shown, *(_percent(value) for value in figures), f"{row.seconds:.1f}"]


def _requests_parts(results: RunResults) -> list[str]:
    rows = results.forgets
    asked = [f"- session {row.index}, level {row.request.level}: {one_line(', '.join(row.classes))}" for row in rows]
    note = "Accuracies in percent; in brackets the 95 % interval."
    worst, tasks = worst_grid(rows), tasks_grid(rows)
    lost = ["### Retained classes that lost most", markdown(worst)] if worst else [_none_lost(rows)]
    by_task = [f"### {BY_TASK}", markdown(tasks)] if tasks else []
    return ["## Requests", "\n".join(asked), note, markdown(requests_grid(rows)), *lost, *by_task]


def _none_lost(rows: Sequence[SessionResult]) -> str:
    tested = any(change.images for row in rows for change in row.request.of_role("adjacent", "remote"))
    return "No retained class lost accuracy." if tested else "Of what was to stay there are no test images."


def tasks_grid(rows: Sequence[SessionResult]) -> Grid | None:
    """Of forget sessions: continual forgetting's figures, a row a session; None where none was measured."""
    names = [name for name in TASK_FIGURES if any(finite(row.extra.get(name)) for row in rows)]
    cells = [[str(row.index), *(_percent(row.extra.get(name)) for name in names)] for row in rows]
    return Grid(["session", *(TASK_FIGURES[name] for name in names)], cells) if names else None


def requests_grid(rows: Sequence[SessionResult]) -> Grid:
    """Of forget sessions: a row a figure, before and after each; intervals in brackets."""
    names = _ordered(name for row in rows for name in row.request.measured)
    session = [f"session {row.index} " if len(rows) > 1 else "" for row in rows]
    header = ["figure", *(text for name in session for text in (f"{name}before", f"{name}after"))]
    cells = [[title_of(name), *(text for row in rows for text in _sides(name, row.request))] for name in names]
    return Grid(header, cells)


def _sides(name: str, request: RequestResult) -> tuple[str, str]:
    low, high = request.interval(name)
    interval = f" ({low:.1f} – {high:.1f})" if finite(low) and finite(high) else ""
    before = None if name in SCORES else request.before.get(name)
    return _percent(before), _percent(request.after.get(name)) + interval


def worst_grid(rows: Sequence[SessionResult]) -> Grid | None:
    """The retained classes that lost most over all requests; None where none lost anything."""
    found = [(row.index, change) for row in rows for change in row.request.of_role("adjacent", "remote")]
    lost = sorted((pair for pair in found if pair[1].change < 0), key=lambda pair: pair[1].change)
    cells = [
        [change.name, change.parent, change.role, str(session), str(change.images)]
        + [_percent(value) for value in (change.before, change.after, change.change)]
        for session, change in lost[:WORST]
    ]
    header = ["class", "parent", "role", "session", "images", "before", "after", "change"]
    return Grid(header, cells, texts=3) if cells else None


def matrix_grid(results: RunResults, level: str) -> Grid:
    """The accuracy matrix at a level: a row a session, a column the classes of each learn session."""
    matrix, labels = results.matrix(level), results.group_labels
    width = max(len(row) for row in matrix)
    names = labels if len(labels) == width else [str(g) for g in range(width)]
    padded = [[*row, *[None] * (width - len(row))] for row in matrix]
    rows = [
        [f"{session.index}{' (forget)' if session.kind == 'forget' else ''}", *(_percent(value) for value in row)]
        for session, row in zip(results.sessions, padded, strict=True)
    ]
    return Grid(["after session", *names], rows)


def summary_grid(summary: Mapping) -> Grid:
    """A row a figure of `summary.json`, those of requests left out."""
    rows = []
    asked = {name for name in summary if f"{name}_before" in summary}  # shown under "Requests"
    for name in (
        name for name in _ordered(summary) if not _is_bound(name) and name.removesuffix("_before") not in asked
    ):
        low, high = summary.get(f"{name}_low"), summary.get(f"{name}_high")
        interval = f"{low:.1f} – {high:.1f}" if finite(low) and finite(high) else ""
        rows.append([title_of(name), figure_text(name, summary[name]), interval])
    return Grid(["figure", "value", "95 % interval"], rows)


def _ordered(names: Iterable[str]) -> list[str]:
    """Known figures in reading order, then the others, each once; what belongs to one figure as it came."""
    places = {name: place for place, name in enumerate(HEADINGS)}
    return sorted(dict.fromkeys(names), key=lambda name: (places.get(_parts(name)[0], len(places)), "." in name))


def title_of(name: str) -> str:
    """What readers call a figure of `summary.json`."""
    whole, part = _parts(name)
    return f"{HEADINGS[whole]} {part}".rstrip() if whole in HEADINGS else name


def _parts(name: str) -> tuple[str, str]:
    """The figure and the part of it: ("zero_shot", "food101") of "zero_shot.food101_before"."""
    figure, _, part = name.removesuffix("_before").partition(".")
    return figure, part


def figure_text(name: str, value: object) -> str:
    """A figure as readers see it; "–" for one that is not known."""
    if name == "tunable_ratio" and finite(value):
        return f"{100 * value:.3g} %"
    if name in ("wall_s", "peak_mb") and finite(value):
        return f"{value:.1f}"
    return _percent(value) if isinstance(value, float | None) else str(value)


def _percent(value: float | None) -> str:
    return f"{value:.2f}" if finite(value) else "–"


def _request_rows(results: RunResults) -> list[dict]:
    names = _ordered(name for row in results.forgets for name in row.request.figures)
    return [_request_row(row, plain(row.request.before), plain(row.request.after), names) for row in results.forgets]


def _request_row(row: SessionResult, before: Mapping, after: Mapping, names: Iterable[str]) -> dict:
    cells = {"session": row.index, "level": row.request.level, "classes": ";".join(row.classes)}
    for name in names:
        cells |= {} if name in SCORES else {f"{name}_before": before.get(name)}
        cells |= {name: after.get(name)}
    return cells


def _class_rows(results: RunResults) -> list[dict]:
    pairs = [(row.index, change) for row in results.forgets for change in row.request.classes]
    return [{"session": session} | plain(asdict(change) | {"change": change.change}) for session, change in pairs]


def _session_rows(results: RunResults) -> list[dict]:
    extras = list(dict.fromkeys(name for row in results.sessions for name in row.extra))
    return [_csv_row(row, extras) for row in results.sessions]


def _csv_row(row: SessionResult, extras: Sequence[str]) -> dict:
    plain = row.to_json()
    cells = {"session": row.index, "kind": row.kind, "first": row.first, "last": row.last}
    cells |= {"classes": ";".join(row.classes), "k": row.k, "images": row.fine.count}
    for level in LEVELS:
        prefix = "" if level == "fine" else "coarse_"
        found = plain[level] or {}
        cells |= {f"{prefix}{name}": found.get(name) for name in ("top1", "top5", "old", "new")}
    return cells | {"seconds": row.seconds} | {name: plain["extra"].get(name) for name in extras}
