"""Data sets by name."""

import shutil

import pytest

from data.registry import find_set, list_sets
from data.world import WORLD_SETS
from utils.errors import DataError


def test_an_indexed_set_by_the_name_of_its_folder(draw_set, tmp_path):
    draw_set(tmp_path / "pets").folder.rename(tmp_path / "sets")
    (tmp_path / "sets").rename(tmp_path / "pets" / "own")
    found = find_set("own", tmp_path / "pets")
    assert (found.name, found.folder) == ("own", tmp_path / "pets" / "own")
    assert found.file("train", 0).is_file()
    assert list_sets(tmp_path / "pets") == list_sets(tmp_path) | {"own": f"indexed in {tmp_path / 'pets' / 'own'}"}


def test_another_root_for_the_images(pets, tmp_path):
    shutil.copytree(pets.folder, tmp_path / "sets" / "pets")
    found = find_set("pets", tmp_path / "sets", pets.root)
    assert found.file("test", 0) == pets.file("test", 0)


def test_the_embedded_miniature_is_there(toymini):
    assert (len(toymini.splits["train"]), len(toymini.splits["test"])) == (12 * 6, 12 * 4)
    assert len({record.fine for record in toymini.splits["train"]}) == 12
    assert len({record.coarse for record in toymini.splits["train"]}) == 4
    for split, records in toymini.splits.items():
        assert all(toymini.file(split, position).is_file() for position in range(len(records)))


def test_an_unknown_set_names_the_nearest_and_writes_nothing(tmp_path):
    with pytest.raises(DataError, match=r"'toycar' .*did you mean 'toycars'.*prepare folder"):
        find_set("toycar", tmp_path / "sets", cache=tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_what_is_listed_without_an_index(tmp_path):
    listed = list_sets(tmp_path / "none")
    assert listed.keys() == set(WORLD_SETS)
    assert all(line and "\n" not in line for line in listed.values())
