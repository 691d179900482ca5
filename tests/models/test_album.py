"""The album of a request: which pictures, and the words of both models for them."""

import base64
import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from data.sessions import ClassOrder, Session
from models.album import EACH, MOST, SIDE, Album, few, picture
from models.finetune import FinetuneLearner
from tests.forgetting import FORGET
from tests.support import experiment, lethe, only_run
from utils.album import album_name, album_of
from utils.streams import TensorStream

NAMES = tuple(f"class {label}" for label in range(20))
ORDER = ClassOrder(NAMES, NAMES, tuple(range(20)))


class Pictures(TensorStream):
    """What an album asks of a stream of images."""

    def labels(self, level: str) -> torch.Tensor:
        return self.fields[level]

    def at(self, places: list[int]) -> TensorStream:
        return TensorStream({name: field[places] for name, field in self.fields.items()}, shuffle=False)


def asked(labels: list[int], classes: tuple[int, ...], size: int = 64) -> Session:
    """A request whose exemplars have these labels; every pixel of one is its number."""
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, size, size)
    stream = Pictures({"image": images, "fine": torch.tensor(labels)}, shuffle=False)
    return Session(1, "forget", classes, tuple(range(20)), (19,), ORDER, streams={"plain": lambda: stream})


def numbers(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_the_first_of_every_class_by_class():
    images, labels = few(asked([4, 2, 4, 4, 2, 4, 4], (2, 4), size=2))
    assert EACH == 3 and labels.tolist() == [2, 2, 4, 4, 4] and numbers(images) == [1, 4, 0, 2, 3]


def test_many_classes_have_one_each_and_the_last_none():
    images, labels = few(asked([*range(15), *range(15)], tuple(range(15)), size=2))
    assert labels.tolist() == numbers(images) == list(range(MOST))


def test_a_picture_is_what_the_model_sees_and_small():
    image = torch.tensor([178, 102, 13], dtype=torch.uint8)[:, None, None].expand(3, 128, 128)
    read = Image.open(io.BytesIO(base64.b64decode(picture(image))))
    assert read.format == "JPEG" and read.size == (SIDE, SIDE)
    assert read.getpixel((50, 50)) == pytest.approx((178, 102, 13), abs=3)  # a JPEG is out by a little


def test_words_are_those_of_then_and_of_now(tiny_model, recipe):
    model = tiny_model()
    model.grow("fine", list(NAMES))
    learner = FinetuneLearner(model, recipe(), recipe())
    session = asked([2, 4], (2, 4))
    images = torch.cat([batch["image"] for batch in session.stream("plain").batches(2, 0)])
    with torch.no_grad():
        before = (100 * learner.predict(images).logits["fine"].softmax(1)).tolist()
        album = Album(learner, session)
        for row in model.head("fine").rows:
            row.mul_(-1)
        after = (100 * learner.predict(images).logits["fine"].softmax(1)).tolist()
    found = album.exemplars()
    assert [one.name for one in found] == ["class 2", "class 4"]
    for place, one in enumerate(found):
        for words, shares in ((one.before, before[place]), (one.after, after[place])):
            ranked = sorted(zip(shares, NAMES, strict=True), reverse=True)[:5]
            assert [share for _, share in words] == pytest.approx([share for share, _ in ranked], abs=0.051)
            assert all(share == pytest.approx(shares[NAMES.index(name)], abs=0.051) for name, share in words)
    assert found[0].before != found[0].after


def test_pictures_are_there_where_what_frozen_blocks_make_of_them_is_computed_once(workplace):
    albums = []
    for logs, room in (("once", 4.0), ("always", 0.0)):
        asked = FORGET | {"tune_blocks": 1, "keep_history": True, "cache_gb": room}
        assert lethe("--config", experiment(asked, logs=logs)) == 0
        (file,) = only_run(Path(logs)).rglob(album_name(0))
        albums.append([(one.name, one.picture) for one in album_of(file.read_text(encoding="utf-8"))])
    assert albums[0] == albums[1] and len(albums[0]) == 3
    sizes = {Image.open(io.BytesIO(base64.b64decode(picture))).size for _, picture in albums[0]}
    assert sizes == {(64, 64)}
