"""General sets: every test image, labelled by its place among the set's names."""

from dataclasses import replace

import pytest
import torch

from data.decoding import Decoding
from data.general import general_set
from utils.errors import DataError


def raw(image: torch.Tensor) -> torch.Tensor:
    return image


def test_all_test_images_in_order(pets):
    found = general_set(pets, lambda image: image.float() + 1000)
    assert found.name == "pets"
    assert found.names == ("beagle", "siamese", "poodle", "persian", "husky")
    batches = list(found.stream.batches(4, 0))
    assert [len(batch["image"]) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch["item"] for batch in batches]).tolist() == list(range(10))
    assert torch.cat([batch["fine"] for batch in batches]).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert found.stream.labels("fine").tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert min(batch["image"].min() for batch in batches) >= 1000


def test_two_passes_are_the_same(pets):
    passes = [
        [batch["item"].tolist() for batch in general_set(pets, raw, Decoding(0.0), 2).stream.batches(3, seed)]
        for seed in (0, 1)
    ]
    assert passes[0] == passes[1]


def test_names_of_both_splits_are_candidates(draw_set, tmp_path):
    indexed = draw_set(tmp_path / "a", (("fruit", "plum"), ("fruit", "kiwi")), train=1, test=1)
    indexed.splits["test"] += draw_set(tmp_path / "b", (("fruit", "fig"),), test=1).splits["test"]
    indexed.splits["test"].pop(0)  # of the plum there is no test image, of the fig no training image
    (tmp_path / "b" / "fruit-fig-test-0.png").rename(tmp_path / "a" / "fruit-fig-test-0.png")
    found = general_set(replace(indexed, names={"lime": "fruit", "fig": "fruit"}), raw)
    assert found.names == ("plum", "kiwi", "fig", "lime")
    assert next(found.stream.batches(9, 0))["fine"].tolist() == [1, 2]


def test_a_missing_test_image_shows_at_once_and_a_training_image_is_not_asked_for(draw_set, tmp_path):
    indexed = draw_set(tmp_path)
    indexed.file("train", 0).unlink()
    assert len(general_set(indexed, raw).stream) == 10
    indexed.file("test", 3).unlink()
    with pytest.raises(DataError, match=r"test\.jsonl:4: image .* does not exist"):
        general_set(indexed, raw)
