"""Data sets by name."""

import shutil
from pathlib import Path

import pytest

from data.builders import BUILDERS, get_builder
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


@pytest.mark.parametrize("name", sorted(set(BUILDERS) - {"folder"}))
def test_a_set_that_a_builder_makes_says_how_to_come_by_it(name, tmp_path):
    with pytest.raises(DataError) as caught:
        find_set(name, tmp_path / "sets")
    message, layout = str(caught.value), get_builder(name).LAYOUT
    assert message.startswith(f"key 'dataset': '{name}' is not in {tmp_path / 'sets'}/ yet; get the data from ")
    assert layout.source in message and layout.expects in message and "\n" not in message
    assert (f"'python main.py prepare {name} --root DIR --download'" in message) is layout.offered
    assert f"python main.py prepare {name} --root DIR" in message


def test_compcars_names_its_experiment_on_the_embedded_world(tmp_path):
    with pytest.raises(DataError, match=r"on the embedded world: python main\.py --config exps/forget_toycars_adap"):
        find_set("compcars", tmp_path)


def test_what_runs_without_the_data_is_there():
    commands = {get_builder(name).LAYOUT.instead for name in BUILDERS} - {""}
    assert len(commands) == 2
    for command in commands:
        assert (Path(__file__).parents[2] / command.split("--config ")[1]).is_file(), command


def test_an_indexed_set_hides_its_builders_help(draw_set, tmp_path):
    draw_set(tmp_path / "drawn").folder.rename(tmp_path / "compcars")
    assert find_set("compcars", tmp_path).name == "compcars"


def test_the_key_that_names_the_set_is_named(tmp_path):
    for name in ("food101", "foot101"):
        with pytest.raises(DataError, match="key 'zero_shot': "):
            find_set(name, tmp_path, key="zero_shot")


def test_what_is_listed_without_an_index(tmp_path):
    listed = list_sets(tmp_path / "none")
    assert listed.keys() == set(WORLD_SETS)
    assert all(line and "\n" not in line for line in listed.values())
