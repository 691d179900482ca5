"""Every audit on made-up evidence of which the answer is known."""

import math

import numpy as np
import pytest

from audits import AUDITS, carried_out, get_audit
from audits.evidence import Case, Evidence, Images
from utils.errors import ConfigError

CLASSES, WIDTH, EACH = 4, 8, 30
CASE = Case((1,), (0,), (2, 3), tuple("abcd"), tuple("PPQQ"), {})


class NoText:
    """Stands for a learner whose backbone has no text tower."""

    def __init__(self):
        self.model = self.backbone = self


def images(seed: int, spread: float, blind: tuple[int, ...] = (), each: int = EACH, sure: float = 5.0) -> Images:
    """Features around unit vectors, those of blind classes around none; logits name the true class."""
    dice, labels = np.random.RandomState(seed), np.repeat(np.arange(CLASSES), each)
    features = np.eye(CLASSES, WIDTH)[labels] * ~np.isin(labels, blind)[:, None] + spread * dice.randn(
        len(labels), WIDTH
    )
    logits = sure * np.eye(CLASSES)[labels] + dice.randn(len(labels), CLASSES)
    return Images(features / np.linalg.norm(features, axis=1, keepdims=True), labels, logits)


def evidence(spread: float = 0.1, blind: tuple[int, ...] = (), **test) -> Evidence:
    return Evidence(NoText(), images(0, spread, blind), images(1, spread, blind, **test), {"general": images(2, 1.0)})


def figures(audit: str, own: Evidence, original: Evidence | None = None) -> dict[str, float]:
    return carried_out([audit], own, CASE, original or own)


def test_an_unknown_audit_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="no audit 'probes'; did you mean 'probe'"):
        get_audit("probes")
    assert all(callable(get_audit(name)) for name in AUDITS)


def test_classes_that_stand_apart_are_found_and_others_are_not():
    apart, mixed = figures("probe", evidence()), figures("probe", evidence(blind=(1, 2)))
    assert apart.keys() == {"probe_full", "knn_full", "probe_few", "knn_few"}
    assert all(value == 100.0 for value in apart.values())
    assert all(10 < value < 85 for value in mixed.values())  # one of two that cannot be told apart


def test_a_few_images_bring_back_what_stands_apart():
    apart, mixed = figures("prototypes", evidence()), figures("prototypes", evidence(blind=(1, 2)))
    assert apart == {"prototype_1": 100.0, "prototype_5": 100.0, "prototype_20": 100.0}
    assert all(value < 90 for value in mixed.values())


def test_prototypes_by_hand():
    """Class 1 has the mean (1, 1)/√2 of its two images; one test image is nearer to it than to class 0's, one not."""
    train = Images(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([0, 1, 1]), None)
    test = Images(np.array([[math.cos(0.5), math.sin(0.5)], [math.cos(0.3), math.sin(0.3)]]), np.array([1, 1]), None)
    case = Case((1,), (0,), (), ("a", "b"), ("P", "P"), {})
    found = carried_out(["prototypes"], Evidence(NoText(), train, test, {}), case, None)
    assert found["prototype_5"] == 50.0  # the middle between 0 and π/4 is 0.39


def test_accuracy_by_the_classifier():
    own = evidence()
    denied = Images(own.test.features, own.test.labels, own.test.logits * np.where(np.arange(CLASSES) == 1, -1, 1))
    kept = denied.labels != 1
    hits = denied.logits[kept].argmax(1) == denied.labels[kept]
    found = figures("accuracy", Evidence(NoText(), own.train, denied, {}))
    assert found == {"forget": 0.0, "retain": pytest.approx(100.0 * hits.mean())}


def test_what_has_not_moved_is_alike():
    own = evidence()
    found = figures("representation", own)
    assert {name.split("_")[1] for name in found} == {"gone", "adjacent", "remote", "general"}
    assert all(value == pytest.approx(1.0) for value in found.values())
    moved = figures("representation", Evidence(NoText(), own.train, images(9, 0.1), own.general), own)
    assert moved["cka_gone"] < 0.7 and moved["neighbours_gone"] < 0.7 and moved["cka_general"] == pytest.approx(1.0)


def test_members_known_better_are_found_by_every_attack_on_the_answers():
    found = figures("membership", evidence(sure=0.0, each=120))  # training images are named surely, test images are not
    for attack in ("loss", "entropy", "logistic"):
        assert found[f"mia_{attack}_auc"] > 0.95 and found[f"mia_{attack}_balanced"] > 85, attack
        assert found[f"mia_{attack}_tar"] > 50, attack


def test_members_known_worse_stand_below_one_half():
    assert figures("membership", evidence(sure=9.0))["mia_loss_auc"] < 0.1


def test_nothing_is_found_where_members_are_like_the_others():
    found = figures("membership", evidence(each=120))
    assert all(0.35 < found[f"mia_{attack}_auc"] < 0.65 for attack in ("loss", "entropy", "logistic"))
    assert math.isnan(figures("membership", evidence())["mia_loss_tar"])  # 1 % of 30 images cannot be seen


def test_heads_that_learn_by_heart_give_their_images_away():
    """Features without any order in many directions: a head can only learn its images by heart."""
    dice, labels = np.random.RandomState(0), np.repeat(np.arange(2), 40)

    def noise() -> Images:
        features = dice.randn(80, 200)
        return Images(features / np.linalg.norm(features, axis=1, keepdims=True), labels, dice.randn(80, 2))

    case = Case((1,), (0,), (), ("a", "b"), ("P", "P"), {})
    found = carried_out(["membership"], Evidence(NoText(), noise(), noise(), {}), case, None)
    assert found["mia_ratio_auc"] > 0.9 and 0.3 < found["mia_loss_auc"] < 0.7
