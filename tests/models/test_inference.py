"""`load_run`: the loaded model answers as the run measured it, from any form of image, without the data's images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from data.registry import find_set
from models import load_run
from models.inference import Answers
from tests.forgetting import FALCON, FIVE, MEADOW
from tests.support import SIMPLE, experiment, lethe, only_run
from utils.errors import CheckpointError, ConfigError, DataError


@pytest.fixture
def at_mixed(mixed, monkeypatch) -> Path:
    """The folder of the mixed run, seen from where it was started."""
    folder, _ = mixed
    monkeypatch.chdir(next(place for place in folder.parents if place.name == "logs").parent)
    return folder


def accuracy(run, level: str, exclude=()) -> float:
    """Top-1 in percent over the test images of the classes alive, with what the index says as the truth."""
    indexed = find_set("toymini", Path("data/sets"))
    gone, names = run.forgotten["fine"], run.answers.names["fine"]
    records = list(enumerate(indexed.splits["test"]))
    wanted = [(at, r) for at, r in records if r.fine not in {*exclude, *gone} and r.fine in names]
    found, _ = run.predict([indexed.file("test", at) for at, _ in wanted], level, top=1)
    return 100 * sum(row == [getattr(r, level)] for row, (_, r) in zip(found, wanted, strict=True)) / len(wanted)


def test_the_loaded_model_is_as_good_as_the_run_was(at_mixed):
    run = load_run(at_mixed, "cpu")
    for level in ("fine", "coarse"):
        assert accuracy(run, level, FIVE) == pytest.approx(run.rows[-1][level]["top1"])
    assert run.forgotten["fine"] == {MEADOW, FALCON, "Veltro Comet", "Veltro Arrow"}
    assert run.forgotten["coarse"] == {"Veltro"}


def test_a_parent_is_its_best_child_where_it_has_no_row(workplace):
    assert lethe("--config", experiment(SIMPLE, sessions=[{"learn": 7}])) == 0
    run = load_run(only_run(), "cpu")
    assert "coarse" not in run.model.rows()
    assert accuracy(run, "coarse") == pytest.approx(run.rows[-1]["coarse"]["top1"])
    _, fine, coarse = run.answers(torch.randn(3, 3, 64, 64))
    parents = [run.order.parents[label] for label in fine.argmax(1).tolist()]
    assert coarse.argmax(1).tolist() == parents and torch.equal(coarse.amax(1), fine.amax(1))


def test_every_form_of_an_image_gives_the_same(at_mixed, tmp_path):
    run, file = load_run(at_mixed, "cpu"), tmp_path / "a.png"
    Image.effect_noise((90, 70), 80).convert("RGB").save(file)
    with Image.open(file) as image:
        forms = [file, str(file), [file], image.copy(), run.prepare(file)[None]]
    (names, shares), *others = [run.predict(form) for form in forms]
    assert len(names) == 1 and shares.shape == (1, 5) and len(set(names[0])) == 5
    for other, same in others:
        assert other == names and torch.equal(same, shares)


def test_photographs_are_decoded_as_the_run_says(at_mixed, tmp_path):
    file = tmp_path / "a.jpg"
    Image.effect_noise((640, 512), 80).convert("RGB").save(file)
    with Image.open(file) as image:
        image.draft(None, (100, 100))  # 512 is five times as much, so a quarter
        draft = image.copy()
    assert draft.size == (160, 128)
    whole = load_run(at_mixed, "cpu")
    smaller = replace(whole, config=whole.config.model_copy(update={"jpeg_side": 100}))
    assert torch.equal(smaller.prepare(file), whole.prepare(draft))
    assert not torch.equal(smaller.prepare(file), whole.prepare(file))


def test_probabilities_are_those_of_all_names(at_mixed):
    run = load_run(at_mixed, "cpu")
    images = torch.randn(40, 3, 64, 64)  # more than go through at once
    names, shares = run.predict(images, top=99)
    assert shares.shape == (40, 5) and torch.allclose(shares.sum(1), torch.ones(40))
    assert (shares.diff(dim=1) <= 0).all()
    _, fine, _ = run.answers(images)
    exact = fine.double().exp() / fine.double().exp().sum(1, keepdim=True)
    columns = [[run.answers.names["fine"].index(name) for name in row] for row in names]
    assert torch.allclose(shares.double(), exact.gather(1, torch.tensor(columns)), atol=1e-6)


def test_neither_images_nor_exemplars_need_be_there(workplace, draw_set):
    photos = Path("photos")
    draw_set(photos)
    assert lethe("--config", experiment(SIMPLE, dataset="index", index_root="photos", sessions=[{"learn": 5}])) == 0
    for image in photos.glob("*.png"):
        image.unlink()
    names, _ = load_run(only_run(), "cpu").predict(torch.zeros(1, 3, 64, 64))
    assert set(names[0]) == {"beagle", "siamese", "poodle", "persian", "husky"}


def test_one_level_of_names(tiny_model):
    from data.sessions import ClassOrder

    model = tiny_model()
    model.grow("fine", ["a", "b"])
    answers = Answers(model, ClassOrder(("a", "b"), ("a", "b"), (0, 1)))
    assert list(answers.names) == ["fine"] and [tuple(x.shape) for x in answers(torch.zeros(1, 3, 64, 64))] == [
        (1, 128),
        (1, 2),
    ]


def test_a_learner_that_classifies_otherwise_is_asked_itself(tiny_model):
    from convs.model import Output
    from data.sessions import ClassOrder

    model = tiny_model()  # without any row
    said = torch.tensor([[3.0, 1.0, 2.0]])
    answers = Answers(
        model, ClassOrder(tuple("abc"), ("x", "y"), (0, 1, 0)), lambda images: Output(images, {"fine": said})
    )
    assert answers.names == {"fine": ("a", "b", "c"), "coarse": ("x", "y")}
    assert [values.tolist() for values in answers(torch.zeros(1, 3, 64, 64))[1:]] == [said.tolist(), [[3.0, 1.0]]]


def test_mistakes(at_mixed, tmp_path):
    run = load_run(at_mixed, "cpu")
    with pytest.raises(ConfigError, match="level 'colour': 'toymini' has fine and coarse names"):
        run.predict(torch.zeros(1, 3, 64, 64), "colour")
    with pytest.raises(DataError, match=r"nowhere\.jpg: no such image"):
        run.predict("nowhere.jpg")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match="truncated or not an image"):
        run.predict(tmp_path / "torn.png")
    with pytest.raises(DataError, match=r"the picture is truncated or not an image \(its pixels are numbers of mode F"):
        run.predict(Image.new("F", (8, 8)))


def test_a_run_under_way_is_refused(at_mixed):
    summary = at_mixed / "summary.json"
    text = summary.read_text()
    summary.unlink()
    try:
        with pytest.raises(CheckpointError, match="the run is not finished"):
            load_run(at_mixed, "cpu")
    finally:
        summary.write_text(text)
