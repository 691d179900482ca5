"""The map of features as SVG: the same images as the original sees them and as the model after the request does."""

from collections.abc import Collection, Mapping, Sequence

from utils.feature_map import Spot
from utils.html import Markup, element, joined, name
from utils.svg import mark

SHAPES = {"remote": 0, "adjacent": 1, "forget": 2}  # drawn in this order: what was to go lies on top
WIDTH, HEIGHT, EDGE = 300, 250, 14
LABELLED = 4  # as many forgotten classes are named on the map itself; more would hide it
LETTER = 6.5  # width of a letter, so that a name stays within
Point = tuple[float, float]


def feature_map(spots: Sequence[Spot], roles: Mapping[str, str], titles: Mapping[str, str]) -> Markup:
    """Two panels with one scale, and a key.

    Args:
        spots: at least one.
        roles: class → one of `SHAPES`.
        titles: what readers call the roles.
    """
    frame = _Frame([point for spot in spots for point in (spot.before, spot.after)])
    there = [role for role in SHAPES if any(roles[spot.name] == role for spot in spots)]
    groups = [(role, spot.name) for role in there for spot in spots if roles[spot.name] == role]
    panels = [_panel(side, spots, dict.fromkeys(groups), frame) for side in ("before", "after")]
    return element("figure", element("div", *panels, class_="panels"), _key(there[::-1], titles))


class _Frame:
    """Coordinates → pixels, the same for both directions, everything in the middle."""

    def __init__(self, points: Sequence[Point]):
        ends = [(min(values), max(values)) for values in zip(*points, strict=True)]
        self.middle = [(low + high) / 2 for low, high in ends]
        rooms = zip((WIDTH, HEIGHT), ends, strict=True)
        self.scale = min((room - 2 * EDGE) / max(high - low, 1e-9) for room, (low, high) in rooms)

    def place(self, point: Point) -> Point:
        (x, y), (a, b) = point, self.middle
        return WIDTH / 2 + self.scale * (x - a), HEIGHT / 2 - self.scale * (y - b)


def _panel(side: str, spots: Sequence[Spot], groups: Collection[tuple[str, str]], frame: _Frame) -> Markup:
    drawn = []
    for role, known in groups:
        points = [frame.place(getattr(spot, side)) for spot in spots if spot.name == known]
        marks = [mark(SHAPES[role], *point) for point in points]
        drawn.append(element("g", element("title", known), *marks, class_=f"role-{role}"))
    drawn += _labels(side, spots, [known for role, known in groups if role == "forget"], frame)
    said = f"features {side}, a mark an image"
    picture = element("svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=said)
    return element("div", element("b", side), picture, class_="panel")


def _labels(side: str, spots: Sequence[Spot], classes: Sequence[str], frame: _Frame) -> list[Markup]:
    """The names of a few forgotten classes, each above the middle of its images."""
    if len(classes) > LABELLED:
        return []
    found = []
    for known in classes:
        x, y = (sum(v) / len(v) for v in zip(*(getattr(s, side) for s in spots if s.name == known), strict=True))
        x, y = frame.place((x, y))
        half = min(WIDTH / 2, LETTER * len(known) / 2)
        x = min(max(x, half), WIDTH - half)
        found.append(element("text", known, x=f"{x:.1f}", y=f"{y:.1f}"))
    return found


def _key(roles: Sequence[str], titles: Mapping[str, str]) -> Markup:
    def entry(role: str) -> Markup:
        sample = element("svg", mark(SHAPES[role], 6, 6), viewBox="0 0 12 12", aria_hidden="true")
        return element("span", joined(sample, name(titles[role])), class_=f"role-{role}")

    return element("figcaption", *map(entry, roles), class_="key")
