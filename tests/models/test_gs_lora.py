"""GS-LoRA and GS-LoRA++: every term by hand, who moves, what a merge leaves, averages, exact zeros, what is kept."""

import math

import pytest
import torch

from convs.lora import deltas, lora_places
from models import get_model
from models.gs_lora import ZERO, group_norm
from tests.models.requests import cut, differing, forget, frozen_copy, knowing, shipped, step_through, top1
from utils.errors import ConfigError
from utils.loop import Recipe, fit

SHOWN = {"retain": {"few": 2}, "exemplars": 4}
TWO = (forget("Veltro Arrow", "Ostara Falcon", **SHOWN), forget("Veltro Comet", **SHOWN))


def made(toymini, name="gs_lora", kind="tiny_vit", requests=TWO, recipe=None, **options):
    """The sessions, and a learner over a model that knows all classes."""
    manager = cut(toymini, *requests)
    recipe = recipe or Recipe(2, 1e-3, batch_size=8, optimizer="adamw", weight_decay=0.05)
    options = {"lora_rank": 2, "bnd": 30.0} | options
    learner = get_model(name, knowing(shipped(kind), manager), first=recipe, later=recipe, forget=recipe, **options)
    return manager.sessions(), learner


def stirred(learner):
    """LoRAs that say something, as in the midst of training."""
    dice = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for place in lora_places(learner.model.backbone):
            place.lora.B.add_(0.05 * torch.randn(place.lora.B.shape, generator=dice))


def drawn(phase):
    return {name: next(stream.batches(5, 0)) for name, stream in phase.streams.items()}


def cross_entropy(logits, labels):
    """The mean over examples in float64, one after the other."""
    total = 0.0
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        total += math.log(sum(math.exp(value - row[label]) for value in row))
    return total / len(labels)


@pytest.mark.parametrize("bnd", [30.0, 0.5])
@pytest.mark.parametrize("kind", ["tiny_vit", "tiny_clip"])
def test_the_terms_by_hand(toymini, kind, bnd):
    (session, _), learner = made(toymini, kind=kind, bnd=bnd, cl_beta_list=(0.3, 0.7), group_alpha=0.02)
    phase = next(learner.phases(session))
    assert list(phase.streams) == ["retain", "forget"]  # an epoch is a pass over what stays
    stirred(learner)
    phase.before_epoch(0)
    batches = drawn(phase)
    terms = phase.loss(batches)
    with torch.no_grad():
        logits = {name: learner.model(batch["image"]).logits["fine"] for name, batch in batches.items()}
    gone, stays = (cross_entropy(logits[name], batches[name]["fine"]) for name in ("forget", "retain"))
    norms = 0.0
    for block in learner.model.backbone.blocks:
        squares = [value.double().square().sum() for name, value in block.named_parameters() if "lora" in name]
        assert len(squares) == 4
        norms += sum(squares).item() ** 0.5
    assert terms["forget"].item() == pytest.approx(0.3 * max(0.0, bnd - gone), rel=1e-4, abs=1e-6)
    assert terms["retain"].item() == pytest.approx(stays, rel=1e-4)
    assert terms["sparsity"].item() == pytest.approx(0.02 * norms, rel=1e-5)


def test_the_lasso_sets_in_at_its_epoch(toymini):
    (session, _), learner = made(toymini, group_alpha=0.5, group_alpha_epoch=3)
    phase = next(learner.phases(session))
    found = []
    for epoch in (2, 3):
        phase.before_epoch(epoch)
        found.append(phase.loss(drawn(phase))["sparsity"].item())
    assert found[0] == 0 and found[1] > 0


def test_a_group_of_zeros_has_no_gradient():
    group = [torch.zeros(2, 3, requires_grad=True), torch.zeros(4, requires_grad=True)]
    group_norm(group).backward()
    assert all((part.grad == 0).all() for part in group)


@pytest.mark.parametrize("kind", ["tiny_vit", "tiny_clip"])
def test_only_loras_move_and_a_merge_changes_no_logit(toymini, kind):
    (session, _), learner = made(toymini, kind=kind)
    model, before = learner.model, frozen_copy(learner.model)
    images = next(session.stream("test").batches(16, 0))["image"]
    phases = learner.phases(session)
    phase = next(phases)
    fit(phase, seed=0)
    moved = differing(model, before)
    assert moved and all(".lora." in name for name in moved)
    with torch.no_grad():
        trained = model(images).logits["fine"]
    assert next(phases, None) is None
    with torch.no_grad():
        merged = model(images).logits["fine"]
    assert torch.allclose(trained, merged, atol=1e-5) and all((delta == 0).all() for delta in deltas(model.backbone))
    names = {f"backbone.net.{place.name}" for place in lora_places(model.backbone)}
    assert {name for name in differing(model, before) if ".lora." not in name} == names


def test_it_forgets_and_keeps(toymini):
    recipe = Recipe(12, 0.01, batch_size=8, optimizer="adamw", weight_decay=0.05)
    (session, _), learner = made(toymini, recipe=recipe, lora_rank=4, bnd=15.0)
    before = top1(learner, session)
    step_through(learner, session)
    after = top1(learner, session)
    assert before[0] > 0.8 and after[0] <= 0.25 and after[1] >= before[1] - 0.2


def test_proximal_steps_shrink_by_hand_and_reach_zero_exactly(toymini):
    recipe = Recipe(2, 0.5, batch_size=8, schedule="constant")
    (session, _), learner = made(toymini, recipe=recipe, group_lasso="proximal", group_alpha=0.01)
    phase = next(learner.phases(session))
    assert "sparsity" not in phase.loss(drawn(phase))
    phase.before_epoch(0)
    (first, second), *_ = [list(group) for group in zip(*[iter(learner.groups.values())] * 2, strict=True)]
    with torch.no_grad():
        for part in second:
            part.mul_(0.05 / group_norm(second))  # below what a step takes
    reach = 0.5 * 0.01 * math.sqrt(2 * (2 * (128 + 512)))  # of the two FFN layers of a block, at rank 2
    norm, start = group_norm(first).item(), [part.detach().clone() for part in first]
    phase.after_step()
    for part, value in zip(first, start, strict=True):
        assert torch.allclose(part, value * (1 - reach / norm), rtol=1e-5)
    assert all((part == 0).all() for part in second)


def test_zero_groups_can_be_removed(toymini):
    recipe = Recipe(4, 0.01, batch_size=8, optimizer="adamw")
    (session, _), learner = made(toymini, recipe=recipe, group_lasso="proximal", group_alpha=0.9)
    phases = learner.phases(session)
    fit(next(phases), seed=0)
    zero = [group for group in learner.groups.values() if group_norm(group) < ZERO]
    assert zero and all((part == 0).all() for group in zero for part in group)
    next(phases, None)
    figures = learner.figures(session)
    assert figures["zero_groups"] == len(zero) and len(figures) == 1 + len(learner.groups)
    assert sum(norm < ZERO for name, norm in figures.items() if name.startswith("group_norm.")) == len(zero)


def test_prototypes_and_their_term_by_hand(toymini):
    (session, _), learner = made(toymini, "gs_lora_pp", cl_prof_list=(0.4, 0.1), bnd_pro=2.0)
    phase = next(learner.phases(session))
    stirred(learner)
    batches = drawn(phase)
    term = phase.loss(batches)["prototype"].item()
    original = shipped("tiny_vit").eval()
    plain = next(session.stream("plain").batches(100, 0))
    with torch.no_grad():
        then = original.backbone(plain["image"]).double()
        now = learner.model.backbone(batches["forget"]["image"]).double()
    total = 0.0
    for row, label in zip(now, batches["forget"]["fine"].tolist(), strict=True):
        prototype = then[plain["fine"] == label].mean(0).softmax(0)
        total += sum(p.item() * (p.log() - q.log()).item() for p, q in zip(prototype, row.softmax(0), strict=True))
    assert term == pytest.approx(0.4 * max(0.0, 2.0 - total / len(now)), rel=1e-4)


@pytest.mark.parametrize("source", ["original", "published"])
def test_later_prototypes_are_the_originals_or_the_previous_models(toymini, source):
    sessions, learner = made(toymini, "gs_lora_pp", prototypes=source)
    step_through(learner, sessions[0])
    plain = next(sessions[1].stream("plain").batches(100, 0))
    model = shipped("tiny_vit").eval() if source == "original" else learner.model
    with torch.no_grad():
        expected = model.backbone(plain["image"]).mean(0)
    weights = frozen_copy(learner.model)
    found = learner._prototypes(sessions[1])[sessions[1].classes[0]]
    assert torch.allclose(found, expected, atol=1e-5)
    assert not differing(learner.model, weights)
    other = learner.model if source == "original" else shipped("tiny_vit").eval()
    with torch.no_grad():
        assert not torch.allclose(found, other.backbone(plain["image"]).mean(0), atol=1e-3)


def test_the_average_of_effective_weights_is_handed_on(toymini):
    recipe = Recipe(4, 0.01, batch_size=8, optimizer="adamw")
    (session, _), learner = made(toymini, "gs_lora_pp", recipe=recipe, ema=0.9, ema_from=1)
    start = {place.name: place.weight.detach().clone() for place in lora_places(learner.model.backbone)}
    said, phases = [], learner.phases(session)
    phase = next(phases)

    def watch(progress):
        said.append([delta.clone() for delta in deltas(learner.model.backbone)])

    fit(phase, seed=0, after_epoch=watch)
    next(phases, None)
    for i, place in enumerate(lora_places(learner.model.backbone)):
        one, two, three = (said[epoch][i] for epoch in (1, 2, 3))
        average = 0.9 * (0.9 * one + 0.1 * two) + 0.1 * three
        assert torch.allclose(place.weight, start[place.name] + average, atol=1e-6)
        assert not torch.allclose(average, three, atol=1e-4)


@pytest.mark.parametrize("name", ["gs_lora", "gs_lora_pp"])
def test_a_learner_goes_on_from_its_state(toymini, name):
    options = {"lora_files": True} | ({"ema": 0.5} if name == "gs_lora_pp" else {})
    sessions, learner = made(toymini, name, **options)
    step_through(learner, sessions[0])
    state = {key: value.clone() for key, value in learner.state_dict().items()}
    _, fresh = made(toymini, name, **options)
    fresh.load_state_dict(state)
    for each in (learner, fresh):
        step_through(each, sessions[1])
    assert not differing(fresh.model, frozen_copy(learner.model))
    assert fresh.state_dict().keys() == learner.state_dict().keys()
    assert list(fresh.products(sessions[1])) == ["lora/session_0", "lora/session_1"]


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_peft_loads_the_loras_of_all_requests_together(toymini, tmp_path, ema):
    peft = pytest.importorskip("peft")
    recipe = Recipe(3, 0.01, batch_size=8, optimizer="adamw")
    sessions, learner = made(toymini, "gs_lora_pp", recipe=recipe, lora_files=True, ema=ema)
    for session in sessions:
        step_through(learner, session)
    for name, write in learner.products(sessions[-1]).items():
        write(tmp_path / name)
    original = shipped("tiny_vit").eval()
    images = next(sessions[0].stream("test").batches(16, 0))["image"]
    with torch.no_grad():
        before, expected = original.backbone(images), learner.model.backbone(images)
    wrapped = peft.PeftModel.from_pretrained(original.backbone.net, tmp_path / "lora/session_0", adapter_name="first")
    wrapped.load_adapter(tmp_path / "lora/session_1", "second")
    wrapped.base_model.set_adapter(["first", "second"])
    with torch.no_grad():
        found = original.backbone(images)
    assert torch.allclose(found, expected, atol=1e-4) and not torch.allclose(found, before, atol=1e-2)


def test_a_list_of_weights_needs_one_for_every_request_or_one_for_all(toymini):
    sessions, learner = made(toymini, cl_beta_list=(0.3,))
    for session in sessions:
        learner.check(session)
    three = (*TWO, forget("Brandle Summit", **SHOWN))
    sessions, learner = made(toymini, "gs_lora_pp", requests=three, cl_prof_list=(0.1, 0.2))
    learner.check(sessions[1])
    with pytest.raises(ConfigError, match="'cl_prof_list' has 2 entries, none for session 2"):
        learner.check(sessions[2])


def test_few_parameters_move(toymini):
    _, learner = made(toymini, lora_rank=2)
    dim, hidden, blocks = 128, 512, 4
    assert sum(part.numel() for part in learner.part) == blocks * 2 * 2 * (dim + hidden)
    assert learner.tunable_ratio() < 0.04
