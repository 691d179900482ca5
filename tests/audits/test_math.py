"""The mathematics of the audits, by hand and against independent computations."""

import math

import numpy as np
import pytest

from audits.evidence import Case, Images
from audits.prompts import PARAPHRASES, TEMPLATES, misspelt, otherwise
from audits.verdict import against_oracle, can_judge, verdict
from convs.templates import get_templates
from tests.support import without
from utils.similarity import linear_cka, neighbour_overlap

DICE = np.random.RandomState(0)


# similarity


def hsic_cka(one: np.ndarray, other: np.ndarray) -> float:
    """Linear CKA by the centred Gram matrices: HSIC(K, L) / √(HSIC(K, K)·HSIC(L, L))."""
    centre = np.eye(len(one)) - 1 / len(one)
    grams = [centre @ (x @ x.T) @ centre for x in (one, other)]
    return float((grams[0] * grams[1]).sum() / math.sqrt((grams[0] ** 2).sum() * (grams[1] ** 2).sum()))


def test_cka_is_that_of_the_gram_matrices():
    one, other = DICE.randn(12, 5), DICE.randn(12, 3)
    assert linear_cka(one, other) == pytest.approx(hsic_cka(one, other))


def test_cka_does_not_see_rotations_shifts_and_scales():
    one = DICE.randn(20, 4)
    turn, _ = np.linalg.qr(DICE.randn(4, 4))
    assert linear_cka(one, 3 * one @ turn + 7) == pytest.approx(1.0)
    assert linear_cka(one, DICE.randn(20, 4)) < 0.6
    assert math.isnan(linear_cka(one, np.ones((20, 2))))


def test_neighbours_by_hand():
    angles = np.radians([0, 1, 3, 90, 91, 93])
    one = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert neighbour_overlap(one, one, 2) == 1.0
    mixed = one[[3, 1, 2, 0, 4, 5]]  # images 0 and 3 change places
    # nearest one before: 1, 0, 1, 4, 3, 4; after: 4, 2, 1, 1, 5, 4, of which images 2 and 5 keep theirs
    assert neighbour_overlap(one, mixed, 1) == pytest.approx(2 / 6)


@pytest.mark.parametrize("function", [linear_cka, neighbour_overlap])
def test_features_of_other_images_are_refused(function):
    with pytest.raises(ValueError, match="of the same images"):
        function(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="no neighbours"):
        neighbour_overlap(np.ones((1, 2)), np.ones((1, 2)))


# images


def test_a_few_of_each_class_and_all_where_there_are_fewer():
    labels = np.repeat([0, 1, 2], [6, 2, 4])
    images = Images(np.arange(12.0)[:, None], labels, np.arange(24.0).reshape(12, 2))
    few = images.few(3, seed=1)
    assert np.bincount(few.labels).tolist() == [3, 2, 3]
    assert (labels[few.features[:, 0].astype(int)] == few.labels).all()
    assert (few.logits[:, 0] == 2 * few.features[:, 0]).all()
    assert {tuple(images.few(3, seed).features[:, 0]) for seed in range(5)} != {tuple(few.features[:, 0])}
    assert images.of((2, 1)).labels.tolist() == [1, 1, 2, 2, 2, 2]


# names


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("Veltro Comet", "Vetlro Comet"), ("Audi A7", "Adui A7"), ("aab", "aba"), ("aaa", "aaa"), ("x", "x")],
)
def test_two_letters_change_places(name, wrong):
    assert misspelt(name) == wrong


def test_names_put_otherwise_by_hand():
    """Of two forgotten classes one has an alias and one a description; what is not there is not asked for."""
    names, parents = ("Audi A7", "Veltro Comet", "Audi A5"), ("Audi", "Veltro", "Audi")
    case = Case((0, 1), (2,), (), names, parents, {"Veltro Comet": ["V3", "Zig"]}, {"Audi A7": "a long fastback"})
    assert otherwise(case) == {
        "misspelt": {0: "Adui A7", 1: "Vetlro Comet"},
        "parent": {0: "Audi Audi A7", 1: "Veltro Veltro Comet"},
        "alias": {1: "V3"},
        "description": {0: "Audi, a long fastback"},
    }


def test_no_prompt_is_a_template_of_training():
    trained = {text for name in ("plain", "cars", "drawn", "imagenet") for text in get_templates(name)}
    asked = [*TEMPLATES, *PARAPHRASES]
    assert not trained & set(asked) and len(set(asked)) == len(asked) and all(text.count("{}") == 1 for text in asked)


# verdicts

ORIGINAL = {
    "forget": 96.0,
    "forget_names": 96.0,
    "retain": 95.0,
    "cka_gone": 1.0,
    "prototype_1": 94.0,
    "mia_loss_auc": 0.6,
}
ORACLE = {"forget": 0.0, "forget_names": 0.0, "retain": 95.0, "cka_gone": 0.7, "prototype_1": 80.0, "mia_loss_auc": 0.5}


@pytest.mark.parametrize(
    ("changes", "with_oracle", "without"),
    [
        ({}, "erased", "suppressed"),
        ({"prototype_1": 40.0}, "over-unlearned", "erased"),
        ({"prototype_1": 91.0}, "suppressed", "suppressed"),
        ({"mia_loss_auc": 0.2}, "over-unlearned", "over-unlearned"),
        ({"forget_names": 48.0}, "not forgotten", "not forgotten"),
        ({"forget": 60.0}, "not forgotten", "not forgotten"),
        ({"cka_gone": 0.995}, "hidden in the head", "hidden in the head"),
        ({"cka_gone": 0.995, "forget_names": 96.0}, "hidden in the head", "hidden in the head"),
        ({"retain": 80.0}, "erased, collateral damage", "suppressed, collateral damage"),
    ],
)
def test_a_word_for_every_outcome(changes, with_oracle, without):
    own = ORACLE | {"prototype_1": 84.0} | changes
    assert verdict(own, ORIGINAL, ORACLE) == with_oracle
    assert verdict(own, ORIGINAL) == without


def test_the_controls():
    assert verdict(ORIGINAL, ORIGINAL, ORACLE) == verdict(ORIGINAL, ORIGINAL) == "not forgotten"
    assert verdict(ORIGINAL | {"forget": 0.0}, ORIGINAL, ORACLE) == "hidden in the head"
    assert verdict(ORACLE, ORIGINAL, ORACLE) == "erased"


def test_features_that_no_training_has_touched_hide_nothing():
    locked = ORACLE | {"cka_gone": 1.0}
    assert verdict(locked, ORIGINAL, locked) == "erased"
    assert verdict(locked | {"prototype_1": 91.0}, ORIGINAL, locked) == "suppressed"
    assert verdict(locked | {"forget_names": 96.0}, ORIGINAL, locked) == "hidden in the head"
    assert verdict(ORIGINAL, ORIGINAL, locked) == "not forgotten"


def test_no_verdict_and_no_distance_without_what_they_are_made_of():
    assert can_judge(ORIGINAL)
    for name in ("forget", "retain", "cka_gone", "prototype_1", "mia_loss_auc"):
        assert not can_judge(without(ORIGINAL, name))
    assert against_oracle({"forget": 1.0, "retain": 2.0}, {"forget": 1.0, "retain": 2.0}) == {}


def test_distance_to_the_oracle_by_hand():
    own = {"forget": 10.0, "retain": 90.0, "mia_loss_auc": 0.7}
    found = against_oracle(own, {"forget": 0.0, "retain": 95.0, "mia_loss_auc": 0.5})
    assert found == {"gap": pytest.approx((10 + 5 + 20) / 3), "tug_of_war": pytest.approx(0.9 * 0.95 * 0.8)}
    assert against_oracle(own, own) == {"gap": 0.0, "tug_of_war": 1.0}
