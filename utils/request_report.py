"""The part of a report that shows one forget request: its figures before and after, and what became of each class."""

from collections.abc import Sequence

from utils import tables
from utils.album import Exemplar, Words
from utils.html import Markup, element, joined, name, names, table
from utils.map_svg import feature_map
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
MOST_CALLED = 4  # names that the images of a class are called
OPEN = 20  # as many classes to forget, and as many to keep, are shown at once, the others when asked for


def request_part(row: SessionResult, album: Sequence[Exemplar] = ()) -> Markup:
    """A forget session that was measured as a request.

    Args:
        row: with its `request`.
        album: some of its exemplars, where the run kept them.
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
        _answers(request),
        _map(request),
        _album(request, album),
        element("h4", "Every class before (ring) and after (dot), %"),
        *_classes(request),
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
    """The confusion of the forgotten classes: what the images of each are called, and what share of them."""
    asked = list(dict.fromkeys(cell.name for cell in request.answers))
    if not asked:
        return None
    whole = [
        _twice(request, known, *(_called(request, known, side) for side in ("before", "after"))) for known in asked
    ]
    more = element("details", element("summary", f"{len(whole) - OPEN} more classes"), _cards(whole[OPEN:]))
    title = "What images of the forgotten classes are called, % of them"
    return joined(element("h4", title), _cards(whole[:OPEN]), more if len(whole) > OPEN else None)


def _called(request: RequestResult, known: str, side: str) -> Words:
    """The commonest names, then the others together."""
    counts = {cell.said: getattr(cell, side) for cell in request.answers if cell.name == known}
    ranked = sorted((said for said in counts if counts[said]), key=lambda said: -counts[said])
    shares = {said: 100 * counts[said] / sum(counts.values()) for said in ranked}
    rest = ranked[MOST_CALLED:]
    found = [(said, shares[said]) for said in ranked[:MOST_CALLED]]
    return (*found, *([(f"{len(rest)} other names", sum(shares[said] for said in rest))] if rest else []))


def _album(request: RequestResult, album: Sequence[Exemplar]) -> Markup | None:
    """Pictures beside the words for them."""
    cards = [
        element("div", element("img", src=f"data:image/jpeg;base64,{one.picture}", alt=""), words, class_="exemplar")
        for one in album
        for words in [_twice(request, one.name, one.before, one.after)]
    ]
    title = "Exemplars, and the likeliest names for each, %"
    return joined(element("h4", title), _cards(cards)) if cards else None


def _cards(found: Sequence[Markup]) -> Markup:
    return element("div", *found, class_="pairs")


def _twice(request: RequestResult, known: str, before: Words, after: Words) -> Markup:
    """Names with their shares before and after, under the name of what is shown."""
    sides = [
        element("div", element("small", title), *(_share(request, *word) for word in words))
        for title, words in (("before", before), ("after", after))
    ]
    return element("div", element("b", name(known)), element("div", *sides, class_="sides"), class_="twice")


def _share(request: RequestResult, said: str, share: float) -> Markup:
    role = request.roles.get(said, "other")
    words = [element("span", name(said)), element("b", f"{share:.0f}")]
    return element("div", *words, class_=f"share role-{role}", style=f"--share: {share:.0f}%")


def _map(request: RequestResult) -> Markup | None:
    """Where the test images lie."""
    if not request.spots:
        return None
    words = (
        "Test images in the plane in which the original's features differ most (a PCA of features of unit length), as "
        "the original sees them and as the model after the request does."
    )
    drawn = feature_map(request.spots, request.roles, ROLES)
    return joined(element("h4", "Map of the features"), drawn, element("p", words, class_="note"))


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
