"""MOS: adapters that are merged while they learn, and the answer of those that stay with what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.mos import MosLearner, merging
from tests.models.travelling import assert_state_travels


@pytest.fixture
def sessions(tiny_sessions):
    return tiny_sessions(2, 2, 2)  # of one class alone the cross-entropy is 0 and nothing moves


@pytest.fixture
def build(tiny_model, recipe):
    def make(**options):
        twice = recipe(epochs=2)
        options = {"ffn_num": 4, "adapter_scale": 1.0, "ca_samples": 8, "ca_epochs": 1} | options
        return MosLearner(tiny_model().eval(), twice, twice, **options)

    return make


@torch.no_grad()
def encoded(tower, session, stream: str = "plain") -> np.ndarray:
    tower.eval()
    return torch.cat([tower(batch["image"]) for batch in session.stream(stream).batches(7, 0)]).double().numpy()


def scaled_cosines(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (features, rows)]
    return 20 * unit[0] @ unit[1].T


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def test_who_moves_in_which_phase(build, sessions, train):
    learner = build()
    frozen = {name: value.clone() for name, value in learner.pretrained.state_dict().items()}
    for number, session in enumerate(sessions):
        earlier = [[part.detach().clone() for part in group] for group in learner.groups]
        moved = train(learner, session)
        own = {name for name in moved["adapt"] if name.startswith("backbone.")}
        assert moved["adapt"] - own == {f"heads.fine.rows.{number}"}
        assert own and all(name.startswith(f"backbone.net.{number + 1}.") and ".adapter." in name for name in own)
        rows = {f"heads.fine.rows.{part}" for part in range(number + 1)}
        assert list(moved) == ["adapt"] + ["align"] * (number > 0) and moved.get("align", rows) == rows
        for group, before in zip(learner.groups, earlier, strict=False):
            assert all(torch.equal(*pair) for pair in zip(group, before, strict=True))
    assert all(torch.equal(value, frozen[name]) for name, value in learner.pretrained.state_dict().items())


def test_merging_by_hand():
    moving = [torch.nn.Parameter(torch.tensor([1.0, 2.0])), torch.nn.Parameter(torch.tensor([[5.0]]))]
    earlier = [[torch.tensor([0.0, 4.0]), torch.tensor([[1.0]])], [torch.tensor([2.0, 8.0]), torch.tensor([[2.0]])]]
    merge = merging(moving, earlier, 0.25)
    merge()
    torch.testing.assert_close(moving[0].data, torch.tensor([1.0, 3.0]))  # means 1 and 6
    torch.testing.assert_close(moving[1].data, torch.tensor([[4.125]]))  # mean 1.5
    merge()
    torch.testing.assert_close(moving[0].data, torch.tensor([1.0, 3.75]))


def test_new_adapters_begin_as_the_last_and_every_step_merges(build, sessions, train):
    learner, begun = build(adapter_momentum=1.0), []
    train(learner, sessions[0])
    train(learner, sessions[1], lambda phase: begun.append([part.detach().clone() for part in learner.groups[-1]]))
    assert all(torch.equal(*pair) for pair in zip(begun[0], learner.groups[0], strict=True))
    # with α = 1 every step ends at the mean of the earlier ones
    for pair in zip(learner.groups[1], learner.groups[0], strict=True):
        torch.testing.assert_close(*pair)
    free = build(adapter_momentum=0.0)
    for session in sessions[:2]:
        train(free, session)
    assert not all(torch.allclose(*pair) for pair in zip(free.groups[1], free.groups[0], strict=True))


def test_prototypes_stand_in_the_pretrained_space_and_statistics_in_that_of_the_own_adapters(build, sessions, train):
    learner = build()
    for session in sessions:
        train(learner, session)
    assert learner.born.tolist() == [0, 0, 1, 1, 2, 2]
    for number, session in enumerate(sessions):
        labels = session.stream("plain").labels("fine").numpy()
        original, adapted = (encoded(tower, session) for tower in (learner.pretrained, learner.towers[number + 1]))
        for label in session.classes:
            mean = original[labels == label].mean(0)
            np.testing.assert_allclose(learner.prototypes[label].numpy(), mean, atol=1e-5)
            mean = adapted[labels == label].mean(0)
            np.testing.assert_allclose(learner.statistics[label].mean.numpy(), mean, atol=1e-4)


def test_the_answer_by_hand(build, sessions, train):
    learner = build()
    for session in sessions:
        train(learner, session)
    spaces = [encoded(tower, sessions[2], "test") for tower in learner.towers]
    rows, prototypes = (
        part.detach().double().numpy() for part in (learner.model.head("fine").weight, learner.prototypes)
    )
    firsts = scaled_cosines(spaces[0], prototypes)
    seconds = [scaled_cosines(space, rows) for space in spaces[1:]]
    with torch.no_grad():
        outputs = [learner.predict(batch["image"]) for batch in sessions[2].stream("test").batches(7, 0)]
    logits = torch.cat([output.logits["fine"] for output in outputs]).double().numpy()
    features = torch.cat([output.features for output in outputs]).double().numpy()
    born = learner.born.tolist()
    for image, first in enumerate(firsts):
        task = born[int(first.argmax())]
        for hop in range(4):
            following = born[int(seconds[task][image].argmax())]
            if following == task or hop == 3:
                break
            task = following
        np.testing.assert_allclose(features[image], spaces[task + 1][image], atol=1e-4)
        expected = (softmax(first) + softmax(seconds[task][image])) / 2
        np.testing.assert_allclose(np.exp(logits[image]), expected, atol=1e-4)


def test_adapters_hand_on_until_one_keeps_the_image_four_looks_at_most(build):
    learner = build()
    learner.born = torch.tensor([0, 1, 2, 3, 4])
    learner.model.grow("fine", list("abcde"))
    rows = learner.model.head("fine").weight.detach()

    def found(names: list[int], start: int) -> int:
        """What the adapters say that are asked last, where those of task t name class names[t]."""
        features = learner._found(rows[names][None], torch.tensor([start]))
        return next(name for name in range(5) if torch.equal(features[0], rows[name]))

    assert found([0, 2, 2, 3, 4], 0) == 0
    assert found([1, 1, 2, 3, 4], 0) == 1
    assert found([2, 1, 4, 3, 4], 0) == 4
    assert found([1, 0, 2, 3, 4], 0) == 0  # asked: 0, 1, 0, 1; nobody keeps the image
    assert found([1, 2, 3, 4, 0], 0) == 4  # asked: 0, 1, 2, 3


def test_a_state_travels_and_the_next_session_is_the_same(build, sessions, train):
    assert len(assert_state_travels(build, train, sessions[:2], sessions[2]).groups) == 3


def test_features_are_drawn_around_whole_means(build, sessions, train):
    learner = build()
    for session in sessions[:2]:
        train(learner, session)
    points = {
        label: replace(item, factor=torch.zeros_like(item.factor), ridge=0.0)
        for label, item in learner.statistics.items()
    }
    drawn = learner._drawn(points, 9).draw(torch.Generator())
    expected = torch.stack([points[label].mean for label in drawn["fine"].tolist()])
    torch.testing.assert_close(drawn["feature"], expected)


def test_alignment_can_be_left_out(build, sessions, train):
    learner = build(ca=False)
    assert [list(train(learner, session)) for session in sessions[:2]] == [["adapt"], ["adapt"]]
