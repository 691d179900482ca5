"""The index check on sets with known faults."""

from pathlib import Path

import pytest
from PIL import Image

from data.check import KINDS, check_set, report_table
from data.index import IndexedSet, Record, read_set, write_set


def picture(file: Path, shade: int, size: tuple[int, int] = (12, 8)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = Image.effect_noise(size, 40)
    Image.merge("RGB", (noise, noise, Image.new("L", size, shade))).save(file)


def record(path: str, coarse: str = "") -> Record:
    fine = path.split("/")[0]
    return Record(path, coarse or fine, fine)


@pytest.fixture
def sound(tmp_path) -> IndexedSet:
    """Two classes, three training images and one test image each."""
    splits = {"train": [], "test": []}
    for shade, name in enumerate(("cat", "dog")):
        for number in range(4):
            path = f"{name}/{number}.png"
            picture(tmp_path / path, 10 * shade + number, (12, 8 + number))
            splits["test" if number == 3 else "train"].append(record(path))
    return changed(tmp_path, splits)


def changed(root: Path, splits: dict) -> IndexedSet:
    write_set(root / "index", root, splits)
    return read_set("pets", root / "index")


def kinds(report) -> list[str]:
    return [problem.kind for problem in report.problems]


@pytest.mark.parametrize("decode", [True, False])
def test_a_sound_set_has_no_problems(sound, decode):
    report = check_set(sound, decode=decode)
    assert report.problems == ()
    train, test = report.splits["train"], report.splits["test"]
    assert (train.images, train.fine, train.coarse, train.per_class) == (6, 2, 2, (3, 3, 3))
    assert train.short_side == (8, 9, 10)
    assert (test.images, test.per_class, test.short_side) == (2, (1, 1, 1), (11, 11, 11))
    size = sum(sound.file("train", at).stat().st_size for at in range(6))
    assert train.megabytes == pytest.approx(size / 1e6)


def test_missing_and_damaged_files_are_named_with_their_lines(sound):
    sound.file("train", 1).unlink()
    sound.file("train", 4).write_text("no image")
    sound.file("test", 0).write_bytes(b"")
    report = check_set(sound)
    assert [(problem.kind, problem.place) for problem in report.problems] == [
        ("missing", f"{sound.folder}/train.jsonl:2"),
        ("damaged", f"{sound.folder}/train.jsonl:5"),
        ("damaged", f"{sound.folder}/test.jsonl:1"),
    ]
    assert report.problems[0].text == f"{sound.file('train', 1)}: No such file or directory"
    assert report.problems[1].text.endswith("4".replace("4", "1.png: not an image"))
    assert report.unusable == list(report.problems)
    assert report.warnings == []


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_truncated_images_are_found_by_decoding_only(suffix, tmp_path):
    for number in range(3):
        picture(tmp_path / f"cat/{number}.{suffix}", number, (64, 64))
    broken = tmp_path / f"cat/1.{suffix}"
    broken.write_bytes(broken.read_bytes()[:-200])
    indexed = changed(
        tmp_path, {"train": [record(f"cat/{n}.{suffix}") for n in (0, 1)], "test": [record(f"cat/2.{suffix}")]}
    )
    assert [problem.place for problem in check_set(indexed).unusable] == [f"{indexed.folder}/train.jsonl:2"]
    if suffix != "webp":  # its header already fails
        assert check_set(indexed, decode=False).problems == ()


def test_a_flipped_byte_inside_a_png_is_found(sound):
    data = bytearray(sound.file("train", 2).read_bytes())
    data[len(data) // 2] ^= 0xFF
    sound.file("train", 2).write_bytes(data)
    assert kinds(check_set(sound)) == ["damaged"]


def test_classes_with_too_few_images_are_placed_at_their_first_line(sound):
    train = [r for r in sound.splits["train"] if r.path != "cat/1.png" and r.path != "cat/2.png"]
    fox = record("fox/0.png")
    picture(sound.root / fox.path, 77)
    report = check_set(changed(sound.root, {"train": train, "test": [sound.splits["test"][0], fox]}))
    assert [(problem.kind, problem.place.rpartition("/")[2], problem.text) for problem in report.problems] == [
        ("few", "train.jsonl:1", "'cat' has 1 training image"),
        ("untested", "train.jsonl:2", "'dog' has no test image"),
        ("untrained", "test.jsonl:2", "'fox' has no training image"),
    ]
    assert report.unusable == []


def test_test_images_that_are_training_images_too(sound):
    copy = sound.root / "dog/copy.png"
    copy.write_bytes(sound.file("train", 0).read_bytes())
    again, twin = record("cat/../dog/0.png"), Record("dog/copy.png", "dog", "dog")
    again = Record(again.path, "dog", "dog")
    splits = {"train": sound.splits["train"], "test": [*sound.splits["test"], again, twin]}
    report = check_set(changed(sound.root, splits))
    assert [(problem.kind, problem.place.rpartition("/")[2]) for problem in report.problems] == [
        ("same file", "test.jsonl:3"),
        ("same content", "test.jsonl:4"),
    ]
    assert report.problems[0].text.endswith("train.jsonl:4")
    assert report.problems[1].text.endswith("train.jsonl:1")


def test_a_fine_label_under_two_parents(sound):
    splits = {**sound.splits, "test": [Record(r.path, "beast", r.fine) for r in sound.splits["test"]]}
    report = check_set(changed(sound.root, splits))
    assert [problem.place.rpartition("/")[2] for problem in report.problems] == ["test.jsonl:1", "test.jsonl:2"]
    assert report.problems[0].text == "'cat' stands under 'beast' here and under 'cat' before"


def test_the_table_counts_every_kind_and_names_five(sound):
    for at in range(6):
        sound.file("train", at).unlink()
    table = report_table(check_set(sound))
    assert "| train | 6 | 2 | 2 | 3 / 3 / 3 | 0 / 0 / 0 | 0.0 |" in table
    assert f"{KINDS['missing']} (6):" in table
    assert table.count("train.jsonl:") == 5
    assert "- … and 1 more" in table
    assert KINDS["damaged"] not in table


def test_the_order_of_a_report_does_not_depend_on_threads(sound):
    for at in range(6):
        sound.file("train", at).write_bytes(b"x")
    reports = [check_set(sound) for _ in range(3)]
    assert reports[0] == reports[1] == reports[2]
