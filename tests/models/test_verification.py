"""The figures of a learner on a list of pairs are those of its embeddings' cosines."""

import math

import pytest
import torch

from data.pairs import read_pairs
from data.transforms import test_transform as plain_transform
from models import get_model
from models.verification import similarities
from utils.errors import DivergenceError


@pytest.fixture
def pairs(draw_set, tmp_path):
    draw_set(tmp_path, (("p", "a"), ("p", "b")), train=3, test=1)
    names = [f"p-{fine}-train-{number}.png" for fine in "ab" for number in range(3)]
    rows = [f"{x},{y},{int(x[2] == y[2])}" for i, x in enumerate(names) for y in names[i + 1 :]]
    (tmp_path / "pairs.csv").write_text("\n".join(["first,second,same", *rows]), encoding="utf-8")
    return read_pairs(tmp_path / "pairs.csv", plain_transform(64, "bilinear", 1.0))


@pytest.fixture
def learner(tiny_model, recipe):
    return get_model("finetune", tiny_model(), first=recipe(), later=recipe())


@torch.no_grad()
def test_the_scores_are_cosines_of_what_the_learner_predicts(learner, pairs):
    images = next(pairs.stream.batches(99, 0))["image"]
    features = learner.model.eval().backbone(images).double().tolist()
    expected = []
    for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        x, y = features[first], features[second]
        expected.append(sum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y))
    scores = similarities(learner, pairs)
    assert scores.shape == (15,) and scores.tolist() == pytest.approx(expected, abs=1e-6)


def test_every_image_is_encoded_once_and_what_predicts_is_the_learner(learner, pairs, monkeypatch):
    seen, predict = [], learner.predict
    monkeypatch.setattr(learner, "predict", lambda images: seen.append(len(images)) or predict(images))
    similarities(learner, pairs)
    assert sum(seen) == 6


def test_embeddings_that_are_no_numbers_are_an_error(learner, pairs):
    with torch.no_grad():
        learner.model.backbone.net.norm.weight.fill_(math.nan)
    with pytest.raises(DivergenceError, match="no longer finite"):
        similarities(learner, pairs)
