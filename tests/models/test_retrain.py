"""Joint retraining from the same weights every session."""

import pytest
import torch

from models.retrain import RetrainLearner


def test_every_session_starts_from_the_same_weights_and_sees_all(tiny_model, recipe, tiny_sessions, train):
    learner = RetrainLearner(tiny_model(), recipe(epochs=2), recipe(epochs=7))
    pretrained = {name: value.clone() for name, value in learner.model.backbone.state_dict().items()}
    starts = []

    def watch(phase):
        now = learner.model.backbone.state_dict()
        assert all(torch.equal(now[name], value) for name, value in pretrained.items())
        labels = torch.cat([batch["fine"] for batch in phase.streams["joint"].batches(64, 0)])
        starts.append((phase.recipe.epochs, labels.unique().tolist(), len(labels), len(learner.model.head("fine"))))

    for session in tiny_sessions(2, 3, grant_past=learner.sees_past):
        moved = train(learner, session, watch)
        assert moved == {"retrain": {name for name, _ in learner.model.named_parameters()}}
        assert len(learner.model.head("fine").rows) == 1
    assert starts == [(2, [0, 1], 12, 2), (2, [0, 1, 2, 3, 4], 30, 5)]


def test_it_asks_for_the_past(tiny_model, recipe, tiny_sessions, train):
    learner = RetrainLearner(tiny_model(), recipe(), recipe())
    assert learner.sees_past
    with pytest.raises(PermissionError, match="joint"):
        train(learner, tiny_sessions(2)[0])


def test_a_state_travels_to_a_fresh_learner(tiny_model, recipe, tiny_sessions, train):
    sessions = tiny_sessions(2, 3, grant_past=True)
    learner, twin = (RetrainLearner(tiny_model(seed=seed), recipe(), recipe()) for seed in (0, 1))
    for session in sessions:
        train(learner, session)
    twin.load_state_dict(learner.state_dict())
    batch = next(sessions[1].stream("test").batches(4, 0))["image"]
    with torch.no_grad():
        one, other = (each.predict(batch).logits["fine"] for each in (learner, twin))
    assert one.shape == (4, 5)
    assert torch.equal(one, other)
