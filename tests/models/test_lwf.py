"""LwF: its terms on a real batch."""

import pytest

from tests.models.replaying import (
    LEVELS,
    REPLAYS,
    built,
    ce_by_hand,
    figures,
    flat_gradient,
    kd_by_hand,
    one_step,
    served,
)
from tests.models.requests import step_through, top1
from utils.loop import Recipe


@pytest.mark.parametrize("backbone", ["tiny_vit", "tiny_clip"])
@pytest.mark.parametrize("level", REPLAYS)
def test_the_terms(toymini, level, backbone):
    session, model = served(toymini, level, backbone)
    step = one_step(built("lwf", model), session)
    levels, retain = LEVELS[level], step.batches["retain"]
    student, teacher = step.student["retain"], step.teacher["retain"]
    distilled = sum(kd_by_hand(student.logits[k], teacher.logits[k], 2.0) for k in levels)
    assert distilled > 1e-3
    expected = {
        "forget": ce_by_hand(step.student["forget"], step.batches["forget"], levels, "wrong."),
        "distill": 0.5 * distilled,
        "retain": 10 * ce_by_hand(student, retain, levels),
    }
    assert figures(step.terms) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert list(step.phase.streams) == ["forget", "retain"]  # an epoch is a pass over the first


def test_the_weights_are_those_given(toymini):
    found = []
    for weights in ({}, {"reg_weight": 1.5, "retain_weight": 2.0}):
        session, model = served(toymini, "fine", "tiny_vit")
        found.append(figures(one_step(built("lwf", model, **weights), session).terms))
    one, other = found
    assert other == pytest.approx({**one, "distill": 3 * one["distill"], "retain": one["retain"] / 5}, rel=1e-4)


def test_at_the_teacher_nothing_is_distilled(toymini):
    session, model = served(toymini, "coarse", "tiny_vit")
    step = one_step(built("lwf", model), session, shake=0.0)
    assert abs(step.terms["distill"].item()) < 1e-6
    assert flat_gradient(step).isfinite().all()


def test_it_forgets_and_keeps_the_rest(toymini):
    session, model = served(toymini, "fine", "tiny_vit")
    how = Recipe(epochs=12, lr=2e-4, batch_size=4, optimizer="adamw")
    learner = built("lwf", model, how)
    assert min(top1(learner, session)) > 0.8
    step_through(learner, session)
    gone, kept = top1(learner, session)
    assert gone <= 0.4 and kept >= 0.7, (gone, kept)
