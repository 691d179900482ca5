"""EASE: a tower a session, prototypes seen and guessed, and the weighted sum of cosines."""

import math

import numpy as np
import pytest
import torch

from models.ease import EaseLearner, complement
from tests.models.travelling import assert_state_travels


@pytest.fixture
def sessions(tiny_sessions):
    return tiny_sessions(2, 2, 1)


@pytest.fixture
def build(tiny_model, recipe):
    def make(**options):
        twice = recipe(epochs=2)
        return EaseLearner(tiny_model().eval(), twice, twice, ffn_num=4, adapter_scale=1.0, **options)

    return make


@torch.no_grad()
def encoded(tower, session, stream: str = "plain") -> np.ndarray:
    tower.eval()
    return torch.cat([tower(batch["image"]) for batch in session.stream(stream).batches(7, 0)]).double().numpy()


def cosine(one, other) -> float:
    return float(np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other))


def test_complement_by_hand():
    old, new = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    seen = torch.tensor([[1.0, 0.0], [0.0, 10.0]])
    share = math.e / (1 + math.e)  # cosines 0 and 1
    torch.testing.assert_close(complement(old, new, seen), torch.tensor([[1 - share, 10 * share]]))


def test_every_session_trains_the_adapters_of_its_own_tower(build, sessions, train):
    learner = build()
    backbone = {name: value.clone() for name, value in learner.pretrained.state_dict().items()}
    train(learner, sessions[0])
    before = encoded(learner.towers[0], sessions[0])
    moved = train(learner, sessions[1])
    assert list(moved) == ["adapt"] and moved["adapt"]
    assert all(name.startswith("backbone.net.1.") and ".adapter." in name for name in moved["adapt"])
    np.testing.assert_array_equal(encoded(learner.towers[0], sessions[0]), before)
    assert all(torch.equal(value, backbone[name]) for name, value in learner.pretrained.state_dict().items())


def test_prototypes_and_logits(build, sessions, train):
    learner = build(subspace_weight=0.3)
    for session in sessions:
        train(learner, session)
    towers, born = learner.towers, [0, 0, 1, 1, 2]
    assert learner.born.tolist() == born and learner.prototypes.shape == (5, 3, 128)
    expected = np.zeros((5, 3, 128))
    for number, session in enumerate(sessions):
        labels = session.stream("plain").labels("fine").numpy()
        for space in range(number + 1):
            features = encoded(towers[space], session)
            for label in session.classes:
                expected[label, space] = features[labels == label].mean(0)
    for space in (1, 2):  # guessed from the classes of the session that brought the space, oldest space first
        new = [label for label in range(5) if born[label] == space]
        for label in (label for label in range(5) if born[label] < space):
            own = born[label]
            weights = np.exp([cosine(expected[label, own], expected[other, own]) for other in new])
            guess = sum(weight * expected[other, space] for weight, other in zip(weights, new, strict=True))
            expected[label, space] = guess / weights.sum()
    np.testing.assert_allclose(learner.prototypes.numpy(), expected, atol=1e-4)
    spaces = [encoded(tower, sessions[2], "test") for tower in towers]
    with torch.no_grad():
        batches = list(sessions[2].stream("test").batches(7, 0))
        found = torch.cat([learner.predict(batch["image"]).logits["fine"] for batch in batches])
    for place, row in enumerate(found.tolist()):
        for label, value in enumerate(row):
            weights = [1.0 if space == born[label] else 0.3 for space in range(3)]
            by_hand = sum(w * cosine(s[place], p) for w, s, p in zip(weights, spaces, expected[label], strict=True))
            assert value == pytest.approx(20 * by_hand, abs=1e-3)


def test_the_published_share_of_other_spaces(build, sessions, train):
    learner, images = build(subspace_weight=0.3, published_subspace_weight=True), torch.rand(4, 3, 64, 64)
    for session, share in zip(sessions, (0.3, 0.3, 0.15), strict=True):  # none, one and two others
        train(learner, session)
        with torch.no_grad():
            found = learner.predict(images).logits["fine"]
            learner.alpha, learner.divided = share, False
            assert torch.equal(found, learner.predict(images).logits["fine"])
        learner.alpha, learner.divided = 0.3, True


def test_a_state_travels_and_the_next_session_is_the_same(build, sessions, train):
    assert len(assert_state_travels(build, train, sessions[:2], sessions[2]).towers) == 3
