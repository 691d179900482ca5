"""Line charts: every figure has its point, at the height it ought to have; lines differ in more than colour."""

import math

import pytest

from tests.utils.pages import Page
from utils.svg import Line, line_chart


def points(read: Page) -> list[list[tuple[float, float]]]:
    lines = [line["points"].split() for line in read.of("polyline")]
    return [[tuple(map(float, pair.split(","))) for pair in line] for line in lines]


def test_points_lie_where_the_axis_says():
    read = Page(line_chart("t", [Line("fine", [100.0, 40.0, math.nan, 70.0])]))
    ((first, second, last),) = points(read)
    assert first[1] < last[1] < second[1]  # higher on the page is smaller
    assert last[1] == pytest.approx((first[1] + second[1]) / 2, abs=0.11)  # 70 lies halfway from 100 to 40
    assert last[0] - second[0] == pytest.approx(2 * (second[0] - first[0]), abs=0.3)  # the unknown step keeps its place
    ticks = {text for text in read.words if text.isdigit()}
    assert {"100", "40"} <= ticks or {"100", "20"} <= ticks


def test_every_point_says_its_figure():
    read = Page(line_chart("t", [Line("a", [99.0, 98.25]), Line("b <c>", [97.0, 96.0])]))
    assert "a, session 1: 98.25" in read.words and "b <c>, session 0: 97.00" in read.words


def test_lines_are_told_apart_by_shape_and_dash_and_named():
    read = Page(line_chart("t", [Line(f"line {n}", [90.0, 80.0]) for n in range(9)]))
    looks = [(line["class"], line.get("stroke-dasharray")) for line in read.of("g")]
    assert [look[0] for look in looks[:8]] == [f"s{n}" for n in range(8)]
    dashes = [line.get("stroke-dasharray") for line in read.of("polyline")]
    assert dashes[:8] == [None] * 8 and dashes[8] is not None
    assert len({mark.get("points") for mark in read.of("polygon")}) == 3 and read.of("circle")
    assert all(f"line {n}" in read.words for n in range(9))


def test_forget_sessions_are_tinted_and_long_streams_have_few_ticks():
    read = Page(line_chart("t", [Line("a", [90.0] * 100)], tinted=[3, 50]))
    assert len(read.of("rect")) == 2
    assert sum(text.isdigit() for text in read.words) < 20 and len(read.of("circle")) == 101


@pytest.mark.parametrize("values", [[50.0], [math.nan, math.nan], [0.0, 100.0], [99.99, 100.0]])
def test_odd_streams_are_drawn(values):
    read = Page(line_chart("t", [Line("a", values)]))
    assert len(read.of("circle")) == sum(map(math.isfinite, values)) + 1  # and one in the key
    assert all(0 <= y <= 210 for line in points(read) for _, y in line)


def test_no_line_is_no_chart():
    with pytest.raises(ValueError, match="needs a line"):
        line_chart("t", [])
