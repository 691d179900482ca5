"""The figure is drawn for every shape of run, without a display, and the same twice."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.plots import curves, roc
from utils.results import LevelResult, RunResults, SessionResult

ROOT = Path(__file__).parents[2]


def invented(kinds: str, coarse: bool = True) -> RunResults:
    """A run of "l" (learn two classes) and "f" (forget one) sessions with falling accuracies."""
    rows, groups = [], 0
    for index, kind in enumerate(kinds):
        groups += kind == "l"
        shown = tuple(95.0 - 4 * (groups - g) for g in range(groups))
        found = LevelResult(90.0 - index, 97.0, shown, None, None, 50)
        first = 2 * (groups - 1)
        name = "learn" if kind == "l" else "forget"
        rows.append(SessionResult(index, name, first, first + 1, ("a", "b"), found, found if coarse else None, 1.0, 5))
    return RunResults(rows)


@pytest.mark.parametrize("kinds", ["l", "ll", "llflf", "f", "l" * 13, "lf" * 9])
def test_every_shape_of_run_is_drawn(kinds, tmp_path):
    curves(tmp_path / "curves.png", invented(kinds, coarse=len(kinds) != 2))
    with Image.open(tmp_path / "curves.png") as image:
        image.load()
        wide = 2 if "l" in kinds else 1
        assert image.width > wide * 700 and image.height > 500
        assert image.getextrema() != ((255, 255),) * len(image.getbands())
        assert not image.info.get("Software") and "Creation Time" not in image.info
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_the_same_results_give_the_same_bytes(tmp_path):
    for name in ("one.png", "two.png"):
        curves(tmp_path / name, invented("llfl"))
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_missing_figures_are_left_blank(tmp_path):
    nothing = LevelResult(float("nan"), float("nan"), (float("nan"),), None, None, 0)
    run = invented("l")
    run.sessions.append(SessionResult(1, "forget", 1, 1, ("a",), nothing, None, 1.0, 5))
    curves(tmp_path / "curves.png", run)
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_a_forget_session_is_tinted(tmp_path):
    colours = {}
    for kinds in ("lll", "llf"):
        curves(tmp_path / f"{kinds}.png", invented(kinds))
        with Image.open(tmp_path / f"{kinds}.png") as image:
            counted = image.convert("RGB").getcolors(1 << 20)
        # the band: more red and blue than green, pale
        colours[kinds] = sum(n for n, (r, g, b) in counted if r - g > 8 and b - g > 4 and min(r, g, b) > 200)
    assert colours["lll"] < 500 and colours["llf"] > 20_000


def test_nothing_heavy_is_imported_with_the_modules():
    code = (
        "import sys, utils.plots, utils.request_plots, utils.results, utils.tables, utils.metrics, utils.unlearning;"
        "sys.exit(', '.join({'matplotlib', 'torch', 'scipy', 'PIL'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_pyplot_stays_out(tmp_path):
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'tests/utils');"
        "from test_plots import invented; from utils.plots import curves;"
        f"curves(Path({str(tmp_path / 'curves.png')!r}), invented('l'));"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("rates", [([0.0, 0.0, 0.01, 1.0], [0.0, 0.4, 0.9, 1.0]), ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])])
def test_the_curve_of_a_verification_is_drawn_twice_the_same(rates, tmp_path):
    far, tar = map(np.array, rates)
    for name in ("one.png", "two.png"):
        roc(tmp_path / name, far, tar, 0.95)
    with Image.open(tmp_path / "one.png") as image:
        image.load()
        assert image.width > 700 and image.getextrema() != ((255, 255),) * len(image.getbands())
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
