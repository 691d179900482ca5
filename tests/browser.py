"""A headless Chromium: what it makes of a page that a command wrote.

`.ci/run` sets LETHE_BROWSER, so that its tests fail where there is no browser; elsewhere they say so and are skipped.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome", "google-chrome-stable")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=3000",
)
# the page, in a frame as wide as a phone, tells the page around it how it fares
ASKS = """<script>addEventListener("load", () => parent.postMessage(JSON.stringify({
  inner: document.documentElement.clientWidth,
  scroll: document.documentElement.scrollWidth,
  charts: document.querySelectorAll("svg").length,
  fetched: performance.getEntriesByType("resource").map(entry => entry.name),
}), "*"))</script>"""
AROUND = """<!doctype html><html><head><title>waiting</title></head><body style="margin: 0"><script>
addEventListener("message", event => { document.title = event.data })</script>
<iframe src="inner.html" style="width: %dpx; height: 2000px; border: 0"></iframe></body></html>"""


def find() -> str:
    """The browser; a test that has none is skipped, or fails where one has to be there."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    missing = f"no browser is here ({', '.join(NAMES)}): how pages look is not tested; apt-get install chromium"
    if found is None and os.environ.get("LETHE_BROWSER"):
        pytest.fail(missing)
    return found or pytest.skip(missing)


class Browser:
    """Shows pages.

    Args:
        folder: an empty one, for its profile and copies of pages.
    """

    def __init__(self, folder: Path):
        self.program, self.folder = find(), folder

    def dom(self, page: Path) -> str:
        """The page's elements once it is shown, as HTML."""
        return self._run("--dump-dom", page.resolve().as_uri())

    def fares(self, page: Path, width: int) -> dict:
        """How a page fares in a window of so many pixels: `inner` and `scroll` width, `charts`, what it `fetched`."""
        text = page.read_text(encoding="utf-8")
        (self.folder / "inner.html").write_text(text.replace("</body>", f"{ASKS}</body>"), encoding="utf-8")
        around = self.folder / "around.html"
        around.write_text(AROUND % width, encoding="utf-8")
        return json.loads(self.dom(around).partition("<title>")[2].partition("</title>")[0])

    def picture(self, page: Path, file: Path, width: int = 1000, height: int = 1600) -> None:
        """A picture of a page's upper part, as PNG."""
        self._run(f"--screenshot={file.resolve()}", f"--window-size={width},{height}", page.resolve().as_uri())

    def _run(self, *words: str) -> str:
        profile = self.folder / "profile"
        shutil.rmtree(profile, ignore_errors=True)
        command = [self.program, *QUIET, f"--user-data-dir={profile}", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
