"""Data of one's own: csv tables, WebDataset shards, and what a tree of images leaves unsaid."""

import io
import json
import logging
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from data.builders import webdataset
from data.builders.labels import find_columns, read_columns, told_apart
from tests.data.test_builders import build, make, rows, write
from utils.errors import ConfigError, DataError

PLAIN = ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")


def picture(shade: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 6), (shade, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


def shard(file: Path, samples: dict[str, dict[str, bytes | str]], mode: str = "w") -> Path:
    """A tar of samples: key → ending → content."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, mode) as tar:
        for key, parts in samples.items():
            for ending, content in parts.items():
                content = content.encode() if isinstance(content, str) else content
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return file


# columns and labels


def test_columns_are_found_by_their_usual_names_or_by_those_given():
    assert find_columns(["File Name", "LABEL", "x"]) == {"image": "File Name", "class": "LABEL"}
    assert find_columns(["label", "class_name", "coarse-label"]) == {"class": "class_name", "parent": "coarse-label"}
    assert find_columns(["id", "label"], read_columns("image = id,class=id")) == {"image": "id", "class": "id"}


@pytest.mark.parametrize("text", ["image", "imgae=id", "image=", "=x"])
def test_columns_that_cannot_be_read_are_refused(text):
    with pytest.raises(ConfigError, match="expected image, class, parent or split"):
        read_columns(text)


def test_a_name_under_two_parents_gets_its_parents():
    pairs = [("Audi", "Coupe"), ("BMW", "Coupe"), ("Audi", "A_7"), ("moss", "moss")]
    labels = [("Audi", "Audi Coupe"), ("BMW", "BMW Coupe"), ("Audi", "A 7"), ("moss", "moss")]
    assert list(told_apart(pairs).values()) == labels


# csv


def test_a_table_with_its_own_split(tmp_path):
    make(tmp_path, "x/1.jpg", "x/2.jpg", "x/3.jpg", "x/10.jpg")
    text = '\ufeffpath;class;parent;split\nx/10.jpg;"ivy; common";leaf;Training\nx/2.jpg;maple;leaf;TEST\n'
    write(tmp_path / "all.csv", text + "\nx/1.jpg;maple;leaf;train\nx/3.jpg;maple;leaf;val\n")
    built = build("csv", tmp_path)
    assert rows(built, "train") == [("x/10.jpg", "leaf", "ivy; common"), ("x/1.jpg", "leaf", "maple")]
    assert rows(built, "test") == [("x/2.jpg", "leaf", "maple")]


def test_a_table_without_a_split_is_divided_by_fraction(tmp_path):
    make(tmp_path / "pictures", *(f"{n}.jpg" for n in range(8)))
    lines = [f"{n}\t{'odd' if n % 2 else 'even'}_one" for n in range(8)]
    table = write(tmp_path / "given.tsv", "\n".join(["id\tkind", *lines]))
    with pytest.raises(DataError, match=r"given.tsv:2: image '0' does not exist in .*pictures"):
        build("csv", tmp_path / "pictures", table=table, columns="image=id,class=kind")
    write(table, table.read_text().replace("\teven", ".jpg\teven").replace("\todd", ".jpg\todd"))
    options = {"table": table, "columns": "image=id,class=kind", "seed": 3}
    built = build("csv", tmp_path / "pictures", **options)
    assert [len(built.splits[split]) for split in ("train", "test")] == [6, 2]
    assert {(record.coarse, record.fine) for record in built.splits["train"]} == {
        (f"{n} one",) * 2 for n in ("even", "odd")
    }
    assert build("csv", tmp_path / "pictures", **options, exclude_small=4) == built
    with pytest.raises(DataError, match="no images"):
        build("csv", tmp_path / "pictures", **options, exclude_small=5)


def test_rows_of_one_image_count_once_and_hidden_tables_not_at_all(tmp_path):
    make(tmp_path, *PLAIN)
    write(tmp_path / "._list.csv", "what a Mac leaves")
    write(tmp_path / "list.csv", "image,label\r\n" + "".join(f"{path},{path[0]}\r\n" * 2 for path in PLAIN))
    built = build("csv", tmp_path)
    assert sorted(rows(built, "train") + rows(built, "test")) == [(path, path[0], path[0]) for path in PLAIN]
    assert [record.fine for record in built.splits["train"]] == ["a", "b"]


def test_a_class_under_two_parents_is_told_of(tmp_path, caplog):
    make(tmp_path, *PLAIN)
    write(tmp_path / "list.csv", "image,label,parent\na/1.jpg,maple,leaf\na/2.jpg,maple,laef\nb/1.jpg,ivy,leaf\n")
    with caplog.at_level(logging.INFO, "lethe"):
        build("csv", tmp_path)
    assert "1 names under several parents have the parent's before them: maple (laef, leaf)" in caplog.text


def test_two_tables_and_one_passed_over(tmp_path, caplog):
    make(tmp_path, *PLAIN)
    for name, image in {"train": "a/1.jpg", "Test": "b/2.jpg", "val": "a/2.jpg"}.items():
        write(tmp_path / f"{name}.csv", f"image,label\n{tmp_path / image},{image[0]}\n")
    with caplog.at_level(logging.INFO, "lethe"):
        built = build("csv", tmp_path)
    assert rows(built, "train") == [("a/1.jpg", "a", "a")] and rows(built, "test") == [("b/2.jpg", "b", "b")]
    assert "passed over beside its train and test tables: val.csv" in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,label\na/1.jpg,a,b\n", ":2: more fields than the header has columns"),
        ("image,label\na/1.jpg\n", ":2: the class is empty"),
        ("image,label,parent\na/1.jpg,a,\n", ":2: the parent is empty"),
        ("image,label\n\na/9.jpg,a\n", ":3: image 'a/9.jpg' does not exist"),
        ("image,label\n../a/1.jpg,a\n", ":2: image '../a/1.jpg' leads out of"),
        ("image,label,split\na/1.jpg,a,tset\n", ":2: split 'tset'; expected train, or test or val"),
        ("image,label,split\na/1.jpg,a,train\n", ": no test images; expected a table"),
        ("image,kind\na/1.jpg,a\n", ":1: no column tells the class among 'image', 'kind'; say which columns do with"),
        ("", ":1: no column tells the image among none"),
        ("image,label\n", ": no images; expected a table"),
        ('image,label\n"a/1.jpg,a\n', ": cannot be read as csv"),
    ],
)
def test_a_wrong_table_is_one_line_with_its_place(text, said, tmp_path):
    make(tmp_path, *PLAIN)
    write(tmp_path / "list.csv", text)
    with pytest.raises(DataError) as caught:
        build("csv", tmp_path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_tables_and_columns_that_are_not_there(tmp_path):
    make(tmp_path, *PLAIN)
    for name in ("one.csv", "two.csv"):
        write(tmp_path / name, "image,label\na/1.jpg,a\n")
    with pytest.raises(DataError, match=r"holds one\.csv, two\.csv; say which with --table"):
        build("csv", tmp_path)
    with pytest.raises(DataError, match=r"one\.csv:1: no column 'kind' among 'image', 'label'"):
        build("csv", tmp_path, table=tmp_path / "one.csv", columns="class=kind")
    with pytest.raises(DataError, match=r"none\.csv: cannot be read as csv \(No such file"):
        build("csv", tmp_path, table=tmp_path / "none.csv")


# WebDataset


def test_shards_of_clip_benchmark(tmp_path, caplog):
    write(tmp_path / "classnames.txt", "Audi A7\nBMW_X5\n")
    for split, shades in {"train": (1, 2, 3), "test": (4, 5)}.items():
        samples = {f"s{n:07d}": {"cls": str(n % 2), "webp": picture(n, "WEBP")} for n in shades}
        shard(tmp_path / split / "0.tar", samples)
    with caplog.at_level(logging.INFO, "lethe"):
        built = build("webdataset", tmp_path)
    assert rows(built, "train") == [
        ("train/0.tar/000001.webp", "Audi A7", "Audi A7"),
        ("train/0.tar/000000.webp", "BMW X5", "BMW X5"),
        ("train/0.tar/000002.webp", "BMW X5", "BMW X5"),
    ]
    assert [record.fine for record in built.splits["test"]] == ["Audi A7", "BMW X5"]
    assert (built.root / "test/0.tar/000001.webp").read_bytes() == picture(5, "WEBP")
    assert f"5 images of 2 shards are in {tmp_path / 'unpacked'}" in caplog.text


def test_shards_with_json_are_divided_and_unpacked_elsewhere_once(tmp_path):
    def sample(n: int) -> dict:
        said = {"label": n % 2, "class_name": ("ivy", "fig")[n % 2], "coarse_label": ("leaf", "fruit")[n % 2]}
        return {"JPG": picture(n, "JPEG"), "json": json.dumps(said), "mask.png": picture(99)}

    for number in range(2):
        samples = {f"../../{number}/{n}": sample(n) for n in range(4)} | {"._1": {"JPG": b"hidden"}}
        shard(tmp_path / "shards" / f"set-{number}.tar.gz", samples, "w:gz")
    built = build("webdataset", tmp_path / "shards", unpack=tmp_path / "there")
    assert built.root == tmp_path / "there" and not (tmp_path / "shards" / "unpacked").exists()
    assert sorted(map(len, built.splits.values())) == [2, 6]
    assert {(r.coarse, r.fine) for r in built.splits["train"]} == {("leaf", "ivy"), ("fruit", "fig")}
    files = sorted(file for file in (tmp_path / "there").rglob("*") if file.is_file())
    assert [str(file.relative_to(built.root)) for file in files] == [
        f"set-{number}.tar.gz/00000{n}.jpg" for number in range(2) for n in range(4)
    ]
    files[0].write_bytes(b"half of")
    times = [file.stat().st_mtime_ns for file in files]
    assert build("webdataset", tmp_path / "shards", unpack=tmp_path / "there") == built
    assert [file.stat().st_mtime_ns == time for file, time in zip(files, times, strict=True)] == [False] + 7 * [True]
    assert files[0].read_bytes() == picture(0, "JPEG")


def test_classes_that_are_numbers_stay_so_and_are_told_of(tmp_path, caplog):
    shard(tmp_path / "a.tar", {str(n): {"png": picture(n), "cls": f"{n % 2}\n"} for n in range(4)})
    assert {record.fine for record in build("webdataset", tmp_path).splits["train"]} == {"0", "1"}
    assert f"{tmp_path}: its classes are numbers; classnames.txt beside the shards would name them" in caplog.text


def test_the_split_of_a_shard_stands_in_its_name(tmp_path):
    for number, name in enumerate(("pets-train-0000.tar", "pets_train_0001.tar", "pets-validation-00.tar")):
        shard(tmp_path / name, {"1": {"png": picture(number), "cls": "train"}})
    built = build("webdataset", tmp_path)
    assert [record.path for record in built.splits["train"]] == [
        "pets-train-0000.tar/000000.png",
        "pets_train_0001.tar/000000.png",
    ]
    assert rows(built, "test") == [("pets-validation-00.tar/000000.png", "train", "train")]
    shard(tmp_path / "more.tar", {"1": {"png": picture(9), "cls": "train"}})
    with pytest.raises(DataError, match=r"more\.tar: tells no split, as other shards do"):
        build("webdataset", tmp_path)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"cls": "0", "json": "{}"}, "sample 'k': has no image, but cls, json"),
        ({"jpg": picture(1)}, "sample 'k': has no class; expected it in .cls, or in .json"),
        ({"jpg": picture(1), "json": '{"caption": "a tree"}'}, "sample 'k': has no class"),
        ({"jpg": picture(1), "json": "{"}, "sample 'k': its .json is not readable"),
        ({"jpg": picture(1), "cls": "7"}, "sample 'k': class 7, of 1 class names"),
    ],
)
def test_a_wrong_sample_is_one_line_with_its_place(parts, said, tmp_path):
    write(tmp_path / "classes.txt", "one")
    shard(tmp_path / "a.tar", {"k": parts})
    with pytest.raises(DataError) as caught:
        build("webdataset", tmp_path)
    assert f"{tmp_path / 'a.tar'}: {said}" in str(caught.value) and "\n" not in str(caught.value)


# a sample takes 512 + 512 bytes for its class and as many for its image
@pytest.mark.parametrize(
    ("name", "mode", "left"),
    [("a.tar", "w", 700), ("a.tar", "w", 3), ("a.tar", "w", 4096), ("a.tar", "w", 4196), ("a.tgz", "w:gz", 150)],
)
def test_a_cut_shard_is_an_error(name, mode, left, tmp_path):
    file = shard(tmp_path / name, {str(n): {"cls": "a" * 300, "png": picture(n)} for n in range(4)}, mode)
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(DataError, match=rf"{name}: no whole tar file"):
        webdataset.build(tmp_path)


# trees


def test_a_tree_says_its_split_in_any_case(tmp_path, caplog):
    make(tmp_path, "Training/a/1.jpg", "TEST/a/2.jpg", "val/a/3.jpg")
    write(tmp_path / "TEST" / "a" / "3.heic", "no suffix of an image")
    with caplog.at_level(logging.INFO, "lethe"):
        built = build("folder", tmp_path)
    assert rows(built, "train") == [("Training/a/1.jpg", "a", "a")] and rows(built, "test") == [
        ("TEST/a/2.jpg", "a", "a")
    ]
    assert f"{tmp_path}: passed over: val/, 1 .heic" in caplog.text


def test_half_a_split_is_refused_and_a_class_called_train_is_not(tmp_path):
    make(tmp_path / "half", "train/a/1.jpg", "train/b/1.jpg")
    with pytest.raises(DataError, match="holds train alone; expected class"):
        build("folder", tmp_path / "half")
    make(
        tmp_path / "whole", "train/1.jpg", "train/2.jpg", "bus/1.jfif", "bus/2.jfif", "test.bak/1.jpg", "test.bak/2.jpg"
    )
    fine = {record.fine for record in build("folder", tmp_path / "whole").splits["train"]}
    assert fine == {"train", "bus", "test.bak"}
