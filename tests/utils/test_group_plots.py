"""`utils.group_plots`: which figures are norms, and that the heat map is drawn, the same twice."""

from dataclasses import replace

import pytest
from PIL import Image

from tests.utils.invented import stream
from utils.group_plots import heat_map, norms
from utils.results import RunResults


def with_norms(results: RunResults, groups: int) -> RunResults:
    """The same run, every forget session with norms of so many groups; the first is zero."""
    extra = {f"group_norm.block {i}": 0.5 * i for i in range(groups)} | {"zero_groups": 1.0, "h": 70.0}
    rows = [replace(row, extra=extra) if row.kind == "forget" else row for row in results.sessions]
    return RunResults(rows)


def test_norms_are_told_from_other_figures():
    learnt, forgot = with_norms(stream("lf"), 3).sessions
    assert norms(forgot) == {"block 0": 0.0, "block 1": 0.5, "block 2": 1.0} and norms(learnt) == {}


@pytest.mark.parametrize(("kinds", "groups"), [("f", 1), ("lflf", 12), ("ffff", 24)])
def test_a_map_is_drawn_the_same_twice(tmp_path, kinds, groups):
    results = with_norms(stream(kinds, forget=2), groups)
    for name in ("one.png", "two.png"):
        heat_map(tmp_path / name, results)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.size[1] > 200 and image.convert("L").getextrema()[0] < 100


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no session of the run has norms"):
        heat_map(tmp_path / "one.png", stream("lf"))
