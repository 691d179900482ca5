"""Evaluation against loops over images."""

import numpy as np
import pytest
import torch

from data.sessions import ClassOrder
from models.evaluation import evaluate, learner_logits, parent_scores
from models.finetune import FinetuneLearner
from utils.errors import DivergenceError


@pytest.fixture
def learner(tiny_model, recipe):
    return FinetuneLearner(tiny_model(), recipe(), recipe())


def grown(learner, session, *levels: str):
    """Random rows for all classes seen, and for their parents."""
    torch.manual_seed(1)
    order = session.order
    learner.model.grow("fine", [order.fine[label] for label in session.seen])
    if "coarse" in levels:
        learner.model.grow("coarse", [order.coarse[label] for label in order.coarse_of(session.seen)])
    return learner


@torch.no_grad()
def by_hand(learner, session) -> list[dict]:
    """Per test image its labels and, per level, the classes from best to worst."""
    learner.model.eval()
    found = []
    for batch in session.stream("test").batches(5, 0):
        logits = learner.model(batch["image"]).logits
        for row in range(len(batch["item"])):
            fine = logits["fine"][row].tolist()
            ranked = sorted(range(len(fine)), key=lambda label: -fine[label])
            parents = list(dict.fromkeys(session.order.parents[label] for label in ranked))
            if "coarse" in logits:
                own = logits["coarse"][row].tolist()
                parents = sorted(range(len(own)), key=lambda label: -own[label])
            labels = {level: batch[level][row].item() for level in ("fine", "coarse")}
            found.append({"labels": labels, "ranked": {"fine": ranked, "coarse": parents}})
    return found


def share(images: list[dict], level: str, k: int = 1) -> float:
    return 100 * sum(image["labels"][level] in image["ranked"][level][:k] for image in images) / len(images)


@pytest.mark.parametrize("levels", [(), ("coarse",)])
def test_accuracies_by_level_group_and_age(learner, tiny_sessions, levels):
    session = tiny_sessions(2, 1, 4)[2]
    images = by_hand(grown(learner, session, *levels), session)
    assert len(images) == 7 * 4
    groups = [(0, 1), (2,), (3, 4, 5, 6)]
    result = evaluate(learner, session, groups)
    assert result.keys() == {"fine", "coarse"}
    for level, found in result.items():
        by_group = [share([i for i in images if i["labels"]["fine"] in group], level) for group in groups]
        old = [image for image in images if image["labels"]["fine"] < 3]
        assert found.top1 == pytest.approx(share(images, level))
        assert found.top5 == pytest.approx(share(images, level, 5))
        assert found.groups == pytest.approx(tuple(by_group))
        assert (found.old, found.new) == (pytest.approx(share(old, level)), pytest.approx(by_group[-1]))
        assert found.count == 28
    assert 0 < result["fine"].top1 < 100  # a random head is sometimes right
    assert result["fine"].top1 < result["fine"].top5 < 100


def test_a_first_session_of_few_classes(learner, tiny_sessions):
    session = tiny_sessions(3)[0]
    found = evaluate(grown(learner, session), session, [(0, 1, 2)])
    assert (found["fine"].old, found["fine"].new) == (None, found["fine"].top1)
    assert found["fine"].top5 == 100  # k is above the number of classes
    assert (found["coarse"].top1, found["coarse"].count) == (100, 12)  # there is one parent


def test_a_set_of_one_level_has_no_coarse_figures(learner, draw_set, tmp_path):
    from data.manager import DataManager
    from data.transforms import test_transform
    from utils.requests import LearnRequest

    indexed = draw_set(tmp_path, (("a", "a"), ("b", "b")))
    look = test_transform(64, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)
    session = DataManager(indexed, [LearnRequest(classes=2)], train=look, test=look).sessions()[0]
    assert evaluate(grown(learner, session), session, [(0, 1)]).keys() == {"fine"}


def test_parents_score_as_their_best_child():
    order = ClassOrder(tuple("abcdef"), tuple("xyz"), (0, 1, 0, 1, 1, 2))
    scores = np.random.default_rng(0).normal(size=(50, 5))
    found = parent_scores(scores, order)
    assert found.shape == (50, 2)  # the third parent has no column yet
    for row, expected in zip(scores, found, strict=True):
        assert expected.tolist() == [max(row[0], row[2]), max(row[1], row[3], row[4])]


def test_logits_and_labels_of_every_test_image(learner, tiny_sessions):
    session = tiny_sessions(2, 1)[1]
    found = learner_logits(grown(learner, session), session)
    assert {name: value.shape for name, value in found.items()} == {
        "logits.fine": (12, 3),
        "fine": (12,),
        "coarse": (12,),
    }
    assert found["fine"].tolist() == session.stream("test").labels("fine").tolist()


@torch.no_grad()
def test_weights_that_are_no_numbers_any_more(learner, tiny_sessions):
    session = tiny_sessions(2)[0]
    grown(learner, session).model.backbone.net.norm.weight[0] = float("nan")
    with pytest.raises(DivergenceError, match=r"after session 0 .*no longer finite"):
        evaluate(learner, session, [(0, 1)])
