"""APER: two towers side by side, one of them adapted in the first session, and class means."""

import numpy as np
import pytest
import torch

from models.aper import AperAdapterLearner, AperFinetuneLearner
from tests.models.requests import cut, knowing, learn, shipped
from utils.errors import ConfigError


@pytest.fixture
def build(tiny_model, recipe):
    def make(kind: str, model: str = "tiny_vit", epochs: int = 2):
        options = {"ffn_num": 4, "adapter_scale": 1.0} if kind == "adapter" else {}
        learner = AperAdapterLearner if kind == "adapter" else AperFinetuneLearner
        return learner(tiny_model(model).eval(), recipe(epochs=epochs), recipe(epochs=7), **options)

    return make


@torch.no_grad()
def encoded(tower, session, stream: str = "plain") -> np.ndarray:
    tower.eval()
    return torch.cat([tower(batch["image"]) for batch in session.stream(stream).batches(7, 0)]).double().numpy()


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_clip"])
@pytest.mark.parametrize("kind", ["adapter", "finetune"])
def test_one_tower_moves_in_the_first_session_and_nothing_later(build, tiny_model, tiny_sessions, train, kind, name):
    first, second = tiny_sessions(2, 1)
    learner, original = build(kind, name), tiny_model(name).backbone
    moved = train(learner, first)["adapt"]
    assert moved and all(each.startswith("backbone.net.1.") for each in moved)
    assert all(".adapter." in each for each in moved) == (kind == "adapter")
    assert not any(".transformer.resblocks" in each and ".visual." not in each for each in moved)  # a text tower
    assert train(learner, second) == {}
    np.testing.assert_array_equal(encoded(learner.model.backbone.net[0], first), encoded(original, first))
    assert np.abs(encoded(learner.model.backbone.net[1], first) - encoded(original, first)).max() > 1e-3


@pytest.mark.parametrize("kind", ["adapter", "finetune"])
def test_it_names_the_class_of_the_nearest_mean_in_both_spaces_at_once(build, tiny_sessions, train, kind):
    learner, sessions = build(kind), tiny_sessions(2, 1)
    for session in sessions:
        train(learner, session)
    towers, rows = learner.model.backbone.net, []
    for session in sessions:
        features = np.hstack([encoded(tower, session) for tower in towers])
        labels = session.stream("plain").labels("fine").numpy()
        rows += [features[labels == label].mean(0) for label in session.classes]
    batch = next(sessions[1].stream("test").batches(1000, 0))
    with torch.no_grad():
        found = learner.predict(batch["image"]).logits["fine"].numpy()
    features = np.hstack([encoded(tower, sessions[1], "test") for tower in towers])
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (features, np.stack(rows))]
    np.testing.assert_allclose(found, 20 * unit[0] @ unit[1].T, atol=1e-4)


def test_the_loss_is_cross_entropy_of_cosines_over_the_first_classes(build, tiny_sessions, train):
    learner, (session,) = build("adapter"), tiny_sessions(3)
    checked = []

    @torch.no_grad()
    def watch(phase):
        rows, batch = phase.params[-1], next(phase.streams["train"].batches(8, 0))
        learner.model.eval()
        features = learner.model.backbone.net[1](batch["image"]).double().numpy()
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (features, rows.double().numpy())]
        logits = 20 * unit[0] @ unit[1].T
        losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(8), batch["fine"].numpy()]
        assert phase.loss({"train": batch})["ce"].item() == pytest.approx(losses.mean(), rel=1e-5)
        assert phase.recipe.epochs == 2 and rows.shape == (3, 128)
        checked.append(phase.name)

    train(learner, session, watch)
    assert checked == ["adapt"]


@pytest.mark.parametrize("kind", ["adapter", "finetune"])
def test_a_state_travels_to_a_fresh_learner(build, tiny_sessions, train, kind):
    learner, other, sessions = build(kind), build(kind), tiny_sessions(2, 1)
    train(learner, sessions[0])
    other.load_state_dict({name: value.clone() for name, value in learner.state_dict().items()})
    images = next(sessions[1].stream("test").batches(1000, 0))["image"]
    for each in (learner, other):
        assert train(each, sessions[1]) == {}
    with torch.no_grad():
        answers = [each.predict(images).logits["fine"] for each in (learner, other)]
    assert torch.equal(*answers) and answers[0].shape[1] == 3


def test_the_state_of_adapters_is_small(build, tiny_sessions, train):
    learner = build("adapter")
    train(learner, tiny_sessions(2)[0])
    assert all(".adapter." in name or name.startswith("heads.") for name in learner.state_dict())


def test_classes_without_images_are_refused(toymini, recipe):
    manager = cut(toymini, learn("Veltro Comet"), known=["Veltro Arrow"])
    learner = AperAdapterLearner(knowing(shipped("tiny_clip"), manager), recipe(), recipe())
    with pytest.raises(ConfigError, match="key 'known': 'Veltro Arrow' is known before"):
        learner.check(manager.sessions()[0])
