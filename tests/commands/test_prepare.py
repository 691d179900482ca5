"""`prepare` from its arguments to the index, the summary and the errors."""

import argparse
import json
import logging
from pathlib import Path

import pytest
from PIL import Image

from commands import prepare
from data.builders import BUILDERS, get_builder, options_of
from data.index import read_set
from utils.errors import ConfigError, DataError, WriteError


def call(*words) -> int:
    parser = argparse.ArgumentParser()
    prepare.add_arguments(parser)
    return prepare.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two classes of eight images."""
    root = tmp_path / "my photos"
    for shade, name in enumerate(("red_car", "blue_car")):
        (root / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (8, 8), (shade * 100, number, 0)).save(root / name / f"{number}.png")
    return root


def test_folder_is_indexed_checked_and_reported(photos, tmp_path, capsys, caplog):
    with caplog.at_level(logging.INFO, "lethe"):
        assert call("folder", "--root", photos, "--out", tmp_path / "sets", "--test-fraction", "0.5") == 0
    out = capsys.readouterr().out
    assert "my photos, all images decoded" in out
    assert "| train | 8 | 2 | 2 | 4 / 4 / 4 | 8 / 8 / 8 |" in out
    assert "8 train, 8 test images indexed" in caplog.text
    indexed = read_set("photos", tmp_path / "sets" / "my photos")
    assert {record.fine for record in indexed.splits["train"]} == {"red car", "blue car"}
    assert all(indexed.file("test", at).is_file() for at in range(8))


def test_the_set_can_be_named_and_written_again(photos, tmp_path):
    words = ("folder", "--root", photos, "--out", tmp_path, "--name", "cars", "--no-decode")
    call(*words)
    first = (tmp_path / "cars" / "train.jsonl").read_bytes()
    call(*words)
    assert (tmp_path / "cars" / "train.jsonl").read_bytes() == first
    call(*words, "--seed", 8)
    assert (tmp_path / "cars" / "train.jsonl").read_bytes() != first


def test_what_was_written_about_classes_stays_when_a_set_is_prepared_again(photos, tmp_path):
    words = ("folder", "--root", photos, "--out", tmp_path, "--name", "cars")
    call(*words)
    about = tmp_path / "cars" / "set.json"
    told = {"descriptions": {"red car": "a car like a fire engine"}, "names": {"van": "car", "blue car": "car"}}
    about.write_text(json.dumps(json.loads(about.read_text()) | told))
    call(*words)
    again = read_set("cars", tmp_path / "cars")
    assert again.descriptions == told["descriptions"] and again.root == photos
    assert again.names == {"van": "car"}  # the other one has images
    about.write_text("{")
    with pytest.raises(DataError, match=r"set\.json: not readable as JSON"):
        call(*words)


def test_a_table_is_named_as_its_root(photos, tmp_path):
    (photos / "list.csv").write_text("file,label\nred_car/0.png,red\nred_car/1.png,red\n")
    assert call("csv", "--root", photos, "--out", tmp_path) == 0
    assert [record.fine for record in read_set("x", tmp_path / "my photos").splits["test"]] == ["red"]


def test_aliases_reach_the_index(tmp_path):
    from data.builders.dog_breeds import breeds

    for wnid in breeds():
        for half in ("train", "val"):
            folder = tmp_path / "imagenet" / half / wnid
            folder.mkdir(parents=True)
            Image.new("L", (4, 4), 5).save(folder / "0.png")
    assert call("imagenet_dogs", "--root", tmp_path / "imagenet", "--out", tmp_path, "--per-class", 1) == 0
    assert json.loads((tmp_path / "imagenet_dogs/set.json").read_text())["aliases"]["Boston terrier"] == ["Boston bull"]


def test_warnings_do_not_fail(photos, tmp_path, capsys):
    twin = photos / "red_car" / "0.png"
    for number in range(8):
        (photos / "blue_car" / f"{number}.png").write_bytes(twin.read_bytes())
    assert call("folder", "--root", photos, "--out", tmp_path) == 0
    assert "same content" in capsys.readouterr().out


def test_damaged_files_are_an_error_that_names_five(photos, tmp_path, capsys):
    for number in range(7):
        (photos / "red_car" / f"{number}.png").write_text("x")
    with pytest.raises(DataError) as caught:
        call("folder", "--root", photos, "--out", tmp_path, "--name", "cars")
    message = str(caught.value)
    assert "\n" not in message
    assert "cars: 7 files are missing or damaged" in message
    assert message.count(".jsonl:") == 5
    assert message.endswith("and 2 more")
    assert "files are no whole images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("folders",), DataError, "did you mean 'folder'"),
        (("cub", "--keep", "x.txt"), ConfigError, "prepare cub has no --keep; it takes no options"),
        (("imagenetr", "--per-class", "3"), ConfigError, "it takes --test-fraction, --seed"),
        (("cub", "--download"), DataError, "cub cannot be downloaded from here; get the data from the CUB"),
        (("folder", "--name", "a/b"), ConfigError, "holds no slash"),
        (("cub",), DataError, "images.txt: not found; expected"),
    ],
)
def test_wrong_requests_end_in_one_line_and_write_nothing(words, error, message, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(error) as caught:
        call(*words, "--root", tmp_path / "data", "--out", tmp_path / "sets")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sets").exists()


def test_a_root_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder; expected .*get the data from"):
        call("food101", "--root", tmp_path / "nowhere")


def test_a_place_that_cannot_be_written_is_one_line(photos, tmp_path):
    (tmp_path / "sets").write_text("a file")
    with pytest.raises(WriteError, match="sets"):
        call("folder", "--root", photos, "--out", tmp_path / "sets")


def test_every_option_of_every_builder_has_its_flag():
    flags = {flag.replace("-", "_") for flag in prepare.OPTIONS} | {"download"}
    taken = {option for name in BUILDERS for option in options_of(get_builder(name))}
    assert taken == flags


def test_the_help_lists_every_builder(capsys):
    with pytest.raises(SystemExit):
        call("--help")
    out = capsys.readouterr().out
    assert all(name in out for name in BUILDERS)
    assert prepare.HELP.count("\n") == 0
