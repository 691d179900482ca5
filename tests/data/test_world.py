"""The embedded world: tables, drawing, storage."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.index import read_set
from data.world import WORLD_SETS, describe, ensure_world, store, world_classes
from data.world.animals import ANIMALS
from data.world.badges import EMBLEMS, LAMPS, OUTLINES
from data.world.bodies import BODIES
from data.world.cars import TRIMS, WHEELS
from data.world.catalogue import CATALOGUE
from data.world.drawing import draw_image
from data.world.flags import FLAGS
from data.world.fruits import FRUITS
from data.world.makes import MAKES, NEW_MAKES
from data.world.pen import SIDE, oval, rounded, spiked
from data.world.shapes import SHAPES
from utils.errors import DataError

CLASSES = {"toycars": 48, "toynew": 20, "toymini": 12, "toyfruits": 9, "toyflags": 9, "toyshapes": 9, "toyanimals": 9}
PLAIN = {"toyfruits": FRUITS, "toyflags": FLAGS, "toyshapes": SHAPES, "toyanimals": ANIMALS}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("world")


@pytest.fixture
def thin(monkeypatch):
    """The same sets with two training images and one test image a class."""
    for name, each in list(CATALOGUE.items()):
        few = {} if each.parts else {"train": 2, "test": 1}
        monkeypatch.setitem(CATALOGUE, name, type(each)(**{**each.__dict__, **few}))


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(f"{p.relative_to(folder)}".encode() + p.read_bytes() for p in files)).hexdigest()


def test_set_names_and_class_counts():
    assert set(WORLD_SETS) == {*CLASSES, "toyworld", "toyfleet"}
    assert {name: len(world_classes(name)) for name in CLASSES} == CLASSES
    assert len(world_classes("toyworld")) == 48 + 4 * 9
    assert world_classes("toyfleet") == world_classes("toycars") + world_classes("toynew")
    assert describe("toyfleet").startswith("toycars and toynew in one: 68 drawn car models of 12 makes")
    assert len(world_classes("toyfleet")) == 68 and len({make for make, _ in world_classes("toyfleet")}) == 12
    for name in WORLD_SETS:
        fine = [label for _, label in world_classes(name)]
        assert len(set(fine)) == len(fine)


def test_makes_and_models_per_set():
    for name, makes, models in (("toycars", 8, 6), ("toynew", 4, 5), ("toymini", 4, 3)):
        coarse = [label for label, _ in world_classes(name)]
        assert sorted(coarse.count(make) for make in set(coarse)) == [models] * makes
        assert all(fine.startswith(make + " ") for make, fine in world_classes(name))
    assert set(world_classes("toymini")) < set(world_classes("toycars"))
    assert not set(world_classes("toynew")) & set(world_classes("toyworld"))


def test_general_sets_have_one_level_and_a_kind_only_in_the_union():
    kinds = {"toyfruits": "fruit", "toyflags": "flag", "toyshapes": "shape", "toyanimals": "animal"}
    union = world_classes("toyworld")
    for name, kind in kinds.items():
        fines = [fine for _, fine in world_classes(name)]
        assert world_classes(name) == [(fine, fine) for fine in fines]
        assert [fine for coarse, fine in union if coarse == kind] == fines
    assert union[:48] == world_classes("toycars")


def test_catalogue_names_are_what_can_be_drawn():
    for name, table in PLAIN.items():
        assert {fine for _, fine in world_classes(name)} == set(table)


def test_every_word_belongs_to_one_name():
    models = [model for make in MAKES + NEW_MAKES for model in make.models]
    names = [make.name for make in MAKES + NEW_MAKES] + [model.name for model in models]
    words = names + list(chain.from_iterable(model.alias.split() for model in models)) + list(chain(*PLAIN.values()))
    folded = [word.lower() for word in words]
    assert sorted(word for word in set(folded) if folded.count(word) > 1) == []


def test_table_entries_exist_and_no_two_models_look_the_same():
    for make in MAKES + NEW_MAKES:
        assert make.badge.outline in OUTLINES and make.badge.emblem in EMBLEMS and make.lamp in LAMPS
        for model in make.models:
            assert model.body in BODIES and model.wheel in WHEELS and set(model.trims) <= set(TRIMS)
        assert len({(m.body, m.wheel, frozenset(m.trims)) for m in make.models}) == len(make.models)
    outlines = [make.badge.outline for make in MAKES + NEW_MAKES]
    assert len(set(outlines)) == len(outlines)


def test_new_cars_use_badges_and_combinations_of_their_own():
    def looks(makes):
        return {(m.body, m.wheel, frozenset(m.trims)) for make in makes for m in make.models}

    assert not looks(MAKES) & looks(NEW_MAKES)


def test_describe_is_one_line_with_the_count():
    for name, count in CLASSES.items():
        line = describe(name)
        assert line.startswith(f"{count} ") and line.endswith(", 64 px") and "\n" not in line


def test_unknown_set_is_named_with_the_nearest():
    with pytest.raises(DataError, match=r"toycras.*did you mean 'toycars'"):
        world_classes("toycras")


def test_package_and_tables_need_neither_numpy_nor_pillow():
    code = (
        "import sys; from data.world import *; [(describe(n), world_classes(n)) for n in WORLD_SETS];"
        "sys.exit(any(m in sys.modules for m in ('numpy', 'PIL', 'tqdm')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_every_class_can_be_drawn():
    for name in CLASSES:
        for _, fine in world_classes(name):
            image = draw_image(name, fine, "train", 0)
            assert image.size == (SIDE, SIDE) == (64, 64) and image.mode == "RGB"


def test_an_image_depends_on_set_class_split_and_number_alone():
    def pixels(*key):
        return draw_image(*key).tobytes()

    first = pixels("toycars", "Veltro Arrow", "train", 3)
    assert pixels("toycars", "Veltro Arrow", "train", 3) == first
    others = [
        ("toymini", "Veltro Arrow", "train", 3),
        ("toycars", "Veltro Comet", "train", 3),
        ("toycars", "Veltro Arrow", "test", 3),
        ("toycars", "Veltro Arrow", "train", 4),
    ]
    assert all(pixels(*key) != first for key in others)


def test_images_are_the_same_under_another_hash_seed():
    code = (
        "import hashlib; from data.world.drawing import draw_image as d;"
        "keys = ('toycars', 'Halden Marble'), ('toyfruits', 'orange'), ('toyflags', 'Tarsis');"
        "print(hashlib.sha256(b''.join(d(*k, 'test', 1).tobytes() for k in keys)).hexdigest())"
    )

    def run(seed: str) -> str:
        command, root = [sys.executable, "-c", code], Path(__file__).parents[2]
        env = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=True).stdout

    assert run("1") == run("2") != ""


def test_two_draws_are_equal_to_the_byte(tmp_path):
    assert digest(ensure_world("toymini", tmp_path / "a")) == digest(ensure_world("toymini", tmp_path / "b"))


def test_mini_set_on_disk(cache):
    folder = ensure_world("toymini", cache)
    found = read_set("toymini", folder)
    assert {split: len(records) for split, records in found.splits.items()} == {"train": 12 * 6, "test": 12 * 4}
    assert list(dict.fromkeys((r.coarse, r.fine) for r in found.splits["train"])) == world_classes("toymini")
    assert found.splits["train"][7].path == "images/train/veltro-harbor-001.png"
    assert found.aliases["Veltro Arrow"] == ["V1 Nomad"]
    assert set(found.aliases) == {fine for _, fine in world_classes("toymini")}
    images = [found.file(split, k) for split in found.splits for k in range(len(found.splits[split]))]
    assert len({path.read_bytes() for path in images}) == 120
    with Image.open(images[0]) as image:
        image.load()
        assert (image.format, image.size, image.mode) == ("PNG", (64, 64), "RGB")
        assert np.array_equal(image, draw_image("toymini", "Veltro Arrow", "train", 0))


def test_counts_promised_per_class():
    counts = {name: (each.train, each.test) for name, each in CATALOGUE.items() if not each.parts}
    assert counts.pop("toymini") == (6, 4)
    assert (counts.pop("toycars"), counts.pop("toynew")) == ((120, 20), (60, 20))
    assert set(counts.values()) == {(80, 15)}


def test_union_points_to_the_images_of_its_parts(tmp_path, thin):
    found = read_set("toyworld", ensure_world("toyworld", tmp_path))
    assert {split: len(records) for split, records in found.splits.items()} == {"train": 84 * 2, "test": 84}
    assert list(dict.fromkeys((r.coarse, r.fine) for r in found.splits["test"])) == world_classes("toyworld")
    assert all(found.file(split, k).is_file() for split in found.splits for k in range(84))
    assert not (tmp_path / "toyworld" / "images").exists() and not (tmp_path / "toynew").exists()
    assert found.aliases["Quillon Porter"] == ["Q5 Donkey"] and len(found.aliases) == 48


def test_the_fleet_is_all_cars_and_has_no_images_of_its_own(tmp_path, thin):
    found = read_set("toyfleet", ensure_world("toyfleet", tmp_path))
    assert {split: len(records) for split, records in found.splits.items()} == {"train": 68 * 2, "test": 68}
    assert list(dict.fromkeys((r.coarse, r.fine) for r in found.splits["train"])) == world_classes("toyfleet")
    assert all(found.file(split, k).is_file() for split in found.splits for k in range(68))
    assert {path.name for path in tmp_path.iterdir()} == {"toyfleet", "toycars", "toynew"}
    assert not (tmp_path / "toyfleet" / "images").exists()
    assert found.aliases["Dorvan Jasper"] == ["D1 Cobble"] and len(found.aliases) == 68


def test_a_world_can_be_moved(tmp_path, thin):
    ensure_world("toyworld", tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    found = read_set("toyworld", tmp_path / "new" / "toyworld")
    assert found.file("train", 0) == (tmp_path / "new" / found.splits["train"][0].path).resolve()
    assert found.file("train", 0).is_file()


def test_a_set_is_drawn_once_and_again_for_another_version(tmp_path, thin, monkeypatch):
    folder = ensure_world("toymini", tmp_path)
    image = folder / store.image_path("Veltro Arrow", "train", 0)
    before = image.stat().st_mtime_ns
    assert ensure_world("toymini", tmp_path).joinpath(image).stat().st_mtime_ns == before
    monkeypatch.setattr(store, "VERSION", "other")
    (folder / "left over").touch()
    assert ensure_world("toymini", tmp_path) == folder
    assert image.stat().st_mtime_ns > before and not (folder / "left over").exists()
    assert (folder / "version.txt").read_text() == "other\n"
    assert [path.name for path in tmp_path.iterdir()] == ["toymini"]


def test_a_draw_that_fails_leaves_nothing(tmp_path, thin, monkeypatch):
    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("data.world.drawing.draw_image", broken)
    with pytest.raises(KeyboardInterrupt):
        ensure_world("toymini", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_at_once(tmp_path, thin):
    """Both find nothing, both draw, both return a whole set."""
    whole, barrier = [], threading.Barrier(2)

    def draw():
        barrier.wait()
        whole.append(len(read_set("toymini", ensure_world("toymini", tmp_path)).splits["train"]))

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert whole == [24, 24]
    assert [path.name for path in tmp_path.iterdir()] == ["toymini"]


def test_the_slower_of_two_drops_its_work(tmp_path, thin, monkeypatch):
    folder = ensure_world("toymini", tmp_path)
    stamp = (folder / "set.json").stat().st_ino
    store._draw_aside(CATALOGUE["toymini"], folder)
    assert (folder / "set.json").stat().st_ino == stamp
    assert [path.name for path in tmp_path.iterdir()] == ["toymini"]


def test_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"toymini: cannot write the embedded set \(.+\)") as caught:
        ensure_world("toymini", tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_set_json_is_portable(cache):
    about = json.loads((ensure_world("toymini", cache) / "set.json").read_text())
    assert about["root"] == "."


def test_corner_cutting_by_hand():
    square = [(0, 0), (4, 0), (4, 4), (0, 4)]
    assert rounded(square, 1) == [(1, 0), (3, 0), (4, 1), (4, 3), (3, 4), (1, 4), (0, 3), (0, 1)]
    assert rounded([(0, 0), (4, 0), (4, 4)], 1, closed=False) == [(0, 0), (3, 0), (4, 1), (4, 4)]


def test_ovals_and_stars_by_hand():
    assert np.allclose(oval(1, 2, 3, 1, turn=90, corners=4), [(1, 5), (0, 2), (1, -1), (2, 2)])
    assert np.allclose(spiked(0, 0, 2, 4, start=0), [(2, 0), (0, 2), (-2, 0), (0, -2)])
    assert np.allclose(spiked(0, 0, 2, 2, depth=0.5, start=0), [(2, 0), (0, 1), (-2, 0), (0, -1)])
