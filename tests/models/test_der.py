"""DER and DER++: embeddings matched, summed over the batch; another batch for the CE."""

import pytest
import torch

from tests.models.replaying import (
    LEVELS,
    REPLAYS,
    built,
    ce_by_hand,
    figures,
    flat_gradient,
    one_step,
    served,
)
from utils.loop import Recipe, fit


def squared_distance(student, teacher) -> float:
    """Σ over the batch and the features."""
    pairs = zip(student.features.double().flatten().tolist(), teacher.features.double().flatten().tolist(), strict=True)
    return sum((new - old) ** 2 for new, old in pairs)


@pytest.mark.parametrize("backbone", ["tiny_vit", "tiny_clip"])
@pytest.mark.parametrize("level", REPLAYS)
@pytest.mark.parametrize(("name", "weight"), [("der", 0.01), ("der_pp", 0.005)])
def test_the_terms(toymini, name, weight, level, backbone):
    session, model = served(toymini, level, backbone)
    step = one_step(built(name, model), session)
    levels, distance = LEVELS[level], squared_distance(step.student["retain"], step.teacher["retain"])
    assert distance > 1e-3
    expected = {
        "forget": ce_by_hand(step.student["forget"], step.batches["forget"], levels, "wrong."),
        "match": weight * distance,
    }
    if name == "der_pp":
        expected["retain"] = 0.005 * ce_by_hand(step.student["other"], step.batches["other"], levels)
    assert figures(step.terms) == pytest.approx(expected, rel=1e-3)


def test_the_sum_grows_with_the_batch(toymini):
    session, model = served(toymini, "fine", "tiny_vit")
    step = one_step(built("der", model), session, size=6)
    halves = [{key: value[part] for key, value in step.batches["retain"].items()} for part in (slice(3), slice(3, 6))]
    terms = [step.phase.loss({**step.batches, "retain": half})["match"].item() for half in halves]
    assert sum(terms) == pytest.approx(step.terms["match"].item(), rel=1e-4)


def test_the_ce_has_another_batch(toymini):
    session, model = served(toymini, "fine", "tiny_vit")
    drawn = []
    phase = next(built("der_pp", model, Recipe(epochs=3, lr=1e-6, batch_size=3)).phases(session))
    assert list(phase.streams) == ["forget", "retain", "other"]
    loss = phase.loss

    def watched(batches):
        drawn.append([tuple(batches[name]["item"].tolist()) for name in ("retain", "other")])
        return loss(batches)

    object.__setattr__(phase, "loss", watched)
    fit(phase, seed=0)
    assert len(drawn) == 3 * 2  # passes over four exemplars, by three
    assert sum(one != other for one, other in drawn) > len(drawn) / 2


@pytest.mark.parametrize("name", ["der", "der_pp"])
def test_at_the_teacher_the_gradient_is_finite(toymini, name):
    session, model = served(toymini, "coarse", "tiny_clip")
    step = one_step(built(name, model), session, shake=0.0)
    assert abs(step.terms["match"].item()) < 1e-6
    gradient = flat_gradient(step)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    (pull,) = torch.autograd.grad(step.phase.loss(step.batches)["match"], step.phase.params[:1])
    assert pull.abs().max() < 1e-4
