"""`main.py report`: a page beside the run or where it is asked for; shown by a browser where one is at hand."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.browser import Browser, find
from tests.support import contents, lethe
from tests.utils.invented import leave, stream
from tests.utils.pages import Page
from utils.album import Exemplar, album_name, album_text
from utils.answers import Answer
from utils.atomic import write_text
from utils.feature_map import Spot
from utils.results import RunResults

LONG = "Ostara_Canyon_of_a_name_that_never_ends_" * 3


@pytest.fixture
def folder(tmp_path):
    return leave(tmp_path / "run", stream("lflf", forget=3, makes=4, models=4), about=LONG, prefix=LONG)


def test_a_page_in_the_runs_folder(folder):
    before = contents(folder)
    assert lethe("report", folder) == 0
    after = contents(folder)
    assert after.keys() - before.keys() == {"report.html"} and before.items() <= after.items()
    assert "adapter on toycars" in Page((folder / "report.html").read_text(encoding="utf-8")).words


def test_a_page_elsewhere_of_several_runs(folder, tmp_path):
    other = leave(tmp_path / "other", stream("lf"), seed=3)
    assert lethe("report", folder, other, "--out", tmp_path / "deep" / "page.html") == 0
    assert "2 runs" in Page((tmp_path / "deep" / "page.html").read_text(encoding="utf-8")).words
    assert not (folder / "report.html").exists()


def test_a_real_run(mixed, tmp_path):
    folder, _ = mixed
    assert lethe("report", folder, "--out", tmp_path / "page.html") == 0
    read = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert len(read.of("img")) == len(list(folder.glob("*.png"))) >= 2 and "Ostara Meadow" in read.words
    assert read.words.count("Map of the features") == 2 and read.of("polygon")


def test_what_is_no_run_is_refused(refused, folder):
    assert "no run is here" in refused("report", "nowhere")
    (folder / "summary.json").unlink()
    assert "not finished" in refused("report", folder)
    assert not (folder / "report.html").exists()


# in a browser


def jpeg() -> str:
    """A small picture in base64."""
    file = io.BytesIO()
    Image.new("RGB", (96, 96), "teal").save(file, "JPEG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def shown(tmp_path):
    """A browser, and a page of every part that a report can have."""
    browser = Browser(tmp_path)
    spots = [
        Spot(name, (place * 0.1, 0.0), (0.0, place * 0.1))
        for place, name in enumerate(("Veltro Arrow", "Veltro Harbor"))
    ]
    cells = (Answer("Veltro Arrow", "Veltro Arrow", 18, 0), Answer("Veltro Arrow", LONG, 2, 20))
    run = stream("lflf", forget=3, makes=4, models=4)
    rows = [
        replace(row, request=row.request and replace(row.request, spots=tuple(spots), answers=cells))
        for row in run.sessions
    ]
    folder = leave(tmp_path / "run", RunResults(rows), about=LONG, prefix=LONG)
    words = (("Veltro Arrow", 97.0), (LONG, 3.0))
    write_text(folder / "history" / album_name(1), album_text([Exemplar("Veltro Arrow", jpeg(), words, words[::-1])]))
    Image.fromarray(np.zeros((300, 900, 3), dtype=np.uint8)).save(folder / "curves.png")
    assert lethe("report", folder, "--out", tmp_path / "page.html") == 0
    return browser, tmp_path / "page.html"


@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it_without_sideways_scrolling_and_fetches_nothing(shown, width):
    browser, page = shown
    fares = browser.fares(page, width)
    assert fares["inner"] == fares["scroll"] == width and fares["charts"] > 8
    assert not [name for name in fares["fetched"] if not name.startswith("data:")]


def test_a_browser_finds_every_section(shown):
    browser, page = shown
    found = browser.dom(page)
    for title in (
        "What was asked",
        "Accuracy after each session",
        "Before (pale) and after",
        "What images of the forgotten classes are called",
        "Map of the features",
        "Exemplars, and the likeliest names for each",
        "Every class before (ring) and after (dot)",
        "All figures",
        "Summary",
        "Settings that are not the default",
        "Pictures that the run drew",
    ):
        assert found.count(f">{title}") >= 1, title


def test_a_browsers_picture_has_colours(shown, tmp_path):
    browser, page = shown
    browser.picture(page, tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as picture:
        assert picture.size == (1000, 1600)
        colours = {
            colour for count, colour in picture.convert("RGB").quantize(64).convert("RGB").getcolors() if count > 50
        }
    apart = [max(colour) - min(colour) for colour in colours]
    assert (tmp_path / "page.png").stat().st_size > 30_000 and max(apart) > 100  # neither blank nor grey


def test_a_missing_browser_is_said_and_not_passed_over_where_one_is_needed(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("LETHE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        find()
    monkeypatch.delenv("LETHE_BROWSER")
    with pytest.raises(pytest.skip.Exception, match="not tested"):
        find()
