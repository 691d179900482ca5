"""The part of a report that shows one forget request: its figures before and after, and what became of each class."""

from collections.abc import Sequence

from utils import tables
from utils.formats import Grid
from utils.html import Markup, element, joined, name, names, table
from utils.plain import finite
from utils.results import REQUEST_FIGURES, SCORES, ClassChange, RequestResult, SessionResult

# a figure of the bars → the role whose colour it has
BARS = {
    "forget_fine": "forget",
    "forget_coarse": "forget",
    "retain_fine": "remote",
    "retain_coarse": "remote",
    "adjacent_fine": "adjacent",
    "remote_fine": "remote",
    "past_fine": "past",
    "zero_shot": "other",
}
ROLES = {"forget": "forgotten", "adjacent": "adjacent", "remote": "remote", "past": "forgotten before"}
OPEN = 20  # as many classes to forget, and as many to keep, are shown at once, the others when asked for


def request_part(row: SessionResult) -> Markup:
    """A forget session that was measured as a request.

    Args:
        row: with its `request`.
    """
    request = row.request
    title = f"Session {row.index}: {len(row.classes)} forgotten, level {request.level}"
    tasks = tables.tasks_grid([row])
    return joined(
        element("h3", title),
        element("p", names(row.classes)),
        _scores(request),
        element("h4", "Before (pale) and after, %"),
        _bars(request),
        element("h4", "Every class before (ring) and after (dot), %"),
        *_classes(request),
        _answers(request),
        element("h4", "All figures; in brackets the 95 % interval"),
        table(tables.requests_grid([row])),
        joined(element("h4", tables.BY_TASK), table(tasks)) if tasks else None,
    )


def _scores(request: RequestResult) -> Markup:
    known = [key for key in SCORES if finite(request.after.get(key))]
    tiles = [joined(element("b", f"{request.after[key]:.1f}"), element("span", REQUEST_FIGURES[key])) for key in known]
    return element("div", *(element("div", tile, class_="tile") for tile in tiles), class_="tiles")


def _bars(request: RequestResult) -> Markup:
    return element("div", *(_pair(key, request) for key in BARS if key in request.measured), class_="rows")


def _pair(key: str, request: RequestResult) -> Markup:
    stays = key == "forget_coarse" and request.level == "fine"  # the parent of a forgotten class
    role = "remote" if stays else BARS[key]
    note = element("small", "is to stay") if stays else None
    bars = [_bar(side, values.get(key)) for side, values in (("before", request.before), ("after", request.after))]
    return element(
        "div",
        element("div", REQUEST_FIGURES[key], note, class_="label"),
        element("div", *bars),
        class_=f"row role-{role}",
    )


def _bar(side: str, value: float | None) -> Markup | None:
    if not finite(value):
        return None
    bar = element("i", style=f"width: {0.8 * value:.2f}%")  # a fifth is left for the number
    return element("div", bar, f"{value:.1f}", class_=f"bar {side}")


def _classes(request: RequestResult) -> list[Markup | None]:
    """Forgotten classes, those that fell least first; then the others, those that lost most first."""
    gone, kept = request.of_role("forget")[::-1], request.of_role("adjacent", "remote")
    first, later = gone[:OPEN] + kept[:OPEN], gone[OPEN:] + kept[OPEN:] + request.of_role("past")
    roles = dict.fromkeys(change.role for change in first + later)
    key = [element("span", element("b", "●", class_="own"), ROLES[role], class_=f"role-{role}") for role in roles]
    more = element("details", element("summary", f"{len(later)} more classes"), _dumbbells(later)) if later else None
    return [element("div", *key, class_="key"), _dumbbells(first), more]


def _answers(request: RequestResult) -> Markup | None:
    """The confusion of the forgotten classes, a row a class: what its images are called, and how many."""
    asked = dict.fromkeys(cell.name for cell in request.answers)
    rows = [[known, *(_called(request, known, side) for side in ("before", "after"))] for known in asked]
    title = "What images of the forgotten classes are called, and how many"
    return joined(element("h4", title), table(Grid(["class", "before", "after"], rows, texts=3))) if rows else None


def _called(request: RequestResult, known: str, side: str) -> str:
    counts = {cell.said: getattr(cell, side) for cell in request.answers if cell.name == known}
    ranked = sorted((said for said in counts if counts[said]), key=lambda said: -counts[said])
    return ", ".join(f"{said} {counts[said]}" for said in ranked) or "–"


def _dumbbells(changes: Sequence[ClassChange]) -> Markup:
    return element("div", *map(_dumbbell, changes), class_="rows")


def _dumbbell(change: ClassChange) -> Markup:
    known = [value for value in (change.before, change.after) if finite(value)]
    marks = []
    if len(known) == 2:
        left, right = sorted(known)
        marks.append(element("i", class_="way", style=f"left: {left:.2f}%; width: {right - left:.2f}%"))
    for kind, value in (("was", change.before), ("is", change.after)):
        marks.append(element("i", class_=kind, style=f"left: {value:.2f}%") if finite(value) else None)
    words = " → ".join(f"{value:.1f}" if finite(value) else "–" for value in (change.before, change.after))
    under = None if change.parent == change.name else element("small", change.parent)
    label = element("div", name(change.name), under, class_="label")
    return element(
        "div", label, element("div", *marks, element("b", words), class_="track"), class_=f"row role-{change.role}"
    )
