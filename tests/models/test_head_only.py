"""The control: forgotten by the classifier, remembered by everything behind it."""

import pytest
import torch

from models.head_only import HeadOnlyLearner
from tests.models.requests import (
    FALCON,
    REQUESTS,
    SUMMIT,
    VELTRO,
    cut,
    differing,
    encoded,
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
    """A function that makes a learner."""
    return lambda model: HeadOnlyLearner(model, recipe(), recipe(), recipe())


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_clip"])
@pytest.mark.parametrize("level", REQUESTS)
def test_the_rows_forget_and_nothing_else_does(toymini, build, name, level):
    manager = cut(toymini, REQUESTS[level])
    session, model = manager.sessions()[0], knowing(shipped(name), manager)
    learner = build(model)
    names = {"fine": session.order.fine, "coarse": session.order.coarse}
    before, features, kept = frozen_copy(model), encoded(learner, session, "test"), top1(learner, session)[1]
    texts = text_rows(model, names) if name == "tiny_clip" else {}
    assert step_through(learner, session) == []
    heads = {"heads.fine.rows.0"} | ({"heads.coarse.rows.0"} if level != "fine" else set())
    assert differing(model, before) == heads
    assert torch.equal(encoded(learner, session, "test"), features)
    assert all(torch.equal(rows, texts[k]) for k, rows in (text_rows(model, names) if texts else {}).items())
    gone, still = top1(learner, session)
    assert gone == 0 and still >= kept > 0.8
    coarse = top1(learner, session, "coarse")
    assert (coarse[0] == 0) == (level == "coarse") and coarse[1] > 0.9


def test_rows_are_turned_round_at_the_level_that_is_named(toymini, build):
    manager = cut(toymini, REQUESTS["hybrid"])
    session, model = manager.sessions()[0], knowing(shipped("tiny_vit"), manager)
    before = {level: rows.detach().clone() for level, rows in model.rows().items()}
    step_through(build(model), session)
    turned = {"fine": {0, 1, 2, FALCON, SUMMIT}, "coarse": {VELTRO}}
    for level, rows in model.rows().items():
        for label, row in enumerate(rows):
            assert torch.equal(row, -before[level][label] if label in turned[level] else before[level][label])


def test_a_second_request_leaves_the_first_as_it_is(toymini, build):
    manager = cut(toymini, forget("Veltro Arrow"), forget("Ostara Falcon"))
    model = knowing(shipped("tiny_clip"), manager)
    learner, rows = build(model), model.rows()["fine"].detach().clone()
    for session in manager.sessions():
        step_through(learner, session)
    signs = (model.rows()["fine"] / rows).detach()[:, 0].tolist()
    assert signs == [-1, 1, 1, 1, -1, 1, 1, 1]


def test_without_coarse_rows_the_fine_ones_do(toymini, tiny_model, build):
    manager = cut(toymini, forget("Veltro", level="coarse"))
    model = tiny_model()
    model.grow("fine", manager.order.fine)
    step_through(build(model.eval()), manager.sessions()[0])
    assert list(model.rows()) == ["fine"]


def test_its_rows_are_all_that_a_checkpoint_holds(toymini, build):
    manager = cut(toymini, REQUESTS["coarse"])
    session, model = manager.sessions()[0], knowing(shipped("tiny_clip"), manager)
    learner = build(model)
    step_through(learner, session)
    state = {name: value.clone() for name, value in learner.state_dict().items()}
    assert set(state) == {"heads.fine.rows.0", "heads.coarse.rows.0"}
    twin = build(knowing(shipped("tiny_clip"), manager))
    twin.load_state_dict(state)
    assert not differing(twin.model, frozen_copy(model))
    heads = sum(value.numel() for value in state.values())
    assert learner.tunable_ratio() == pytest.approx(heads / sum(p.numel() for p in model.parameters()))
