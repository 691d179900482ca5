"""Evaluation against loops over images."""

import numpy as np
import pytest
import torch

from data.images import ImageStream
from data.sessions import ClassOrder, Session
from models.evaluation import Scores, evaluate, parent_scores, score
from models.finetune import FinetuneLearner
from utils.errors import DivergenceError

LEVELS = ("fine", "coarse")
# six classes under three parents: 0, 2 | 1, 3, 4 | 5
ORDER = ClassOrder(tuple("abcdef"), tuple("xyz"), (0, 1, 0, 1, 1, 2))


@pytest.fixture
def build(tiny_model, recipe):
    return lambda name="tiny_vit": FinetuneLearner(tiny_model(name), recipe(), recipe())


@pytest.fixture
def learner(build):
    return build()


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
            labels = {level: batch[level][row].item() for level in LEVELS}
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
    result = evaluate(score(learner, session), session, groups)
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
    found = evaluate(score(grown(learner, session), session), session, [(0, 1, 2)])
    assert (found["fine"].old, found["fine"].new) == (None, found["fine"].top1)
    assert found["fine"].top5 == 100  # k is above the number of classes
    assert (found["coarse"].top1, found["coarse"].count) == (100, 12)  # there is one parent


def test_a_set_of_one_level_has_no_coarse_figures(learner, draw_set, tmp_path):
    from data.manager import DataManager
    from data.transforms import test_transform
    from utils.requests import LearnRequest

    indexed = draw_set(tmp_path, (("a", "a"), ("b", "b")))
    look = test_transform(64, "bilinear", 1.0)
    session = DataManager(indexed, [LearnRequest(classes=2)], train=look, test=look).sessions()[0]
    found = score(grown(learner, session), session)
    assert found.logits.keys() == {"fine"}
    assert evaluate(found, session, [(0, 1)]).keys() == {"fine"}


# of classes that are to be gone


def made_up(predicted: list[int], fine: list[int], classes: int = 6) -> Scores:
    """Fine logits whose best column is the predicted one; no coarse rows."""
    logits = np.tile(-np.arange(classes, dtype=np.float32), (len(fine), 1))  # the others rank by their column
    logits[np.arange(len(fine)), predicted] = 1.0
    labels = {"fine": np.array(fine), "coarse": np.array([ORDER.parents[label] for label in fine])}
    return Scores(labels, {"fine": logits, "coarse": parent_scores(logits, ORDER)}, {}, logits)


def asked(kind: str, classes, alive, **options) -> Session:
    return Session(2, kind, tuple(classes), tuple(range(6)), tuple(alive), ORDER, **options)


def test_only_the_classes_alive_count_but_all_seen_compete():
    fine = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    predicted = [0, 1, 1, 1, 2, 2, 1, 3, 4, 0, 1, 3]  # class 1 is asked to be forgotten and is still found
    found = evaluate(made_up(predicted, fine), asked("forget", [1], [0, 2, 3, 4, 5]), [(0,), (2, 3)])
    assert found["fine"].count == 10
    assert found["fine"].top1 == pytest.approx(100 * 5 / 10)  # 0, 2, 2, 3, 4
    assert found["fine"].groups == (50.0, 75.0)
    assert (found["fine"].old, found["fine"].new) == (pytest.approx(100 * 4 / 6), None)
    # the parents are x y, x x, y y, y x, y y: right of x (0, 2) three, of y (3, 4) three, of z (5) none
    assert found["coarse"].top1 == pytest.approx(100 * 6 / 10)
    assert found["coarse"].groups == (50.0, 100.0)


def test_top5_counts_among_all_seen():
    scores = made_up([0, 0, 0], [4, 5, 5])
    found = evaluate(scores, asked("forget", [1], [0, 2, 3, 4, 5]), [])
    assert found["fine"].top5 == pytest.approx(100 / 3)  # of columns 0 … 4 in that order, the forgotten 1 among them
    assert (found["fine"].top1, found["fine"].groups, found["fine"].old) == (0.0, (), None)


def test_a_class_learned_again_is_new_and_not_old():
    scores = made_up([0, 1, 1, 3], [0, 1, 1, 2])
    found = evaluate(scores, asked("learn", [1], [0, 1, 2]), [(0, 1), (2,), (1,)])["fine"]
    assert found.groups == (100.0, 0.0, 100.0)
    assert (found.old, found.new) == (50.0, 100.0)  # the images of 0 and 2; those of 1


def test_nothing_is_left_alive():
    found = evaluate(made_up([0, 1], [0, 1]), asked("forget", range(6), []), [(), ()])
    for level in LEVELS:
        assert found[level].count == 0
        assert np.isnan([found[level].top1, found[level].top5, *found[level].groups]).all()


def test_parents_score_as_their_best_child():
    scores = np.random.default_rng(0).normal(size=(50, 5))
    found = parent_scores(scores, ORDER)
    assert found.shape == (50, 2)  # the third parent has no column yet
    for row, expected in zip(scores, found, strict=True):
        assert expected.tolist() == [max(row[0], row[2]), max(row[1], row[3], row[4])]


# one pass over the images


def test_scores_of_every_test_image(learner, tiny_sessions):
    session = tiny_sessions(2, 1)[1]
    found = score(grown(learner, session), session)
    assert {level: value.shape for level, value in found.logits.items()} == {"fine": (12, 3), "coarse": (12, 1)}
    assert found.text == {}  # there is no text tower
    for level in LEVELS:
        assert found.labels[level].tolist() == session.stream("test").labels(level).tolist()
    with torch.no_grad():
        images = next(session.stream("test").batches(100, 0))["image"]
        expected = learner.model.eval()(images).logits["fine"]
    torch.testing.assert_close(torch.from_numpy(found.logits["fine"]), expected, rtol=1e-4, atol=1e-4)
    assert found.logits["coarse"].tolist() == found.logits["fine"].max(1, keepdims=True).tolist()


@pytest.mark.parametrize("levels", [(), ("coarse",)])
@torch.no_grad()
def test_a_clip_is_also_asked_by_the_plain_names(build, tiny_sessions, levels):
    learner, session = build("tiny_clip"), tiny_sessions(4)[0]
    grown(learner, session, *levels)
    before = score(learner, session)
    for level in LEVELS:
        np.testing.assert_allclose(before.text[level], before.logits[level], rtol=1e-5, atol=1e-4)
    for level in ("fine", *levels):  # rows turned round hide what the features still say
        head = learner.model.head(level)
        head.replace({0: -head.weight[0]})
    found = score(learner, session)
    np.testing.assert_array_equal(found.text["fine"], before.text["fine"])
    np.testing.assert_allclose(found.logits["fine"][:, 0], -before.logits["fine"][:, 0], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(found.text["coarse"], before.text["coarse"])
    if levels:
        np.testing.assert_allclose(found.logits["coarse"][:, 0], -before.logits["coarse"][:, 0], rtol=1e-5, atol=1e-4)


def test_every_name_is_encoded_once_however_many_batches(build, tiny_sessions, monkeypatch):
    learner, session = build("tiny_clip"), tiny_sessions(3)[0]
    grown(learner, session, "coarse")
    heard = []
    encode = learner.model.backbone.encode_text
    monkeypatch.setattr(learner.model.backbone, "encode_text", lambda texts: heard.extend(texts) or encode(texts))
    whole = ImageStream.batches
    monkeypatch.setattr(ImageStream, "batches", lambda stream, size, seed, part: whole(stream, 2, seed, part))
    score(learner, session)
    names = [*session.order.fine, session.order.coarse[0]]
    assert sorted(heard) == sorted(t.replace("{}", name) for name in names for t in learner.model.templates)


@torch.no_grad()
def test_weights_that_are_no_numbers_any_more(learner, tiny_sessions):
    session = tiny_sessions(2)[0]
    grown(learner, session).model.backbone.net.norm.weight[0] = float("nan")
    with pytest.raises(DivergenceError, match=r"after session 0 .*no longer finite"):
        score(learner, session)
