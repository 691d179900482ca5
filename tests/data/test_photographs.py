"""Folders of photographs and files of names from outside: what is in them, and what is wrong with them."""

import pytest
from PIL import Image

from data.photographs import no_two_alike, photographs, read_names
from utils.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """A function that fills a folder with so many images a class, named by path."""

    def fill(**counts: int):
        for place, count in counts.items():
            (tmp_path / "photos" / place).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                Image.new("RGB", (8, 8)).save(tmp_path / "photos" / place / f"{number}.png")
        return tmp_path / "photos"

    return fill


def counted(built) -> dict[str, list[tuple[str, int]]]:
    names = sorted({(record.coarse, record.fine) for split in built.splits.values() for record in split})
    return {
        fine: [coarse, *(sum(record.fine == fine for record in built.splits[split]) for split in ("train", "test"))]
        for coarse, fine in names
    }


def test_classes_and_how_they_split(folder):
    found = photographs(folder(red_car=8, plum=3, fig=2), 0.25)
    assert counted(found) == {"red car": ["red car", 6, 2], "plum": ["plum", 2, 1], "fig": ["fig", 1, 1]}
    assert photographs(folder(), 0.25) == found


def test_parents_and_a_split_of_its_own(folder):
    assert counted(photographs(folder(**{"fruit/plum": 4, "leaf/ivy": 4}), 0.5)) == {
        "plum": ["fruit", 2, 2],
        "ivy": ["leaf", 2, 2],
    }


def test_train_and_test_are_kept_apart(folder):
    assert counted(photographs(folder(**{"train/plum": 3, "val/plum": 1}), 0.5)) == {"plum": ["plum", 3, 1]}


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, r"photos: no such folder of photographs \(seen from"),
        ({"plum": 3, "fig": 0}, "photos/fig: holds no image; expected class"),
        ({"": 3}, "photos: holds no image"),
        ({"train/plum": 3, "test/plum": 0}, "test/plum: holds no image"),
        ({"plum": 3, "fig": 1}, r"photos: 'fig' has 1 image\(s\), 1 to show and 0 to test by; at least 2"),
        ({"train/plum": 2, "test/plum": 1, "test/fig": 2}, "'fig' has 2 image.*, 0 to show and 2 to test by"),
        ({"Plum": 2, "plum": 2}, "the folders 'Plum' and 'plum' name one class; put them together"),
        ({"red_car": 2, "red car": 2}, "the folders 'red car' and 'red_car' name one class"),
        ({"plum": 2, "leaf/ivy": 2}, "2 folders above this image|1 folders above"),
    ],
)
def test_what_is_wrong_is_said(folder, counts, message):
    with pytest.raises(DataError, match=message) as caught:
        photographs(folder(**counts), 0.25)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("a.txt", "\ufeffa plum\n\n  big_fig \n", {"a plum": None, "big fig": None}),
        ("a.json", '["plum", "fig"]', {"plum": None, "fig": None}),
        ("a.json", '{"plum": "fruit", "fig": null}', {"plum": "fruit", "fig": None}),
    ],
)
def test_files_of_names(tmp_path, name, text, names):
    (tmp_path / name).write_text(text)
    assert read_names(tmp_path / name) == names


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("no.txt", None, "no.txt: cannot be read"),
        ("no.json", None, "no.json: cannot be read"),
        ("a.txt", "\n", "a.txt: expected names"),
        ("a.json", "{", "a.json: not readable as JSON"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", '{"a": "b", "a": "c"}', "key 'a' stands there twice"),
        ("a.json", '{"a": 3}', "a.json: expected names"),
        ("a.json", '{"a": ""}', "a.json: expected names"),
        ("a.json", '[" "]', "a.json: expected names"),
        ("a.json", '["a\\u0000"]', "a.json: expected names"),
        ("a.json", '"a"', "a.json: expected names"),
        ("a.txt", "plum\nPlum", "a.txt: 'plum' and 'Plum' are one name to a text tower"),
    ],
)
def test_files_that_hold_no_names(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_names(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_names_that_differ_in_more_than_their_case():
    no_two_alike(["plum", "Plums", "fig"], "here")
    with pytest.raises(DataError, match="here: 'STRASSE' and 'straße'"):
        no_two_alike(["STRASSE", "straße"], "here")
