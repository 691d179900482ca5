"""RanPAC on two sessions of the miniature."""

import numpy as np
import pytest
import torch

import models.ranpac
import utils.ridge
from models.ranpac import RanPacLearner
from tests.models.requests import cut, knowing, learn, shipped
from utils.errors import ConfigError
from utils.ridge import RIDGES

M = 60


@pytest.fixture
def build(tiny_model, recipe):
    def make(seed: int = 0, epochs: int = 2):
        model = tiny_model().eval()
        torch.manual_seed(seed)
        return RanPacLearner(model, recipe(epochs=epochs), recipe(), ffn_num=4, adapter_scale=1.0, rp_size=M)

    return make


def projected(learner, session, stream: str = "plain") -> tuple[np.ndarray, np.ndarray]:
    """max(f·W, 0) of every image of a stream, and its label."""
    features, labels = [], []
    learner.model.eval()
    with torch.no_grad():
        for batch in session.stream(stream).batches(7, 0):
            features.append(learner.model.backbone(batch["image"]).double().numpy())
            labels.append(batch["fine"].numpy())
    return np.maximum(np.concatenate(features) @ learner.projection.double().numpy(), 0), np.concatenate(labels)


def test_adapters_learn_in_the_first_session_alone(build, tiny_sessions, train):
    learner, (first, second) = build(), tiny_sessions(2, 1)
    adapters = {name for name, _ in learner.model.named_parameters() if ".adapter." in name}
    assert train(learner, first) == {"adapt": adapters}
    assert train(learner, second) == {}


def test_the_rows_are_one_regression_of_all_sessions(build, tiny_sessions, train, monkeypatch):
    monkeypatch.setattr(models.ranpac, "best_ridge", lambda *_: 100.0)
    learner, sessions = build(), tiny_sessions(2, 1, 1)
    for session in sessions:
        train(learner, session)
    parts = [projected(learner, session) for session in sessions]
    rows, labels = (np.concatenate(values) for values in zip(*parts, strict=True))
    expected = np.linalg.solve(rows.T @ rows + 100 * np.eye(M), rows.T @ np.eye(4)[labels])
    np.testing.assert_allclose(learner.rows.numpy(), expected, atol=1e-4 * np.abs(expected).max())
    seen, _ = projected(learner, sessions[2], "test")
    with torch.no_grad():
        output = learner.predict(next(sessions[2].stream("test").batches(1000, 0))["image"])
    regressed = output.logits["fine"].numpy() / float(learner.model.scale)
    np.testing.assert_allclose(regressed, seen @ expected, atol=1e-3)
    assert output.features.shape[1] == 128


def test_the_ridge_is_chosen_on_the_sessions_own_images(build, tiny_sessions, train, monkeypatch):
    asked = []

    def watched(examples, width, targets, dice):
        assert width == M
        asked.append((examples(torch.arange(len(targets))).numpy(), targets.argmax(1).numpy()))
        return RIDGES[-1]

    monkeypatch.setattr(models.ranpac, "best_ridge", watched)
    learner, sessions = build(epochs=0), tiny_sessions(2, 1)
    for session in sessions:
        train(learner, session)
    for (examples, targets), session in zip(asked, sessions, strict=True):
        rows, labels = projected(learner, session)
        np.testing.assert_allclose(examples, rows, atol=1e-4)
        np.testing.assert_array_equal(targets, labels - min(session.classes))


def watch(monkeypatch, learner, sizes: list[int]) -> None:
    """Note how many images are projected together."""
    project = learner.project

    def watched(features):
        sizes.append(len(features))
        return project(features)

    monkeypatch.setattr(learner, "project", watched)


def test_no_more_than_a_few_images_are_projected_at_a_time(build, tiny_sessions, train, monkeypatch):
    chosen, session = [], tiny_sessions(3)[0]
    choose = models.ranpac.best_ridge
    monkeypatch.setattr(models.ranpac, "best_ridge", lambda *given: chosen.append(choose(*given)) or 100.0)
    for few in (1024, 5):
        for module in (models.ranpac, utils.ridge):
            monkeypatch.setattr(module, "AT_A_TIME", few)
        learner, sizes = build(epochs=0), []
        watch(monkeypatch, learner, sizes)
        train(learner, session)
        assert max(sizes) <= few and sum(sizes) > len(session.stream("plain"))
    assert chosen[0] == chosen[1]


def test_a_state_travels_to_a_learner_with_another_projection(build, tiny_sessions, train):
    learner, other, sessions = build(), build(seed=1), tiny_sessions(2, 1)
    assert not torch.equal(learner.projection, other.projection)
    train(learner, sessions[0])
    other.load_state_dict({name: value.clone() for name, value in learner.state_dict().items()})
    images = next(sessions[1].stream("test").batches(1000, 0))["image"]
    with torch.no_grad():
        for after in range(2):
            answers = [each.predict(images).logits["fine"] for each in (learner, other)]
            assert torch.equal(*answers) and answers[0].shape[1] == (2, 3)[after]
            for each in (learner, other):
                train(each, sessions[1])


def test_classes_without_images_are_refused(toymini, recipe):
    manager = cut(toymini, learn("Veltro Comet"), known=["Veltro Arrow"])
    learner = RanPacLearner(knowing(shipped("tiny_vit"), manager), recipe(), recipe(), rp_size=M)
    with pytest.raises(ConfigError, match="key 'known': 'Veltro Arrow' is known before"):
        learner.check(manager.sessions()[0])
