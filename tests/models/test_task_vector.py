"""Task-vector negation: the arithmetic to the bit, and what it does to a concept."""

import pytest
import torch

from models.task_vector import TaskVectorLearner
from models.unlearn_losses import Negation
from tests.models.requests import (
    REQUESTS,
    by_hand,
    cut,
    differing,
    forget,
    frozen_copy,
    knowing,
    shipped,
    step_through,
    text_rows,
    top1,
)


@pytest.fixture
def build(recipe):
    """A function that makes a learner; two epochs unless said otherwise."""

    def make(model, **options) -> TaskVectorLearner:
        how = options.pop("forget", None) or recipe(epochs=2, lr=1e-4, optimizer="adamw", batch_size=6)
        return TaskVectorLearner(model, recipe(), recipe(), how, **options)

    return make


@pytest.mark.parametrize(
    ("name", "tune", "scale"),
    [("tiny_vit", "all", 1.5), ("tiny_vit", "adapter", 0.4), ("tiny_clip", "all", 2.0), ("tiny_clip", "image", 0.0)],
)
def test_the_arithmetic(toymini, build, name, tune, scale):
    manager = cut(toymini, forget("Veltro Arrow", exemplars=4))
    session, model = manager.sessions()[0], knowing(shipped(name), manager)
    learner = build(model, tune=tune, negation_scale=scale)
    start, tuned = frozen_copy(model), {}
    phases = step_through(learner, session, after=lambda phase: tuned.update(frozen_copy(model)))
    assert phases == ["forget"]
    moved = {key for key in start if not torch.equal(tuned[key], start[key])}
    assert moved and not {key for key in moved if key.startswith("heads.") or key.endswith("logit_scale")}
    end = model.state_dict()
    for key in moved:
        assert torch.equal(end[key], start[key] - scale * (tuned[key] - start[key]))
        exact = start[key].double() - scale * (tuned[key].double() - start[key].double())
        torch.testing.assert_close(end[key].double(), exact, atol=1e-6, rtol=1e-5)
    rest = differing(model, start) - moved
    assert all(key.startswith("heads.") for key in rest) and bool(rest) == (name == "tiny_clip" and tune == "all")
    if rest:
        now = text_rows(model, {"fine": session.order.fine, "coarse": session.order.coarse})
        for level, rows in model.rows().items():
            torch.testing.assert_close(rows.detach(), now[level], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("level", REQUESTS)
def test_fine_tuning_learns_what_is_to_go_and_unlearns_a_little_of_the_kept_parent(toymini, build, level):
    manager = cut(toymini, REQUESTS[level])
    session, model = manager.sessions()[0], knowing(shipped("tiny_vit"), manager)
    phase = next(build(model, negation_coarse=0.25).phases(session))
    batch = next(phase.streams["forget"].batches(9, 0))
    with torch.no_grad():
        logits = model(batch["image"]).logits
        terms = {name: value.item() for name, value in phase.loss({"forget": batch}).items()}
    assert terms == pytest.approx(by_hand(Negation(0.25), session, logits, logits, batch), rel=1e-4, abs=1e-6)
    fine, coarse = (torch.nn.functional.cross_entropy(logits[k], batch[k]).item() for k in ("fine", "coarse"))
    if level != "hybrid":
        assert terms["forget"] == pytest.approx(fine + coarse * (level == "coarse"), rel=1e-4)
        assert terms["keep"] == pytest.approx(-0.25 * coarse * (level == "fine"), rel=1e-4, abs=1e-7)


def test_stepping_the_other_way_forgets(toymini, build, recipe):
    manager = cut(toymini, REQUESTS["fine"])
    session, model = manager.sessions()[0], knowing(shipped("tiny_clip"), manager)
    learner = build(model, negation_scale=3.0, forget=recipe(epochs=8, lr=3e-5, optimizer="adamw", batch_size=6))
    before = top1(learner, session)
    step_through(learner, session)
    gone, kept = top1(learner, session)
    assert before[0] > 0.8 and gone < 0.6 * before[0] and kept > gone
