"""`main.py report`: a page beside the run or where it is asked for; shown by a browser where one is at hand."""

import shutil
import subprocess

import pytest

from tests.support import contents, lethe
from tests.utils.invented import leave, stream
from tests.utils.pages import Page

BROWSERS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
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


def test_what_is_no_run_is_refused(refused, folder):
    assert "no run is here" in refused("report", "nowhere")
    (folder / "summary.json").unlink()
    assert "not finished" in refused("report", folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it_without_sideways_scrolling(folder, tmp_path, width):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"needs a headless Chromium, one of: {', '.join(BROWSERS)}")
    assert lethe("report", folder, "--out", tmp_path / "page.html") == 0
    root, charts = "document.documentElement", "document.querySelectorAll('svg').length"
    asks = f"<script>document.title = [{root}.clientWidth, {root}.scrollWidth, {charts}]</script>"
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(text.replace("</body>", f"{asks}</body>"), encoding="utf-8")
    words = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},900",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    shown = subprocess.run(
        [browser, *words, "--dump-dom", f"file://{tmp_path / 'page.html'}"], capture_output=True, text=True, timeout=120
    )
    inner, scroll, charts = map(int, shown.stdout.partition("<title>")[2].partition("</title>")[0].split(","))
    assert width - 20 < inner == scroll <= width and charts > 1  # a scroll bar takes up to 20
