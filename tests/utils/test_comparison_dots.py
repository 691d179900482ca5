"""Dots of a comparison: where they lie, in which order, which row is the best, all worked out by hand."""

import re

import pytest

from tests.utils.pages import Page
from utils.comparison import Comparison, Row, Run
from utils.comparison_dots import dots, scale


def row(name: str, *values: float, metric: str = "qu", dataset: str = "toycars") -> Row:
    runs = {seed: Run(None, None, {metric: value}) for seed, value in enumerate(values)}
    return Row({"model_name": name, "dataset": dataset}, runs)


def drawn(*rows: Row, metric: str = "qu") -> Page:
    return Page(dots(Comparison("task", rows, ()), metric))


def lefts(read: Page, kind: str) -> list[float]:
    styles = [i["style"] for i in read.of("i") if i["class"] == kind]
    return [float(re.match(r"left: ([\d.]+)%", style)[1]) for style in styles]


def test_means_and_seeds_lie_on_one_scale_the_best_first():
    read = drawn(row("<b>ad</b>", 62.0, 78.0), row("hinge", 90.0, 94.0), row("none"))
    # a span of 32 is measured in tens: from 60 to 100
    assert [word for word in read.words if word in ("60", "100")] == ["60", "100"]
    assert lefts(read, "is") == [80.0, 25.0] and lefts(read, "seed") == [75.0, 85.0, 5.0, 45.0]
    ways = [i["style"] for i in read.of("i") if i["class"] == "way"]
    assert ways == ["left: 75.00%; width: 10.00%", "left: 5.00%; width: 40.00%"]
    assert [one["class"] for one in read.of("div") if "role-" in one.get("class", "")] == [
        "row role-forget",
        "row role-remote",
    ]
    assert [word for word in read.words if "±" in word] == ["92.00 ± 2.83", "70.00 ± 11.31"]
    assert (
        "<b>ad</b>" in read.words and "none" not in read.words and len(read.of("strong")) == 2
    )  # its name, its figure


def test_less_may_be_better():
    read = drawn(row("slow", 90.0, metric="wall_s"), row("fast", 10.0, metric="wall_s"), metric="wall_s")
    assert [word for word in read.words if word in ("slow", "fast")] == ["fast", "slow"]
    assert not lefts(read, "seed") and lefts(read, "is") == [0.0, 100.0]  # from 10 to 90


def test_rows_are_named_by_what_tells_them_apart():
    assert "hinge" in drawn(row("hinge", 1.0), row("npo", 2.0)).words
    assert "hinge, toycars" in drawn(row("hinge", 1.0), row("npo", 2.0, dataset="faces")).words
    assert "hinge, toycars" in drawn(row("hinge", 1.0)).words


def test_nothing_measured_is_no_picture():
    assert dots(Comparison("task", [row("a")], ()), "qu") is None


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([97.1, 99.4], (97, 100)),
        ([0.0, 100.0], (0, 100)),
        ([3.0], (2, 3)),
        ([99.5, 99.5], (99, 100)),
        ([-4.0, 12.0], (-10, 20)),
    ],
)
def test_the_ends_of_the_scale_are_round(values, ends):
    assert scale(values) == pytest.approx(ends)
