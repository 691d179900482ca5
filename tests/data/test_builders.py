"""Every builder on a tiny tree in its set's own layout."""

import hashlib
import json
import pickle
import urllib.error
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from data.builders import BUILDERS, casia100, cifar, describe, get_builder, options_of, wordnet
from data.builders.base import natural, read_rows, readable
from data.builders.dog_breeds import breeds
from data.builders.trees import draw, split_by_fraction
from data.index import Record
from data.timeline import Catalogue, timeline
from utils.errors import ConfigError, DataError
from utils.requests import ForgetRequest

DIFFICULT = (
    "German short-haired pointer, Boston terrier, West Highland white terrier, Labrador retriever, golden retriever, "
    "German shepherd dog, keeshond, Samoyed, Pomeranian, Border terrier"
)
MEDIUM = (
    "Irish setter, Gordon setter, basset hound, Airedale terrier, Shih-Tzu, miniature pinscher, Alaskan malamute, "
    "flat-coated retriever, Chesapeake Bay retriever, Sealyham terrier"
)
EASY = (
    "English setter, beagle, whippet, Ibizan hound, Dandie Dinmont terrier, standard poodle, Border collie, "
    "Blenheim spaniel, cairn terrier, Doberman, groenendael"
)
FAKE_NAMES = {"n01440764": "tench", "n01443537": "goldfish", "n01484850": "great white shark"}


def make(root: Path, *paths: str) -> Path:
    """Small images of one colour each at the given paths below a root."""
    for number, path in enumerate(paths):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number % 256, len(path) % 256, 0)).save(file)
    return root


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def rows(built, split: str) -> list[tuple[str, str, str]]:
    return [(record.path, record.coarse, record.fine) for record in built.splits[split]]


def build(name: str, root: Path, **options):
    built = get_builder(name).build(root, **options)
    for records in built.splits.values():
        assert all((built.root / record.path).is_file() for record in records)
    return built


# the table


@pytest.mark.parametrize("name", BUILDERS)
def test_every_builder_says_what_is_missing_and_where_it_comes_from(name, tmp_path):
    layout = get_builder(name).LAYOUT
    with pytest.raises(DataError) as caught:
        get_builder(name).build(tmp_path)
    assert layout.expects in str(caught.value)
    assert layout.source in str(caught.value)
    assert "\n" not in str(caught.value)
    assert layout.offered == ("download" in options_of(get_builder(name)))


def test_an_unknown_builder_offers_the_nearest():
    assert list(describe()) == list(BUILDERS)
    with pytest.raises(DataError, match="did you mean 'caltech101'"):
        get_builder("caltech10")


# names, rows, draws


def test_natural_order_and_readable_names():
    assert sorted(["a10", "a9", "B1", "a09"], key=natural) == ["a09", "a9", "a10", "B1"]
    assert sorted(["2", "x", "10"], key=natural) == ["2", "10", "x"]
    assert readable("  wild__cat_ ") == "wild cat"


def test_a_short_row_is_named_by_its_line(tmp_path):
    file = write(tmp_path / "rows.txt", "1 one\n\n2\n")
    with pytest.raises(DataError, match=r"rows\.txt:3: expected 2 columns, got '2'"):
        read_rows(file, 2)


def test_a_draw_hangs_on_seed_and_path_alone():
    records = [Record(f"x/{number}.jpg", "x", "x") for number in range(40)]
    drawn = draw(records, 10, seed=3)
    assert len(drawn) == 10
    assert drawn == sorted(drawn, key=records.index)
    assert set(draw(records[::-1], 10, seed=3)) == set(drawn)
    assert draw(records, 10, seed=4) != drawn
    without = [record for record in records if record != drawn[0]]
    assert set(drawn[1:]) < set(draw(without, 10, seed=3))


@pytest.mark.parametrize(
    ("images", "fraction", "held"), [(8, 0.25, 2), (3, 0.1, 1), (3, 0.9, 2), (2, 0.5, 1), (1, 0.5, 0)]
)
def test_every_class_keeps_one_training_and_gives_one_test_image(images, fraction, held):
    splits = split_by_fraction([Record(f"{n}.jpg", "a", "a") for n in range(images)], fraction, seed=0)
    assert (len(splits["train"]), len(splits["test"])) == (images - held, held)


# folder


def test_folder_with_one_level_is_split_by_fraction(tmp_path):
    make(tmp_path, *(f"wild_cat/{n}.jpg" for n in range(12)), *(f"dog/{n}.png" for n in range(4)), ".hidden/0.jpg")
    write(tmp_path / "dog" / "notes.txt", "no image")
    make(tmp_path, "dog/._0.png")
    built = build("folder", tmp_path, seed=5)
    assert Counter(record.fine for record in built.splits["train"]) == {"dog": 3, "wild cat": 9}
    assert Counter(record.fine for record in built.splits["test"]) == {"dog": 1, "wild cat": 3}
    assert {record.coarse for record in built.splits["test"]} == {"dog", "wild cat"}
    paths = [record.path for split in built.splits.values() for record in split]
    assert sorted(paths) == sorted([f"wild_cat/{n}.jpg" for n in range(12)] + [f"dog/{n}.png" for n in range(4)])
    train = [record.path for record in built.splits["train"] if record.fine == "wild cat"]
    assert train == sorted(train, key=natural)
    assert build("folder", tmp_path, seed=5) == built
    assert build("folder", tmp_path, seed=6) != built


def test_folder_with_two_levels_and_its_own_split(tmp_path):
    make(tmp_path, "train/Audi/A7/1.jpg", "train/BMW/X5/1.jpg", "val/BMW/X5/2.jpg", "val/Audi/A7/2.jpg")
    built = build("folder", tmp_path)
    assert rows(built, "train") == [("train/Audi/A7/1.jpg", "Audi", "A7"), ("train/BMW/X5/1.jpg", "BMW", "X5")]
    assert rows(built, "test") == [("val/Audi/A7/2.jpg", "Audi", "A7"), ("val/BMW/X5/2.jpg", "BMW", "X5")]


def test_folder_prefers_test_to_val(tmp_path):
    make(tmp_path, "train/a/1.jpg", "val/a/2.jpg", "test/a/3.jpg")
    assert rows(build("folder", tmp_path), "test") == [("test/a/3.jpg", "a", "a")]


def test_folder_puts_the_parent_before_a_name_that_two_parents_share(tmp_path):
    make(tmp_path, "train/Audi/Coupe/1.jpg", "train/BMW/X5/1.jpg", "test/BMW/Coupe/1.jpg", "test/BMW/X5/2.jpg")
    built = build("folder", tmp_path)
    assert [record.fine for record in built.splits["train"]] == ["Audi Coupe", "X5"]
    assert [record.fine for record in built.splits["test"]] == ["BMW Coupe", "X5"]


def test_folder_leaves_out_small_classes(tmp_path):
    make(tmp_path, "a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "b/2.jpg")
    built = build("folder", tmp_path, exclude_small=3)
    assert {record.fine for split in built.splits.values() for record in split} == {"a"}
    with pytest.raises(DataError, match=": no images; expected"):
        build("folder", tmp_path, exclude_small=9)


@pytest.mark.parametrize("stray", ["a/1.jpg", "loose.jpg", "a/b/c/1.jpg"])
def test_folder_refuses_mixed_depths(stray, tmp_path):
    make(tmp_path, "x/y/1.jpg", stray)
    with pytest.raises(DataError, match="folders above"):
        build("folder", tmp_path)


def test_folder_refuses_a_fraction_outside_of_0_to_1(tmp_path):
    make(tmp_path, "a/1.jpg", "a/2.jpg")
    with pytest.raises(ConfigError, match="--test-fraction 1"):
        build("folder", tmp_path, test_fraction=1)


# CIFAR


@pytest.fixture
def cifar_batches(tmp_path, monkeypatch):
    """CIFAR-100's pickled batches, four training and two test images, with the checksums that torchvision expects."""
    from torchvision.datasets import CIFAR100

    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    names = sorted(name.replace(" ", "_") for group in cifar.SUPERCLASSES.values() for name in group.split(", "))
    images = np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)
    contents = {
        "train": {"data": images[:4], "fine_labels": [0, 1, 0, 99]},
        "test": {"data": images[4:], "fine_labels": [99, 0]},
        "meta": {"fine_label_names": names},
    }
    sums = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]})
    return images


def test_cifar_is_written_as_png_once(tmp_path, cifar_batches):
    built = build("cifar224", tmp_path)
    assert rows(built, "train") == [
        ("cifar100-png/train/apple/00000.png", "fruit and vegetables", "apple"),
        ("cifar100-png/train/apple/00002.png", "fruit and vegetables", "apple"),
        ("cifar100-png/train/aquarium fish/00001.png", "fish", "aquarium fish"),
        ("cifar100-png/train/worm/00003.png", "non-insect invertebrates", "worm"),
    ]
    assert [record.fine for record in built.splits["test"]] == ["apple", "worm"]
    written = np.asarray(Image.open(tmp_path / "cifar100-png/train/aquarium fish/00001.png"))
    assert (written == cifar_batches[1].reshape(3, 32, 32).transpose(1, 2, 0)).all()
    for file in (tmp_path / "cifar-100-python").iterdir():
        file.unlink()
    assert build("cifar100", tmp_path) == built
    assert not (tmp_path / "cifar100-png.part").exists()


def test_a_damaged_cifar_batch_is_an_error(tmp_path, cifar_batches):
    (tmp_path / "cifar-100-python" / "test").write_bytes(b"damaged")
    with pytest.raises(DataError, match="missing or damaged"):
        build("cifar224", tmp_path)
    assert not (tmp_path / "cifar100-png").exists()


def test_cifar_has_20_superclasses_of_5():
    groups = [names.split(", ") for names in cifar.SUPERCLASSES.values()]
    assert [len(group) for group in groups] == [5] * 20
    assert len({name for group in groups for name in group}) == 100


# CUB

CUB = {
    "images.txt": "1 001.Black_footed_Albatross/x_0001.jpg\n2 001.Black_footed_Albatross/x_0002.jpg\n"
    "3 002.Laysan_Albatross/y_0001.jpg\n4 004.Groove_billed_Ani/z_0001.jpg\n",
    "classes.txt": "1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n4 004.Groove_billed_Ani\n",
    "image_class_labels.txt": "1 1\n2 1\n3 2\n4 4\n",
    "train_test_split.txt": "1 1\n2 0\n3 1\n4 0\n",
}


def make_cub(root: Path) -> Path:
    for name, text in CUB.items():
        write(root / name, text)
    make(root / "images", *(line.split()[1] for line in CUB["images.txt"].splitlines()))
    return root


@pytest.mark.parametrize("home", ["", "CUB_200_2011"])
def test_cub_reads_its_own_lists(home, tmp_path):
    make_cub(tmp_path / home)
    built = build("cub", tmp_path)
    start = f"{home}/images" if home else "images"
    assert rows(built, "train") == [
        (f"{start}/001.Black_footed_Albatross/x_0001.jpg", "Albatross", "Black footed Albatross"),
        (f"{start}/002.Laysan_Albatross/y_0001.jpg", "Albatross", "Laysan Albatross"),
    ]
    assert rows(built, "test") == [
        (f"{start}/001.Black_footed_Albatross/x_0002.jpg", "Albatross", "Black footed Albatross"),
        (f"{start}/004.Groove_billed_Ani/z_0001.jpg", "Ani", "Groove billed Ani"),
    ]


def test_cub_in_pilots_layout(tmp_path):
    make(tmp_path, "train/001.Black_footed_Albatross/a.jpg", "test/001.Black_footed_Albatross/b.jpg")
    built = build("cub", tmp_path)
    assert rows(built, "test") == [("test/001.Black_footed_Albatross/b.jpg", "Albatross", "Black footed Albatross")]


def test_cub_names_a_missing_or_unfitting_list(tmp_path):
    make_cub(tmp_path)
    write(tmp_path / "train_test_split.txt", "1 1\n2 0\n3 1\n")
    with pytest.raises(DataError, match=r"images\.txt: image 4"):
        build("cub", tmp_path)
    (tmp_path / "train_test_split.txt").unlink()
    with pytest.raises(DataError, match=r"train_test_split\.txt: not found.*vision\.caltech\.edu"):
        build("cub", tmp_path)


# ImageNet and its variants


@pytest.fixture
def fake_names(monkeypatch):
    for module in ("wordnet", "imagenet", "imagenet100", "imagenet900"):
        monkeypatch.setattr(f"data.builders.{module}.imagenet_names", lambda: dict(FAKE_NAMES))


@pytest.mark.parametrize(("name", "home"), [("imagenetr", "imagenet-r"), ("imageneta", "imagenet-a")])
def test_imagenet_variants_in_their_own_layout(name, home, tmp_path):
    make(tmp_path / home, *(f"{wnid}/art_{n}.jpg" for wnid in ("n01443537", "n01484850") for n in range(10)))
    write(tmp_path / home / "README.txt", "Some words.\n\nn01443537 goldfish\nn01484850 great_white_shark\n")
    built = build(name, tmp_path)
    assert Counter(record.fine for record in built.splits["train"]) == {"goldfish": 8, "great white shark": 8}
    assert Counter(record.fine for record in built.splits["test"]) == {"goldfish": 2, "great white shark": 2}
    assert built.splits["train"][0].path.startswith(f"{home}/n01443537/art_")


def test_imagenet_variants_in_pilots_layout(tmp_path, fake_names):
    make(tmp_path, "train/n01443537/a.jpg", "train/n09999999/a.jpg", "test/n01443537/b.jpg")
    built = build("imagenetr", tmp_path)
    assert rows(built, "train") == [
        ("train/n01443537/a.jpg", "goldfish", "goldfish"),
        ("train/n09999999/a.jpg", "n09999999", "n09999999"),
    ]
    assert rows(built, "test") == [("test/n01443537/b.jpg", "goldfish", "goldfish")]


def test_imagenet_takes_val_as_test_and_wants_it_sorted(tmp_path, fake_names):
    make(tmp_path, "train/n01440764/a.JPEG", "train/n01443537/a.JPEG", "val/loose.JPEG")
    with pytest.raises(DataError, match="val/n01440764: not found"):
        build("imagenet", tmp_path)
    make(tmp_path, "val/n01440764/b.JPEG", "val/n01443537/b.JPEG")
    built = build("imagenet", tmp_path)
    assert [record.fine for record in built.splits["train"]] == ["tench", "goldfish"]
    assert rows(built, "test")[1] == ("val/n01443537/b.JPEG", "goldfish", "goldfish")


def test_imagenet100_from_a_list(tmp_path, fake_names):
    make(tmp_path, *(f"{half}/{wnid}/{half}.JPEG" for half in ("train", "val") for wnid in FAKE_NAMES))
    classes = write(tmp_path / "classes.txt", "n01484850 great white shark\nn01440764\n")
    built = build("imagenet100", tmp_path, classes=classes)
    assert [record.fine for record in built.splits["train"]] == ["great white shark", "tench"]
    write(classes, "n01484850\nn01443538\n")
    with pytest.raises(DataError, match=r"classes\.txt:2.*'n01443538'.*did you mean.*n01443537"):
        build("imagenet100", tmp_path, classes=classes)
    with pytest.raises(DataError, match="needs 100 classes, train/ has 3"):
        build("imagenet100", tmp_path)


def test_imagenet900_is_what_imagenet100_leaves_out(tmp_path, fake_names):
    make(tmp_path, *(f"{half}/{wnid}/{n}.JPEG" for half in ("train", "val") for wnid in FAKE_NAMES for n in (1, 2)))
    classes = write(tmp_path / "classes.txt", "n01484850\n")
    built = build("imagenet900", tmp_path, classes=classes)
    assert rows(built, "train") == [(f"train/{wnid}/1.JPEG", name, name) for wnid, name in list(FAKE_NAMES.items())[:2]]
    assert [record.fine for record in built.splits["test"]] == ["tench", "tench", "goldfish", "goldfish"]
    write(classes, "\n".join(FAKE_NAMES))
    with pytest.raises(DataError, match="no train images"):
        build("imagenet900", tmp_path, classes=classes)


def test_imagenet100_shuffles_as_the_toolboxes_do(tmp_path, fake_names):
    """The start of the order of 100 classes that seed 1993 gives is printed in many logs of PyCIL."""
    for half in ("train", "val"):
        for number in range(100):
            make(tmp_path, f"{half}/n{number:08d}/1.png")
    built = build("imagenet100", tmp_path)
    assert [int(record.fine[1:]) for record in built.splits["test"]][:10] == [68, 56, 78, 8, 23, 84, 90, 65, 74, 76]
    assert len({record.fine for record in built.splits["train"]}) == 100


def test_imagenet_names_are_1000_different_ones_and_the_breeds_are_what_wordnet_says():
    from timm.data import ImageNetInfo

    names = wordnet.imagenet_names()
    assert len(names) == len(set(names.values())) == 1000
    assert names["n01440764"] == "tench"
    assert (names["n04008634"], names["n04355933"]) == ("projectile", "sunglass")
    info = ImageNetInfo("imagenet-1k")
    for wnid, (_, breed, _) in breeds().items():
        lemmas = info.index_to_description(info.label_names().index(wnid)).casefold().split(", ")
        assert breed.casefold() in lemmas, breed


def test_breeds_are_99_in_14_groups_and_hold_every_published_request():
    table = breeds()
    assert len(table) == 99
    assert len({breed for _, breed, _ in table.values()}) == 99
    assert Counter(group for group, _, _ in table.values()) == {
        "terrier": 25, "hound": 19, "shepherd dog": 12, "toy dog": 8, "spaniel": 7, "retriever": 5, "spitz": 4,
        "sennenhunde": 4, "setter": 3, "pinscher": 3, "poodle dog": 3, "pointer": 2, "sled dog": 2, "corgi": 2,
    }  # fmt: skip
    requested = ", ".join((DIFFICULT, MEDIUM, EASY)).split(", ")
    assert len(requested) == 31
    assert set(requested) <= {breed for _, breed, _ in table.values()}
    others = Counter(name for _, _, names in table.values() for name in names)
    assert set(others.values()) == {1}
    assert not set(others) & {breed for _, breed, _ in table.values()}


def test_imagenet_dogs_draws_exemplars_and_keeps_every_test_image(tmp_path):
    for wnid in breeds():
        make(tmp_path, *(f"train/{wnid}/{n}.png" for n in range(4)), f"val/{wnid}/0.png")
    make(tmp_path, "train/n01440764/0.png", "val/n01440764/0.png")
    built = build("imagenet_dogs", tmp_path, per_class=3, seed=1)
    assert set(Counter(record.fine for record in built.splits["train"]).values()) == {3}
    assert len(built.splits["train"]) == 3 * 99
    assert len(built.splits["test"]) == 99
    pointer = next(record for record in built.splits["test"] if record.fine == "German short-haired pointer")
    assert (pointer.path, pointer.coarse) == ("val/n02100236/0.png", "pointer")
    assert built.aliases["Boston terrier"] == ["Boston bull"]
    assert build("imagenet_dogs", tmp_path, per_class=3, seed=1) == built
    with pytest.raises(ConfigError, match="--per-class 0"):
        build("imagenet_dogs", tmp_path, per_class=0)
    (tmp_path / "val/n02085620/0.png").unlink()
    (tmp_path / "val/n02085620").rmdir()
    with pytest.raises(DataError, match="n02085620: not found"):
        build("imagenet_dogs", tmp_path)


# VTAB


@pytest.mark.parametrize("home", ["", "vtab", "vtab-cil/vtab"])
def test_vtab_keeps_the_names_of_named_folders(home, tmp_path):
    make(tmp_path / home, "train/baseball_diamond/1.jpg", "test/baseball_diamond/2.jpg")
    assert build("vtab", tmp_path).splits["test"][0].fine == "baseball diamond"


def test_vtab_names_its_numbered_folders(tmp_path):
    for number in range(10, 60):
        make(tmp_path, f"train/{number}/1.jpg", f"test/{number}/2.jpg")
    built = build("vtab", tmp_path)
    assert [record.fine for record in built.splits["train"]][:3] == ["airplane", "airport", "baseball diamond"]
    assert rows(built, "test")[10] == ("test/20/2.jpg", "banded", "banded")
    assert built.splits["test"][49].fine == "globe thistle"
    assert len({record.fine for record in built.splits["test"]}) == 50


# CompCars


def cells(*names: str) -> np.ndarray:
    """A column of cells as MATLAB saves it; an empty name is an empty cell."""
    column = np.empty((len(names), 1), dtype=object)
    for at, name in enumerate(names):
        column[at, 0] = name if name else np.zeros((0, 0))
    return column


@pytest.fixture
def compcars(tmp_path):
    base = tmp_path / "data"
    models = cells("Audi A7", "Mustang", "", "BMW X5", "Mazda 2")
    (base / "misc").mkdir(parents=True)
    savemat(
        base / "misc" / "make_model_name.mat",
        {"make_names": cells("Audi", "Ford", "BWM", "MAZDA"), "model_names": models},
    )
    lists = {
        "train": ["4/5/2012/e.jpg", "1/1/2011/a.jpg", "1/1/2010/b.jpg", "2/2/2008/c.jpg", "2/3/2008/d.jpg"],
        "test": ["1/1/2012/t.jpg", "2/2/2008/u.jpg", "2/3/2008/v.jpg", "3/4/2014/w.jpg", "4/5/2012/x.jpg"],
    }
    for split, lines in lists.items():
        write(base / "train_test_split" / "classification" / f"{split}.txt", "\n".join(lines) + "\n")
        make(base / "image", *lines)
    return tmp_path


@pytest.mark.parametrize("inside", ["", "data"])
def test_compcars_names_models_with_their_makes(inside, compcars):
    built = build("compcars", compcars / inside)
    assert [(record.coarse, record.fine) for record in built.splits["test"]] == [
        ("Audi", "Audi A7"),
        ("Ford", "Ford Mustang"),
        ("Ford", "Ford model 3"),
        ("BMW", "BMW X5"),
        ("MAZDA", "Mazda 2"),
    ]
    start = "image" if inside else "data/image"
    assert [record.path for record in built.splits["train"]][:2] == [
        f"{start}/1/1/2010/b.jpg",
        f"{start}/1/1/2011/a.jpg",
    ]
    assert built.aliases["Ford Mustang"] == ["Mustang"]
    assert "Audi A7" not in built.aliases


def test_published_requests_find_the_models_of_compcars(compcars):
    built = build("compcars", compcars)
    parents = {record.fine: record.coarse for record in built.splits["test"]}
    catalogue = Catalogue("compcars", list(parents), parents, built.aliases)
    (step,) = timeline([ForgetRequest(classes=("Audi A7", "Mustang"))], catalogue).steps
    assert step.classes == ("Audi A7", "Ford Mustang")


@pytest.mark.parametrize("length", [0, 60, 127, 128, 140, 300, 500])
def test_a_truncated_mat_file_is_an_error(length, compcars):
    file = compcars / "data/misc/make_model_name.mat"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(DataError, match=r"make_model_name\.mat: .*mat file"):
        build("compcars", compcars)


def test_compcars_keeps_the_models_of_a_file_under_the_names_there(compcars):
    keep = write(compcars / "keep.txt", "Mustang\naudi a7\nBMW X5\n")
    built = build("compcars", compcars, keep=keep)
    assert [record.fine for record in built.splits["test"]] == ["audi a7", "Mustang", "BMW X5"]
    assert built.aliases["Mustang"] == ["Ford Mustang"]
    write(keep, "Mustang\nAudi A8\n")
    with pytest.raises(DataError, match=r"keep\.txt:2.*'Audi A8'.*audi a7"):
        build("compcars", compcars, keep=keep)


def test_compcars_names_a_line_that_does_not_fit(compcars):
    write(compcars / "data/train_test_split/classification/train.txt", "1/1/2011/a.jpg\n9/1/2011/a.jpg\n")
    with pytest.raises(DataError, match=r"train\.txt:2"):
        build("compcars", compcars)
    write(compcars / "data/misc/make_model_name.mat", "no mat file")
    with pytest.raises(DataError, match="not a readable mat file"):
        build("compcars", compcars)


# faces


def test_casia_takes_the_people_with_the_most_images(tmp_path, monkeypatch):
    monkeypatch.setattr(casia100, "PEOPLE", 2)
    make(
        tmp_path,
        *(f"{name}/{n}.jpg" for name, count in {"7": 2, "10": 4, "9": 4, "1": 3}.items() for n in range(count)),
    )
    built = build("casia100", tmp_path)
    assert Counter(record.fine for record in built.splits["train"]) == {"9": 3, "10": 3}
    assert [record.fine for record in built.splits["test"]] == ["9", "10"]


def test_casia_uses_a_split_of_its_own(tmp_path):
    make(tmp_path, "train/0000045/1.jpg", "test/0000045/2.jpg")
    assert rows(build("casia100", tmp_path), "test") == [("test/0000045/2.jpg", "0000045", "0000045")]


# general sets, in torchvision's layouts


def test_caltech101_draws_training_images_and_leaves_the_background_out(tmp_path):
    home = tmp_path / "caltech101" / "101_ObjectCategories"
    make(home, *(f"Faces/image_{n:04d}.jpg" for n in range(6)), *(f"wild_cat/image_{n:04d}.jpg" for n in range(3)))
    make(home, "BACKGROUND_Google/image_0001.jpg")
    built = build("caltech101", tmp_path, per_class=4)
    assert Counter(record.fine for record in built.splits["train"]) == {"off-center face": 4, "wild cat": 2}
    assert Counter(record.fine for record in built.splits["test"]) == {"off-center face": 2, "wild cat": 1}
    assert build("caltech101", tmp_path / "caltech101", per_class=4).splits["train"][0].path.startswith("101_Object")


def test_food101_reads_its_lists(tmp_path):
    make(tmp_path / "food-101" / "images", "apple_pie/2.jpg", "apple_pie/10.jpg", "waffles/1.jpg")
    write(tmp_path / "food-101/meta/train.json", json.dumps({"waffles": ["waffles/1"], "apple_pie": ["apple_pie/10"]}))
    test = write(tmp_path / "food-101/meta/test.json", json.dumps({"apple_pie": ["apple_pie/2"]}))
    built = build("food101", tmp_path)
    assert rows(built, "train")[0] == ("food-101/images/apple_pie/10.jpg", "apple pie", "apple pie")
    assert [record.fine for record in built.splits["train"]] == ["apple pie", "waffles"]
    write(test, '["apple_pie/2"]')
    with pytest.raises(DataError, match=r"test\.json: not a list of images by class"):
        build("food101", tmp_path)


def test_flowers102_reads_its_lists(tmp_path):
    home = tmp_path / "flowers-102"
    make(home / "jpg", *(f"image_{n:05d}.jpg" for n in range(1, 6)))
    savemat(home / "imagelabels.mat", {"labels": np.array([[102, 1, 60, 1, 102]], dtype=np.uint8)})
    savemat(home / "setid.mat", {"trnid": [[1, 2]], "valid": [[3]], "tstid": [[5, 4]]})
    built = build("flowers102", tmp_path)
    assert rows(built, "train")[0] == ("flowers-102/jpg/image_00002.jpg", "pink primrose", "pink primrose")
    assert [record.fine for record in built.splits["train"]] == [
        "pink primrose",
        "pink-yellow dahlia",
        "blackberry lily",
    ]
    assert [record.path[-7:] for record in built.splits["test"]] == ["004.jpg", "005.jpg"]
    savemat(home / "setid.mat", {"trnid": [[1, 2]], "valid": [[3]], "tstid": [[6]]})
    with pytest.raises(DataError, match=r"setid\.mat: names images"):
        build("flowers102", tmp_path)


def test_oxford_pets_reads_its_lists(tmp_path):
    home = tmp_path / "oxford-iiit-pet"
    make(home / "images", "Abyssinian_2.jpg", "Abyssinian_10.jpg", "american_bulldog_1.jpg")
    write(home / "annotations/trainval.txt", "american_bulldog_1 2 2 1\nAbyssinian_10 1 1 1\nAbyssinian_2 1 1 1\n")
    write(home / "annotations/test.txt", "Abyssinian_2 1 1 1\n")
    assert rows(build("oxford_pets", tmp_path), "train") == [
        ("oxford-iiit-pet/images/Abyssinian_2.jpg", "cat", "Abyssinian"),
        ("oxford-iiit-pet/images/Abyssinian_10.jpg", "cat", "Abyssinian"),
        ("oxford-iiit-pet/images/american_bulldog_1.jpg", "dog", "American Bulldog"),
    ]


def annotations(*cars: tuple[int, str]) -> dict:
    kinds = [("class", "O"), ("fname", "O")]
    return {"annotations": np.array([[(at, name) for at, name in cars]], dtype=kinds)}


def test_stanford_cars_reads_its_lists(tmp_path):
    home = tmp_path / "stanford_cars"
    make(home, "cars_train/1.jpg", "cars_train/2.jpg", "cars_test/1.jpg")
    (home / "devkit").mkdir()
    names = np.empty((1, 2), dtype=object)
    names[0, :] = ["Aston Martin Virage Coupe 2012", "Audi A5 Coupe 2012"]
    savemat(home / "devkit/cars_meta.mat", {"class_names": names})
    savemat(home / "devkit/cars_train_annos.mat", annotations((2, "1.jpg"), (1, "2.jpg")))
    savemat(home / "cars_test_annos_withlabels.mat", annotations((2, "1.jpg")))
    built = build("stanford_cars", tmp_path)
    assert rows(built, "train") == [
        ("stanford_cars/cars_train/2.jpg", "Aston Martin", "Aston Martin Virage Coupe 2012"),
        ("stanford_cars/cars_train/1.jpg", "Audi", "Audi A5 Coupe 2012"),
    ]
    assert rows(built, "test") == [("stanford_cars/cars_test/1.jpg", "Audi", "Audi A5 Coupe 2012")]
    savemat(home / "cars_test_annos_withlabels.mat", annotations((3, "1.jpg")))
    with pytest.raises(DataError, match="outside of the 2"):
        build("stanford_cars", tmp_path)


def test_sun397_splits_by_its_lists_or_in_halves(tmp_path):
    home = tmp_path / "SUN397"
    images = [f"a/apartment_building/outdoor/sun_{n}.jpg" for n in range(4)] + [
        f"a/abbey/sun_{n}.jpg" for n in range(4)
    ]
    make(home, *images)
    halves = build("sun397", tmp_path)
    assert Counter(record.fine for record in halves.splits["train"]) == {"abbey": 2, "apartment building outdoor": 2}
    write(home / "Training_01.txt", "/a/apartment_building/outdoor/sun_1.jpg\n/a/abbey/sun_0.jpg\n")
    write(home / "Testing_01.txt", "/a/abbey/sun_3.jpg\n")
    built = build("sun397", tmp_path)
    assert rows(built, "train") == [
        ("SUN397/a/abbey/sun_0.jpg", "abbey", "abbey"),
        (
            "SUN397/a/apartment_building/outdoor/sun_1.jpg",
            "apartment building outdoor",
            "apartment building outdoor",
        ),
    ]
    assert rows(build("sun397", home), "test") == [("a/abbey/sun_3.jpg", "abbey", "abbey")]


# downloads


@pytest.mark.parametrize(
    ("name", "dataset", "archive"),
    [
        ("cifar224", "CIFAR100", "put cifar-100-python.tar.gz into {root} "),
        ("caltech101", "Caltech101", "put caltech-101.zip into {root}/caltech101 "),
        ("food101", "Food101", "put food-101.tar.gz into {root} "),
        ("flowers102", "Flowers102", "put 102flowers.tgz into {root}/flowers-102 "),
        ("oxford_pets", "OxfordIIITPet", "put images.tar.gz into {root}/oxford-iiit-pet "),
        ("sun397", "SUN397", "put SUN397.tar.gz into {root} "),
    ],
)
def test_a_failed_download_says_which_file_to_put_where(name, dataset, archive, tmp_path, monkeypatch):
    import torchvision.datasets

    asked = []

    def offline(root, **options):
        asked.append((root, options))
        raise urllib.error.URLError("no\nnetwork")

    monkeypatch.setattr(torchvision.datasets, dataset, offline)
    with pytest.raises(DataError) as caught:
        get_builder(name).build(tmp_path, download=True)
    assert archive.format(root=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert asked == [(tmp_path, {"download": True})]


def test_data_that_are_there_are_not_downloaded_again(tmp_path, monkeypatch):
    import torchvision.datasets

    monkeypatch.setattr(torchvision.datasets, "OxfordIIITPet", None)
    make(tmp_path / "images", "Beagle_1.jpg")
    for name in ("trainval", "test"):
        write(tmp_path / f"annotations/{name}.txt", "Beagle_1 1 2 1\n")
    assert build("oxford_pets", tmp_path, download=True).splits["test"][0].fine == "Beagle"
