"""SLCA on two sessions of the miniature: who moves how fast, and what aligns the rows."""

import numpy as np
import pytest
import torch

from models.slca import SlcaLearner, normalised


@pytest.fixture
def sessions(tiny_sessions):
    return tiny_sessions(2, 2)


@pytest.fixture
def build(tiny_model, recipe):
    def make(**options):
        step = recipe(lr=1.0, momentum=0.0)  # one step, and one that rounding does not swallow at a hundredth
        return SlcaLearner(tiny_model().eval(), step, step, **{"ca_samples": 8, "ca_epochs": 1, **options})

    return make


def test_who_moves_in_which_phase(build, sessions, train):
    learner = build(bcb_lr_scale=0.1)
    tower = {f"backbone.{name}" for name, _ in learner.model.backbone.named_parameters()}
    assert train(learner, sessions[0]) == {"adapt": tower | {"heads.fine.rows.0"}}
    assert train(learner, sessions[1]) == {
        "adapt": tower | {"heads.fine.rows.1"},
        "align": {"heads.fine.rows.0", "heads.fine.rows.1"},
    }
    assert list(learner.statistics) == [0, 1, 2, 3]
    plain = sessions[1].stream("plain")
    features = learner.features(plain)[plain.labels("fine") == 2]
    torch.testing.assert_close(learner.statistics[2].mean, features.mean(0))


def test_the_backbone_is_slower_by_the_given_share(build, sessions, train):
    steps = []
    for slowness in (1.0, 0.01):
        learner = build(bcb_lr_scale=slowness)
        before = [parameter.detach().clone() for parameter in learner.model.backbone.parameters()]
        rows = []
        train(learner, sessions[0], lambda phase, rows=rows: rows.append(phase.params[-1].detach().clone()))
        tower = [after - start for after, start in zip(learner.model.backbone.parameters(), before, strict=True)]
        steps.append(
            (torch.cat([step.detach().flatten() for step in tower]), learner.model.head("fine").weight - rows[0])
        )
    (fast, row), (slow, same) = steps
    torch.testing.assert_close(row, same)
    assert (slow.norm() / fast.norm()).item() == pytest.approx(0.01, rel=1e-2) and fast.norm() > 1e-3


@pytest.mark.parametrize("temperature", [0.1, None])
def test_rows_are_aligned_by_logits_of_one_length(build, sessions, train, temperature):
    learner, seen = build(ca_with_logit_norm=temperature), []
    train(learner, sessions[0])

    @torch.no_grad()
    def watch(phase):
        if phase.name != "align":
            return
        batch = next(phase.streams["drawn"].batches(32, 0))
        rows = [values.double().numpy() for values in (batch["feature"], learner.model.head("fine").weight)]
        unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in rows]
        logits = 20 * unit[0] @ unit[1].T
        if temperature:
            logits /= temperature * np.linalg.norm(logits, axis=1, keepdims=True)
        losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(32), batch["fine"].numpy()]
        assert phase.loss({"drawn": batch})["fine"].item() == pytest.approx(losses.mean(), rel=1e-4)
        seen.extend(batch["fine"].unique().tolist())

    train(learner, sessions[1], watch)
    assert seen == [0, 1, 2, 3]


def test_normalised_keeps_the_direction():
    found = normalised(torch.tensor([[3.0, 4.0], [0.0, -2.0]]), 0.5)
    torch.testing.assert_close(found, torch.tensor([[1.2, 1.6], [0.0, -2.0]]))


def test_alignment_can_be_left_out(build, sessions, train):
    learner = build(ca=False)
    assert [list(train(learner, session)) for session in sessions] == [["adapt"], ["adapt"]]
