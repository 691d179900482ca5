"""SCRUB and SCRUB-S: the order of the passes, the terms of each kind of batch, the running average, resuming."""

import pytest
import torch

from models.scrub import MARK
from tests.models.replaying import LEVELS, REPLAYS, built, ce_by_hand, figures, kd_by_hand, one_step, served
from tests.models.requests import differing, frozen_copy
from utils.loop import Progress, Recipe, fit
from utils.seeds import seed_everything

NAMES = ("scrub", "scrub_s")


def last_batch(step, size: int = 5):
    """A batch of what stays; the first of a pass is of what goes."""
    return list(step.phase.streams["passes"].batches(size, 7))[-1]


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_steps(toymini, name):
    session, model = served(toymini, "fine", "tiny_vit")
    stream = next(built(name, model).phases(session)).streams["passes"]
    kinds, items, counts = [], [], []
    for batch in stream.batches(3, 5):
        gone = torch.isin(batch["fine"], torch.tensor(session.classes))
        assert gone.all() == gone.any() == (MARK in batch)
        kinds.append("forget" if gone.all() else "retain")
        items.append(batch["item"].tolist())
        counts.append(len(gone))
    # four exemplars and six images of what stays, by three
    both = ["forget"] * 2 + ["retain"] * 2
    assert kinds == both * 5 + ["retain"] * 2 * 5
    assert counts == [3, 1, 3, 3] * 5 + [3, 3] * 5 and sum(counts) == len(stream) == 5 * 4 + 10 * 6
    retained = [items[i] + items[i + 1] for i in range(2, 20, 4)] + [items[i] + items[i + 1] for i in range(20, 30, 2)]
    assert len({tuple(sorted(each)) for each in retained}) == 1  # every pass shows them all
    assert len({tuple(each) for each in retained}) > 5  # shuffled anew


@pytest.mark.parametrize("backbone", ["tiny_vit", "tiny_clip"])
@pytest.mark.parametrize("level", REPLAYS)
def test_the_terms(toymini, level, backbone):
    session, model = served(toymini, level, backbone)
    step = one_step(built("scrub", model), session)
    levels, (student, teacher) = LEVELS[level], (step.student["passes"], step.teacher["passes"])
    apart = 4 * sum(kd_by_hand(student.logits[k], teacher.logits[k], 2.0) for k in levels)
    assert apart > 1e-3
    assert figures(step.terms) == pytest.approx({"forget": -apart, "keep": 0.0, "retain": 0.0}, rel=1e-4, abs=1e-6)
    batch = last_batch(step)
    with torch.no_grad():
        output = model(batch["image"])
        terms = step.phase.loss({"passes": batch})
    apart = 4 * sum(kd_by_hand(output.logits[k], batch[f"teacher.{k}"], 2.0) for k in levels)
    expected = {"forget": 0.0, "keep": 0.001 * apart, "retain": 0.99 * ce_by_hand(output, batch, levels)}
    assert figures(terms) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_smoothed_one_is_held_to_the_weights_before(toymini):
    session, model = served(toymini, "fine", "tiny_vit")
    learner = built("scrub_s", model, reg_weight=0.1)
    before = [parameter.detach().double().clone() for parameter in learner.part]
    step = one_step(learner, session)
    distances = [(p.detach().double() - old).square().sum().sqrt() for p, old in zip(learner.part, before, strict=True)]
    expected = 0.1 * sum(distances).item()
    assert expected > 0.01
    for batch in (step.batches["passes"], last_batch(step)):
        assert step.phase.loss({"passes": batch})["smooth"].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    slopes = torch.autograd.grad(step.terms["smooth"], learner.part)
    for slope, p, old, distance in zip(slopes, learner.part, before, distances, strict=True):
        torch.testing.assert_close(slope.double(), 0.1 * (p.detach().double() - old) / distance, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_at_the_teacher_the_gradient_is_finite(toymini, name):
    session, model = served(toymini, "coarse", "tiny_vit")
    step = one_step(built(name, model), session, shake=0.0)
    for batch in (step.batches["passes"], last_batch(step)):
        terms = step.phase.loss({"passes": batch})
        assert terms.get("smooth", torch.zeros(())).item() == 0.0
        slopes = torch.autograd.grad(sum(terms.values()), step.phase.params)
        assert all(slope.isfinite().all() for slope in slopes)


def test_the_average_follows_after_every_super_epoch(toymini):
    session, model = served(toymini, "fine", "tiny_vit")
    learner = built("scrub_s", model, Recipe(epochs=2, lr=1e-4, batch_size=8, optimizer="adam"))
    expected = [parameter.detach().double().clone() for parameter in learner.part]
    phase, epochs = next(learner.phases(session)), []
    assert phase.after_epoch and len(phase.tracked) == len(learner.part)

    def look(progress: Progress) -> None:
        epochs.append(progress.epoch)
        for mean, now, tracked in zip(expected, learner.part, phase.tracked, strict=True):
            mean.mul_(0.9).add_(0.1 * now.detach().double())
            torch.testing.assert_close(tracked.double(), mean, atol=1e-6, rtol=1e-5)
            assert not torch.equal(tracked, now) and not tracked.requires_grad

    fit(phase, seed=1, after_epoch=look)
    assert epochs == [1, 2]


def test_a_cut_phase_ends_as_an_uncut_one(toymini):
    how = Recipe(epochs=2, lr=1e-4, batch_size=8, optimizer="adam", weight_decay=5e-4)
    ends, kept = [], []

    def keep(progress: Progress) -> None:
        if progress.epoch == 1:
            state = {i: {k: v.clone() for k, v in one.items()} for i, one in progress.optimizer.items()}
            params, tracked = ([value.clone() for value in part] for part in (progress.params, progress.tracked))
            kept.append(Progress(1, params, state, tracked))

    for cut in (False, True):
        session, model = served(toymini, "fine", "tiny_vit")
        learner = built("scrub_s", model, how, reg_weight=0.5)
        seed_everything("test")
        phase = next(learner.phases(session))
        fit(phase, seed=2, start=kept[0] if cut else None, after_epoch=None if cut else keep)
        ends.append((frozen_copy(model), [value.clone() for value in phase.tracked]))
    assert not differing(model, ends[0][0])
    assert all(torch.equal(one, other) for one, other in zip(ends[0][1], ends[1][1], strict=True))
