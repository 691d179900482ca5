"""What all learners share."""

import json
from dataclasses import replace

import pytest
import torch

from models.finetune import FinetuneLearner
from models.learner import open_rows, remap
from tests.support import SIMPLE, experiment, lethe, only_run, without
from utils.errors import DivergenceError


def test_labels_become_positions():
    assert remap(torch.tensor([7, 2, 5, 2]), (2, 5, 7)).tolist() == [2, 0, 1, 0]


def test_the_first_session_has_its_own_recipe(tiny_model, recipe, tiny_sessions):
    learner = FinetuneLearner(tiny_model(), recipe(epochs=5), recipe(epochs=2))
    assert [learner.recipe(session).epochs for session in tiny_sessions(1, 1, 1)] == [5, 2, 2]


@pytest.mark.parametrize("name", ["finetune", "simplecil"])
def test_a_new_parent_beside_known_ones_gets_its_row(workplace, name):
    """A CLIP that knows classes has rows of their parents, and is tested at both levels."""
    known, fresh = ["Veltro Arrow", "Veltro Harbor", "Veltro Comet"], ["Ostara Meadow", "Ostara Falcon"]
    stream = {"known": known, "sessions": [{"learn": fresh}], "exclude": [], "init_epochs": 1}
    config = SIMPLE | stream | {"model_name": name, "convnet_type": "tiny_clip"}
    assert lethe("--config", experiment(without(config, "weights"))) == 0
    found = json.loads((only_run() / "summary.json").read_text())
    assert found["accuracy_last"] > 50 and found["coarse_accuracy_last"] > 50


def test_all_weights_are_tunable_unless_frozen(tiny_model, recipe):
    learner = FinetuneLearner(tiny_model(), recipe(), recipe())
    assert learner.tunable_ratio() == 1
    learner.model.backbone.net.blocks.requires_grad_(False)
    inside = sum(parameter.numel() for parameter in learner.model.backbone.net.blocks.parameters())
    every = sum(parameter.numel() for parameter in learner.model.parameters())
    assert learner.tunable_ratio() == pytest.approx((every - inside) / every)


@torch.no_grad()
def test_features_come_in_the_streams_order_whatever_the_mode(tiny_model, recipe, tiny_sessions):
    learner = FinetuneLearner(tiny_model(), recipe(), recipe())
    stream = tiny_sessions(2)[0].stream("plain")
    images = torch.cat([batch["image"] for batch in stream.batches(5, 0)])
    expected = learner.model.eval().backbone(images)
    learner.model.train()
    torch.testing.assert_close(learner.features(stream), expected)
    assert learner.model.training


@torch.no_grad()
def test_features_of_spoiled_weights_are_refused(tiny_model, recipe, tiny_sessions):
    learner = FinetuneLearner(tiny_model(), recipe(), recipe())
    learner.model.backbone.net.norm.bias[3] = float("inf")
    with pytest.raises(DivergenceError, match="no longer finite"):
        learner.features(tiny_sessions(1)[0].stream("plain"))


def test_rows_are_opened_for_new_classes_and_renewed_for_others(tiny_model, tiny_sessions):
    model, (first, second) = tiny_model(), tiny_sessions(2, 2)
    (rows,), held = open_rows(model, first)
    assert rows is model.head("fine").rows[0] and held is None and len(rows) == 2
    before = rows.detach().clone()
    parts, held = open_rows(model, replace(second, classes=(1, 2, 3)))
    assert [len(part) for part in parts] == [2, 2] and len(model.head("fine")) == 4
    assert torch.equal(rows[0], before[0]) and not torch.equal(rows[1], before[1])
    with torch.no_grad():
        model.head("fine").rows[0].add_(1)
    held()
    assert torch.equal(rows[0], before[0]) and not torch.equal(rows[1], before[1])
