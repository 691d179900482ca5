"""SalUn: which weights are salient by an independent gradient, and that no other moves, weight decay included."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.relabel import RelabelingLearner, SalUnLearner
from tests.models.requests import (
    REQUESTS,
    VELTRO,
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
from utils.loop import Recipe

DECAYED = {"lr": 1e-2, "optimizer": "adamw", "weight_decay": 0.1, "batch_size": 6}


@pytest.fixture
def build(recipe):
    """A function that makes a SalUn learner; two epochs under a weight decay that would show."""

    def make(model, **options) -> SalUnLearner:
        how = options.pop("forget", None) or recipe(epochs=2, **DECAYED)
        return SalUnLearner(model, recipe(), recipe(), how, **options)

    return make


def slopes(model, session, level: str, names: list[str], rows=None) -> dict[str, Tensor]:
    """|∂/∂θ of the CE with the true names, summed over batches of six; each exemplar at its own level."""
    parameters = dict(model.named_parameters())
    for name in names:
        parameters[name].grad = None
    for batch in session.stream("forget").batches(6, 0):
        output = model(batch["image"])
        logits = model.logits(output.features, rows) if rows else output.logits
        own = {k: F.cross_entropy(logits[k].double(), batch[k], reduction="none") for k in logits}
        coarse = {"fine": torch.zeros(6), "coarse": torch.ones(6), "hybrid": batch["coarse"] == VELTRO}[level].bool()
        sum(own["coarse" if whole else "fine"][i] for i, whole in enumerate(coarse[: len(own["fine"])])).div(
            len(own["fine"])
        ).backward(inputs=[parameters[name] for name in names])
    found = {name: parameters[name].grad.abs() for name in names}
    for name in names:
        parameters[name].grad = None
    return found


def assert_top(found: dict[str, Tensor], changed: dict[str, Tensor], share: float) -> None:
    """Those that changed are the most salient ones, as many as the share allows."""
    values, moved = (torch.cat([part[name].flatten() for name in found]) for part in (found, changed))
    count = round(share * len(values))
    assert moved.sum() <= count and moved.sum() > 0.95 * count  # a step may round to nothing
    limit = values.sort(descending=True).values[count - 1]
    assert values[moved].min() >= limit * 0.999
    surely = values > limit * 1.001
    assert (moved & surely).sum() > 0.95 * surely.sum()


@pytest.mark.parametrize("level", REQUESTS)
def test_only_salient_weights_of_a_vit_move(toymini, build, level):
    manager = cut(toymini, REQUESTS[level])
    session, model = manager.sessions()[0], knowing(shipped("tiny_vit"), manager)
    learner = build(model, salun_share=0.03)
    names = [name for name, _ in model.named_parameters() if not name.startswith("heads.")]
    found, before = slopes(model, session, level, names), frozen_copy(model)
    assert step_through(learner, session) == ["forget"]
    after = model.state_dict()
    assert_top(found, {name: after[name] != before[name] for name in names}, 0.03)
    assert not {name for name in differing(model, before) if name not in names}


def test_over_a_clip_the_names_are_worded(toymini, build):
    manager = cut(toymini, REQUESTS["fine"])
    session, model = manager.sessions()[0], shipped("tiny_clip")
    model.templates = ("my {}!",)
    knowing(model, manager)
    learner = build(model, salun_share=0.2, tune="image")
    names = [name for name, _ in model.named_parameters() if name.startswith("backbone.net.visual.")]
    rows = text_rows(model, {"fine": session.order.fine, "coarse": session.order.coarse})
    found, before = slopes(model, session, "fine", names, rows), frozen_copy(model)
    step_through(learner, session)
    after = model.state_dict()
    assert_top(found, {name: after[name] != before[name] for name in names}, 0.2)
    assert differing(model, before) <= set(names)


@pytest.mark.parametrize(("name", "tune"), [("tiny_clip", "all"), ("tiny_clip", "text"), ("tiny_vit", "lora")])
@pytest.mark.parametrize("share", [0.1, 1 / 3])
def test_the_share_is_of_all_that_is_tuned(toymini, build, name, tune, share):
    manager = cut(toymini, forget("Veltro Arrow"))
    session, model = manager.sessions()[0], knowing(shipped(name), manager)
    learner = build(model, salun_share=share, tune=tune, forget=Recipe(4, **DECAYED))
    before = [parameter.detach().clone() for parameter in learner.part]
    allowed = []

    def look(phase):
        held = phase.after_step
        for parameter in learner.part:
            parameter.data.add_(1)
        held()
        changed = [p.detach() != start for p, start in zip(learner.part, before, strict=True)]
        allowed.extend(changed)
        for parameter, start in zip(learner.part, before, strict=True):
            parameter.data.copy_(start)

    step_through(learner, session, before=look)
    total = sum(parameter.numel() for parameter in learner.part)
    assert sum(int(mask.sum()) for mask in allowed) == round(share * total)
    for parameter, start, mask in zip(learner.part, before, allowed, strict=True):
        assert torch.equal(parameter.detach()[~mask], start[~mask])
    assert any(not torch.equal(p.detach(), start) for p, start in zip(learner.part, before, strict=True))


def test_a_full_share_is_relabeling(toymini, build, recipe):
    manager = cut(toymini, REQUESTS["hybrid"])
    session, ends = manager.sessions()[0], []
    for kind, options in ((SalUnLearner, {"salun_share": 1.0}), (RelabelingLearner, {})):
        model = knowing(shipped("tiny_vit"), manager)
        learner = kind(model, recipe(), recipe(), recipe(lr=1e-4, optimizer="adamw", batch_size=12), **options)
        step_through(learner, session)
        ends.append(frozen_copy(model))
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_finding_the_weights_leaves_no_gradient_and_no_mode(toymini, build):
    manager = cut(toymini, forget("Veltro Arrow"))
    session, model = manager.sessions()[0], knowing(shipped("tiny_vit"), manager)
    before = frozen_copy(model)
    next(build(model).phases(session))
    assert not model.training and all(parameter.grad is None for parameter in model.parameters())
    assert not differing(model, before)


@pytest.mark.parametrize("kind", [SalUnLearner, RelabelingLearner])
def test_wrong_names_make_it_forget(toymini, recipe, kind):
    manager = cut(toymini, REQUESTS["fine"])
    session, model = manager.sessions()[0], knowing(shipped("tiny_clip"), manager)
    how = recipe(epochs=10, lr=3e-4, batch_size=12, optimizer="adamw")
    learner = kind(model, recipe(), recipe(), how)
    assert min(top1(learner, session)) > 0.8
    step_through(learner, session)
    assert top1(learner, session)[0] <= 0.25


def test_a_share_out_of_range_is_refused(toymini, build):
    manager = cut(toymini, forget("Veltro Arrow"))
    session, model = manager.sessions()[0], knowing(shipped("tiny_vit"), manager)
    with pytest.raises(ValueError, match="between 0 and 1"):
        next(build(model, salun_share=math.nextafter(1, 2)).phases(session))
