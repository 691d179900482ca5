"""Fine-tuning on the new classes only."""

import math

import pytest
import torch

from models.finetune import FinetuneLearner


@pytest.fixture
def learner(tiny_model, recipe):
    return FinetuneLearner(tiny_model(), recipe(), recipe(epochs=2))


def test_all_weights_move_but_not_the_old_rows(learner, tiny_sessions, train):
    first, second = tiny_sessions(2, 2)
    everything = {name for name, _ in learner.model.named_parameters()}
    assert train(learner, first) == {"finetune": everything | {"heads.fine.rows.0"}}
    assert train(learner, second) == {"finetune": everything | {"heads.fine.rows.1"}}
    assert len(learner.model.head("fine")) == 4


def test_the_loss_is_cross_entropy_over_the_new_columns(learner, tiny_sessions, train):
    first, second = tiny_sessions(2, 2)
    train(learner, first)
    checked = []

    @torch.no_grad()
    def watch(phase):
        learner.model.eval()
        batch = next(phase.streams["train"].batches(6, 0))
        loss = phase.loss({"train": batch})["ce"].item()
        logits = learner.model(batch["image"]).logits["fine"].double().tolist()
        by_hand = [
            math.log(math.fsum(math.exp(row[column]) for column in (2, 3))) - row[label]
            for row, label in zip(logits, batch["fine"].tolist(), strict=True)
        ]
        assert loss == pytest.approx(math.fsum(by_hand) / 6, rel=1e-5)
        learner.model.head("fine").rows[0].mul_(-3).add_(1)
        assert phase.loss({"train": batch})["ce"].item() == pytest.approx(loss, rel=1e-6)
        checked.append(phase.recipe.epochs)

    train(learner, second, watch)
    assert checked == [2]  # the later recipe


def test_old_rows_do_not_decay(tiny_model, recipe, tiny_sessions, train):
    """Adam would move them by a whole step an element, although no gradient reaches them."""
    learner = FinetuneLearner(tiny_model(), recipe(), recipe(optimizer="adam", weight_decay=0.1))
    first, second = tiny_sessions(2, 2)
    train(learner, first)
    before = learner.model.rows()["fine"].clone()
    train(learner, second)
    assert torch.equal(learner.model.rows()["fine"][:2], before)


def test_a_clip_learns_with_its_image_tower(tiny_model, recipe, tiny_sessions, train):
    learner = FinetuneLearner(tiny_model("tiny_clip"), recipe(), recipe())
    moved = train(learner, tiny_sessions(2)[0])["finetune"]
    visual = {name for name, _ in learner.model.named_parameters() if name.startswith("backbone.net.visual.")}
    assert moved == visual | {"heads.fine.rows.0"}
