"""Folders that are there whole or not at all."""

import stat
from pathlib import Path

import pytest

from utils.atomic import whole_folder


def test_a_folder_comes_with_everything_in_it(tmp_path):
    place = tmp_path / "deep" / "place"
    with whole_folder(place) as folder:
        (folder / "file").write_text("x")
        assert not place.exists() and folder.name == "place"
    assert (place / "file").read_text() == "x"
    assert [found.name for found in place.parent.iterdir()] == ["place"]
    (tmp_path / "other").mkdir()
    assert stat.S_IMODE(place.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_one_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "place") as folder:
        (folder / "file").write_text("x")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_it_takes_the_place_of_an_empty_one_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("place").mkdir()
    with whole_folder(Path("place")) as folder:
        (folder / "file").write_text("x")
    assert Path("place/file").is_file()
    with pytest.raises(OSError, match="not empty"), whole_folder(Path("place")) as folder:
        (folder / "other").write_text("y")
    assert [found.name for found in tmp_path.rglob("*")] == ["place", "file"]
