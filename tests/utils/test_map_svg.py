"""The map as SVG: every image twice, roles told by shape and colour, one scale, nothing outside."""

import re

import pytest

from tests.utils.pages import Page
from utils.feature_map import Spot
from utils.map_svg import HEIGHT, LABELLED, WIDTH, feature_map

ROLES = {"<b>Gone": "forget", "Near": "adjacent", "Far": "remote"}
TITLES = {"forget": "forgotten", "adjacent": "adjacent", "remote": "remote"}
SPOTS = [
    Spot("<b>Gone", (0.0, 0.0), (2.0, 1.0)),
    Spot("<b>Gone", (0.2, 0.0), (2.0, 1.2)),
    Spot("Near", (-1.0, 0.0), (-1.0, 0.5)),
    Spot("Far", (1.0, -1.0), (1.0, -1.0)),
]


def places(read: Page, tag: str) -> list[tuple[float, float]]:
    """The middles of all marks of a kind, those of the key left out, in order."""
    texts = [
        (mark["cx"], mark["cy"]) if tag == "circle" else re.findall(r"-?[\d.]+", mark["transform"])
        for mark in read.of(tag)
    ]
    found = [(float(x), float(y)) for x, y in texts]
    return [place for place in found if place != (6.0, 6.0)]


def test_every_image_is_there_before_and_after_with_the_shape_of_its_role():
    read = Page(feature_map(SPOTS, ROLES, TITLES))
    assert len(read.of("svg")) == 2 + 3 and len(places(read, "circle")) == 2
    corners = [mark["points"].count(",") for mark in read.of("polygon")]
    assert sorted(corners) == [3] * 5 + [4] * 3  # triangles twice two and one in the key, squares twice one and one
    assert {group["class"] for group in read.of("g")} == {"role-forget", "role-adjacent", "role-remote"}
    assert {"forgotten", "adjacent", "remote", "before", "after"} <= set(read.words)
    assert read.words.count("<b>Gone") == 4  # the title of a group and a label, on both sides


def test_both_panels_have_one_scale_and_up_is_more():
    read = Page(feature_map(SPOTS, ROLES, TITLES))
    (x0, y0), (x1, y1) = places(read, "circle")
    assert (x0, y0) == (x1, y1)  # it has not moved
    triangles = [place for place in places(read, "polygon") if place[0] > 0]
    left, right = min(triangles), max(triangles)
    assert 0 < left[0] < right[0] < WIDTH and all(0 < y < HEIGHT for _, y in triangles)
    # from (1, -1) to (2, 1.2): 1 to the right and 2.2 up, in the same measure
    high = min(triangles, key=lambda place: place[1])
    assert (y0 - high[1]) / (high[0] - x0) == pytest.approx(2.2, abs=0.05)


def test_one_image_alone_lies_in_the_middle():
    read = Page(feature_map([Spot("Far", (3.0, 3.0), (3.0, 3.0))], ROLES, TITLES))
    assert places(read, "circle") == [(WIDTH / 2, HEIGHT / 2)] * 2
    assert "forgotten" not in read.words and "remote" in read.words


def test_names_stay_inside_and_many_are_left_to_the_pointer():
    long = {f"{n} a class with a long name": "forget" for n in range(LABELLED)}
    few = [Spot(known, (float(n), 0.0), (0.0, float(n))) for n, known in enumerate(long)]
    for text in Page(feature_map(few, long, TITLES)).of("text"):
        assert 80 < float(text["x"]) < WIDTH - 80
    more = long | {"one more": "forget"}
    read = Page(feature_map([*few, Spot("one more", (0.0, 0.0), (0.0, 0.0))], more, TITLES))
    assert not read.of("text") and "one more" in read.words
