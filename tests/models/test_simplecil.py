"""Class means as rows."""

import numpy as np
import torch

from models.simplecil import SimpleCilLearner


@torch.no_grad()
def means(model, session) -> np.ndarray:
    model.eval()
    batch = next(session.stream("plain").batches(1000, 0))
    features = model.backbone(batch["image"]).double().numpy()
    return np.stack([features[batch["fine"].numpy() == label].mean(0) for label in session.classes])


def test_rows_are_class_means_and_nothing_is_trained(tiny_sessions, tiny_model, recipe, train):
    learner = SimpleCilLearner(tiny_model(), recipe(), recipe())
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    expected = []
    for session in tiny_sessions(3, 2):
        assert train(learner, session) == {}
        expected.append(means(learner.model, session))
        rows = learner.model.head("fine").weight.detach().numpy()
        np.testing.assert_allclose(rows, np.concatenate(expected), atol=1e-5)
    after = learner.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert learner.state_dict().keys() == {"heads.fine.rows.0", "heads.fine.rows.1"}


@torch.no_grad()
def test_it_names_the_class_whose_mean_points_the_same_way(tiny_sessions, tiny_model, recipe, train):
    session = tiny_sessions(4)[0]
    learner = SimpleCilLearner(tiny_model(), recipe(), recipe())
    train(learner, session)
    learner.model.eval()
    batch = next(session.stream("test").batches(1000, 0))
    centres = means(learner.model, session)
    output = learner.predict(batch["image"])
    for feature, logits in zip(output.features.double().numpy(), output.logits["fine"].numpy(), strict=True):
        cosines = centres @ feature / np.linalg.norm(centres, axis=1) / np.linalg.norm(feature)
        np.testing.assert_allclose(logits, 20 * cosines, atol=1e-4)
        assert logits.argmax() == cosines.argmax()
