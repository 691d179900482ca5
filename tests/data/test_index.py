"""The jsonl index: round trips, roots, and lines that are not what they should be."""

import json
from pathlib import Path

import pytest

from data.index import Record, read_index, read_set, write_index, write_set
from utils.errors import DataError

RECORDS = [Record("a/1.jpg", "cat", "siamese"), Record("/b/ü 2.png", "chien", "épagneul\u2028\u0085breton")]
GOOD = '{"img_path": "a.png", "coarse_label": "c", "fine_label": "f"}'


def test_records_come_back_as_they_went_also_with_odd_characters(tmp_path):
    file = tmp_path / "train.jsonl"
    write_index(file, RECORDS)
    assert read_index(file) == RECORDS
    lines = file.read_bytes().decode().split("\n")
    assert json.loads(lines[0]) == {"img_path": "a/1.jpg", "coarse_label": "cat", "fine_label": "siamese"}
    assert len(lines) == 3 and lines[2] == ""
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


@pytest.mark.parametrize("text", [GOOD, f"{GOOD}\n", f"\ufeff{GOOD}\r\n"])
def test_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path, text):
    file = tmp_path / "train.jsonl"
    file.write_bytes(text.encode())
    assert read_index(file) == [Record("a.png", "c", "f")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'img_path': 1}", "not JSON"),
        ("", "not JSON"),
        ("[1]", "expected an object with img_path, coarse_label, fine_label, got list"),
        ('{"img_path": "a", "coarse_label": "c"}', "'fine_label' is missing"),
        ('{"img_path": "", "coarse_label": "c", "fine_label": "f"}', "'img_path' is missing or not text"),
        ('{"img_path": "a", "coarse_label": 3, "fine_label": "f"}', "'coarse_label' is missing or not text"),
        ('{"img_path": "a", "coarse_label": "\\ud800", "fine_label": "f"}', "'coarse_label' holds a character that no"),
        (
            '{"img_path": "a\\u0000", "coarse_label": "c", "fine_label": "f"}',
            "'img_path' holds a character that no file",
        ),
        ('{"x": ' * 100_000, "nested too deeply"),
        ('{"x": ' + "1" * 5_000 + "}", "not readable as JSON"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, message):
    file = tmp_path / "train.jsonl"
    file.write_text(f"{GOOD}\n{GOOD}\n{line}\n{GOOD}\n")
    with pytest.raises(DataError, match=message) as caught:
        read_index(file)
    assert str(caught.value).startswith(f"{file}:3: ")


def test_missing_empty_and_undecodable_files(tmp_path):
    file = tmp_path / "train.jsonl"
    with pytest.raises(DataError, match=r"train\.jsonl: no such index"):
        read_index(file)
    for empty in ("", "\n", "\n\n"):
        file.write_text(empty)
        with pytest.raises(DataError, match="empty"):
            read_index(file)
    file.write_bytes(b'{"img_path": "\xff"}\n')
    with pytest.raises(DataError, match=r"not UTF-8 text .* at byte 14"):
        read_index(file)


def small(folder: Path, root: Path, path: str = "x/1.png"):
    records = [Record(path, "c", "f")]
    write_set(folder, root, {"train": records, "test": records}, {"f": ["eff"]})


def test_a_set_inside_its_root_can_be_moved(tmp_path):
    small(tmp_path / "here" / "index", tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    found = read_set("s", tmp_path / "there" / "index")
    assert found.file("train", 0) == (tmp_path / "there/x/1.png").resolve()
    assert found.place("test", 0) == f"{tmp_path / 'there/index/test.jsonl'}:1"
    assert found.aliases == {"f": ["eff"]}


def test_a_root_elsewhere_is_written_in_full(tmp_path):
    small(tmp_path / "sets" / "deep" / "index", tmp_path / "images")
    about = json.loads((tmp_path / "sets/deep/index/set.json").read_text())
    assert about["root"] == str((tmp_path / "images").resolve())
    assert read_set("s", tmp_path / "sets/deep/index").file("train", 0) == (tmp_path / "images/x/1.png").resolve()


def test_another_root_moves_relative_and_absolute_paths_alike(tmp_path):
    images, other = tmp_path / "images", tmp_path / "other"
    for name, path in (("rel", "x/1.png"), ("abs", str(images.resolve() / "x/1.png"))):
        small(tmp_path / name, images, path)
        assert read_set("s", tmp_path / name, other).file("train", 0) == other.resolve() / "x/1.png"
        assert read_set("s", tmp_path / name).file("train", 0) == images.resolve() / "x/1.png"
    small(tmp_path / "out", images, "/elsewhere/1.png")
    assert read_set("s", tmp_path / "out", other, outside=True).file("train", 0) == Path("/elsewhere/1.png")


@pytest.mark.parametrize("path", ["/elsewhere/1.png", "../1.png", "x/../../1.png", "../images2/1.png"])
def test_a_path_that_leads_out_of_the_root_is_refused_with_its_line(tmp_path, path):
    small(tmp_path / "index", tmp_path / "images", path)
    with pytest.raises(
        DataError, match=r"index/train.jsonl:1: image path .* leads out of the set's root .*outside_root"
    ):
        read_set("s", tmp_path / "index")
    read_set("s", tmp_path / "index", outside=True)


def test_a_path_may_wander_inside_the_root(tmp_path):
    small(tmp_path / "index", tmp_path / "images", "x/../y/1.png")
    assert read_set("s", tmp_path / "index").file("train", 0).resolve() == (tmp_path / "images/y/1.png").resolve()


def test_without_set_json_paths_start_at_the_index(tmp_path):
    small(tmp_path, tmp_path)
    (tmp_path / "set.json").unlink()
    assert read_set("s", tmp_path).file("test", 0) == tmp_path.resolve() / "x/1.png"


def test_descriptions_are_read(tmp_path):
    small(tmp_path, tmp_path)
    assert read_set("s", tmp_path).descriptions == {}
    (tmp_path / "set.json").write_text('{"descriptions": {"f": "a striped one"}}')
    assert read_set("s", tmp_path).descriptions == {"f": "a striped one"}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"root": 5}',
        b"\xff\xfe",
        "[" * 100_000,
        '{"root": "\\u0000"}',
        '{"aliases": {"f": "x"}}',
        '{"names": ["a"]}',
        '{"names": {"a": null}}',
        '{"names": {"": "b"}}',
        '{"names": {"a": "\\u0000"}}',
        '{"descriptions": {"f": ["x"]}}',
        '{"descriptions": "x"}',
    ],
)
def test_a_bad_set_json_is_named(tmp_path, content):
    small(tmp_path, tmp_path)
    (tmp_path / "set.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=r"set\.json: "):
        read_set("s", tmp_path)


def test_names_without_images_come_back(tmp_path):
    record = [Record("a.png", "c", "f")]
    write_set(tmp_path / "s", tmp_path, {"train": record, "test": record}, names={"tabby": "cat", "plum": "plum"})
    assert read_set("s", tmp_path / "s").names == {"tabby": "cat", "plum": "plum"}
    assert "aliases" not in json.loads((tmp_path / "s/set.json").read_text())
