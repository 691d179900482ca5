"""`main.py predict`: names and shares below each file; mistakes in one line."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.forgetting import FORGET, MEADOW
from tests.support import SIMPLE, at_work, experiment, lethe, only_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Iterator[Path]:
    """A run that took a moment, and two pictures where it was started."""
    with at_work(tmp_path_factory.mktemp("finished"), tmp_path_factory) as base:
        assert lethe("--config", experiment(SIMPLE, sessions=[{"learn": 7}])) == 0
        for name in "ab":
            Image.effect_noise((80, 80), 60 if name == "a" else 10).convert("RGB").save(f"{name}.png")
        yield base / only_run()


def test_five_names_a_picture(finished, capsys):
    assert lethe("predict", finished, "a.png", "b.png", "--device", "cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[6]] == ["a.png", "b.png"] and len(lines) == 12
    shares = [float(re.fullmatch(r" {1,3}(\d+\.\d) %  \S.*", line)[1]) for line in lines[1:6]]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100.3


def test_the_makes(finished, capsys):
    assert lethe("predict", finished, "a.png", "--level", "coarse", "--top", "99", "--device", "cpu") == 0
    assert {line.split("%  ")[1] for line in capsys.readouterr().out.splitlines()[1:]} <= {
        "Veltro",
        "Ostara",
        "Brandle",
        "Corvane",
    }


def test_what_was_to_be_forgotten_is_marked(workplace, capsys):
    assert lethe("--config", experiment(FORGET, model_name="head_only", zero_shot=[])) == 0
    Image.new("RGB", (70, 70)).save("a.png")
    assert lethe("predict", only_run(), "a.png", "--top", "99", "--device", "cpu") == 0
    marked = [line for line in capsys.readouterr().out.splitlines() if line.endswith("(was to be forgotten)")]
    assert len(marked) == 1 and MEADOW in marked[0]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("nowhere", "a.png"), "nowhere: no run is here; give a folder that holds a config.json, such as logs/…/RUN"),
        (("RUN", "c.png"), "c.png: no such image"),
        (("RUN", "a.png", "--top", "0"), "--top 0: at least one name is needed"),
    ],
)
def test_mistakes_end_in_one_line(finished, refused, words, reason):
    assert reason in refused("predict", *(finished if word == "RUN" else word for word in words))
