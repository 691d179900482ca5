"""The figure of requests is drawn for every shape of run, says what it should, and is the same twice."""

import math
from dataclasses import replace

import pytest
from PIL import Image

from tests.utils.invented import stream
from utils import request_plots
from utils.request_plots import requests


def drawn(path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        assert image.getextrema() != ((255, 255),) * len(image.getbands())
        assert not image.info.get("Software") and "Creation Time" not in image.info
        return image.size


@pytest.mark.parametrize(
    ("kinds", "shape"),
    [
        ("lf", {"forget": 8}),
        ("f", {"forget": 1, "makes": 1, "models": 1}),
        ("lflflflf", {"forget": 2, "makes": 3}),
        ("f", {"forget": 9, "makes": 48, "models": 6}),
    ],
)
def test_every_shape_of_run_is_drawn(kinds, shape, tmp_path):
    requests(tmp_path / "requests.png", stream(kinds, **shape))
    width, height = drawn(tmp_path / "requests.png")
    assert 1500 < width < 2500 and 600 < height < 2200
    assert [path.name for path in tmp_path.iterdir()] == ["requests.png"]


def test_the_same_results_give_the_same_bytes(tmp_path):
    for name in ("one.png", "two.png"):
        requests(tmp_path / name, stream("lf", makes=2))
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_run_without_requests_has_no_such_figure(tmp_path):
    with pytest.raises(ValueError, match="without forget sessions"):
        requests(tmp_path / "requests.png", stream("ll"))
    assert not list(tmp_path.iterdir())


def test_missing_figures_and_classes_are_left_out(tmp_path):
    run = stream("f", makes=2)
    request = run.sessions[0].request
    empty = replace(request.classes[-1], images=0, before=math.nan, after=math.nan)
    some = {"forget_fine": math.nan, "quality": math.nan, "zero_shot": 10.0}
    request = replace(request, before={"retain_fine": 50.0}, after=some, classes=(*request.classes[:-1], empty))
    run.sessions[0] = replace(run.sessions[0], request=request)
    requests(tmp_path / "requests.png", run)
    drawn(tmp_path / "requests.png")
    assert request_plots._figures(request) == ["retain_fine", "zero_shot"]
    assert request_plots._choose(request)[0] == [c for c in request.of_role(*request_plots.ROLES) if c != empty]


def test_a_request_without_classes(tmp_path):
    run = stream("f")
    run.sessions[0] = replace(run.sessions[0], request=replace(run.sessions[0].request, classes=()))
    requests(tmp_path / "requests.png", run)
    drawn(tmp_path / "requests.png")


def test_of_many_classes_those_that_matter_are_chosen():
    request = stream("f", forget=60, makes=48, models=6).sessions[0].request
    shown, note = request_plots._choose(request)
    asked = sorted((c for c in request.classes if c.role == "forget"), key=lambda c: c.change)
    kept = sorted((c for c in request.classes if c.role != "forget"), key=lambda c: c.change)
    assert len(shown) == request_plots.MAX_CLASSES and shown == sorted(shown, key=lambda c: c.change)
    assert {c.name for c in shown if c.role == "forget"} == {c.name for c in asked[-24:]}
    assert {c.name for c in shown if c.role != "forget"} == {c.name for c in kept[:24]}
    others = sorted(c.change for c in (*asked[:-24], *kept[24:]))
    assert note == f"not shown: 240 classes, changes of −{-others[0]:.1f} to +{others[-1]:.1f}"


def test_few_classes_are_all_shown():
    request = stream("f").sessions[0].request
    shown, note = request_plots._choose(request)
    assert sorted(shown, key=str) == sorted(request.classes, key=str) and note == ""


@pytest.mark.parametrize(("change", "text"), [(-8.04, "−8.0"), (2.5, "+2.5"), (0.0, "0")])
def test_how_changes_are_written(change, text):
    assert request_plots._signed(change) == text


def test_long_names_are_cut():
    assert request_plots._short("a" * 28) == "a" * 28
    assert request_plots._short("a" * 29) == "a" * 27 + "…"


def test_roles_have_colours_of_their_own():
    colours = [colour for _, colour in request_plots.ROLES.values()]
    assert len(set(colours)) == len(colours) == 4
