"""FDR: the distance of logits, not squared; and its gradient where there is none."""

import math

import pytest
import torch

from tests.models.replaying import LEVELS, REPLAYS, built, ce_by_hand, figures, flat_gradient, one_step, served


def mean_distance(student, teacher, levels) -> float:
    """Mean over the batch of the Euclidean distances, summed over the levels."""
    total = 0.0
    for level in levels:
        rows = list(zip(student.logits[level].tolist(), teacher.logits[level].tolist(), strict=True))
        total += sum(math.dist(new, old) for new, old in rows) / len(rows)
    return total


@pytest.mark.parametrize("backbone", ["tiny_vit", "tiny_clip"])
@pytest.mark.parametrize("level", REPLAYS)
def test_the_terms(toymini, level, backbone):
    session, model = served(toymini, level, backbone)
    step = one_step(built("fdr", model), session)
    distance = mean_distance(step.student["retain"], step.teacher["retain"], LEVELS[level])
    assert distance > 1e-2
    expected = {
        "forget": ce_by_hand(step.student["forget"], step.batches["forget"], LEVELS[level], "wrong."),
        "distance": 50 * distance,
    }
    assert figures(step.terms) == pytest.approx(expected, rel=1e-3)


@torch.no_grad()
def test_doubling_the_distance_doubles_the_term(toymini):
    session, model = served(toymini, "fine", "tiny_vit")
    step = one_step(built("fdr", model), session)
    retain = step.batches["retain"]
    now = step.student["retain"].logits["fine"]
    farther = retain | {"teacher.fine": now + 2 * (retain["teacher.fine"] - now)}
    term = step.phase.loss({**step.batches, "retain": farther})["distance"].item()
    assert term == pytest.approx(2 * step.terms["distance"].item(), rel=1e-4)


@pytest.mark.parametrize("level", REPLAYS)
def test_at_the_teacher_the_gradient_is_finite(toymini, level):
    session, model = served(toymini, level, "tiny_vit")
    step = one_step(built("fdr", model), session, shake=0.0)
    retain = step.batches["retain"]
    with torch.no_grad():  # the teacher to the last bit: what was computed in another batch may differ in it
        both = torch.cat([step.batches["forget"]["image"], retain["image"]])
        said = model(both).logits
    exact = {f"teacher.{k}": said[k][len(step.batches["forget"]["image"]) :] for k in LEVELS[level]}
    terms = step.phase.loss({**step.batches, "retain": retain | exact})
    assert terms["distance"].item() == 0.0
    slopes = torch.autograd.grad(terms["distance"], step.phase.params)
    assert all(torch.equal(slope, torch.zeros_like(slope)) for slope in slopes)
    gradient = flat_gradient(step)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
