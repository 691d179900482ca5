"""LwF, EWC, L2 and MAS in learn sessions: what is minimised, what is left behind, and classes learned again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.lwf import LwFLearner
from models.quadratic import EWCLearner, L2Learner
from models.teacher import old_classes_kd
from tests.models.requests import cut, forget, knowing, learn, shipped, step_through
from utils.errors import ConfigError


@pytest.fixture
def sessions(tiny_sessions):
    return tiny_sessions(2, 1)


@pytest.fixture
def build(tiny_model, recipe):
    def make(kind, **options):
        once = recipe(lr=0.01)
        return kind(tiny_model().eval(), once, once, once, **options)

    return make


def log_softmax(values: np.ndarray) -> np.ndarray:
    return values - np.log(np.exp(values).sum(1, keepdims=True))


@pytest.mark.parametrize(("weight", "expected"), [({}, 1.0), ({"reg_weight": 3.0}, 3.0)])
def test_lwf_holds_old_answers_on_new_images(build, sessions, train, weight, expected):
    learner, names = build(LwFLearner, **weight), []
    train(learner, sessions[0])

    @torch.no_grad()
    def watch(phase):
        batch = next(phase.streams["train"].batches(64, 0))
        before = learner.model.eval()(batch["image"]).logits["fine"][:, :2].double().numpy()
        for parameter in learner.model.backbone.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        after = learner.model(batch["image"]).logits["fine"].double().numpy()
        old, new = log_softmax(before / 2), log_softmax(after[:, :2] / 2)
        terms = phase.loss({"train": batch})
        by_hand = expected * (np.exp(old) * (old - new)).sum(1).mean()
        assert terms["distill"].item() == pytest.approx(by_hand, rel=1e-3, abs=1e-6) and by_hand > 1e-4
        assert terms["ce"].item() == pytest.approx(0, abs=1e-6)  # one new class has no rival
        names.extend(terms)

    moved = train(learner, sessions[1], watch)["learn"]
    assert names == ["ce", "distill"]
    tower = {f"backbone.{name}" for name, _ in learner.model.backbone.named_parameters()}
    assert moved <= tower | {"heads.fine.rows.1"} and "heads.fine.rows.0" not in moved


def test_the_first_session_has_nothing_to_hold(build, sessions, train):
    for kind, name in ((LwFLearner, "distill"), (EWCLearner, "penalty")):
        terms = []
        train(build(kind), sessions[0], lambda phase, t=terms: t.extend(phase.loss(one_batch(phase))))
        assert terms == ["ce"] and name not in terms


def one_batch(phase) -> dict:
    return {"train": next(phase.streams["train"].batches(4, 0))}


@pytest.mark.parametrize("online", [False, True])
def test_every_session_leaves_springs_made_on_its_own_images(build, sessions, train, online):
    learner, found = build(EWCLearner, online=online, reg_weight=7.0), []
    train(learner, sessions[0])
    model, tower = learner.model.eval(), list(learner.model.backbone.parameters())
    anchor = [parameter.detach().clone() for parameter in tower]
    (term,) = learner.terms
    expected = [torch.zeros_like(parameter) for parameter in tower]
    batch = next(sessions[0].stream("plain").batches(1000, 0))
    for image, label in zip(batch["image"], batch["fine"], strict=True):
        loss = -model(image[None]).logits["fine"][0].log_softmax(0)[label]
        for total, slope in zip(expected, torch.autograd.grad(loss, tower), strict=True):
            total += slope.square() / len(batch["fine"])
    for omega, total, point, start in zip(term.importance, expected, term.anchor, anchor, strict=True):
        torch.testing.assert_close(omega, total, rtol=1e-3, atol=1e-4 * total.max().item())
        assert torch.equal(point, start)

    @torch.no_grad()
    def watch(phase):
        for parameter in tower:
            parameter.add_(0.01)
        springs = sum((omega.double() * 1e-4).sum().item() for omega in term.importance)
        assert phase.loss(one_batch(phase))["penalty"].item() == pytest.approx(7 * springs, rel=1e-3)
        found.append(phase.name)

    train(learner, sessions[1], watch)
    assert found == ["learn"] and len(learner.terms) == (1 if online else 2)


def test_a_state_travels_with_its_springs(build, sessions, train):
    learner, other = build(L2Learner), build(L2Learner)
    train(learner, sessions[0])
    other.load_state_dict({name: value.clone() for name, value in learner.state_dict().items()})
    for each in (learner, other):
        train(each, sessions[1])
    one, two = learner.state_dict(), other.state_dict()
    assert set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)
    assert len(other.terms) == 2


@pytest.mark.parametrize("kind", [LwFLearner, L2Learner])
def test_what_was_forgotten_is_learned_again_in_its_old_place(toymini, build, kind):
    shown = {"exemplars": 2, "retain": {"few": 1}}
    manager = cut(
        toymini,
        learn("Veltro Arrow", "Veltro Harbor"),
        forget("Veltro Arrow", **shown),
        learn("Veltro Arrow", "Ostara Meadow"),
        known="none",
    )
    first, gone, again = manager.sessions()
    learner = build(kind)
    for session in (first, gone, again):
        learner.check(session)
    step_through(learner, first)
    step_through(learner, gone)
    before, started = learner.model.head("fine").weight.detach().clone(), []
    step_through(learner, again, before=lambda _: started.append(learner.model.head("fine").weight.detach().clone()))
    after = learner.model.head("fine").weight.detach()
    assert again.classes == (0, 2) and len(after) == 3
    assert not torch.equal(started[0][0], before[0])  # drawn anew
    assert torch.equal(started[0][1], before[1]) and torch.equal(after[1], before[1])  # not of this session
    assert not torch.equal(after[0], started[0][0]) and not torch.equal(after[2], started[0][2])


def test_the_teachers_opinion_of_what_is_taught_again_does_not_count(sessions):
    session = replace(sessions[1], classes=(1,))
    taught = torch.tensor([[0.0, 5.0, 1.0]])
    student = torch.tensor([[0.0, -5.0, 1.0, 3.0]])
    assert old_classes_kd(student, taught, session, 2.0).item() == pytest.approx(0, abs=1e-6)
    assert old_classes_kd(student, taught, sessions[0], 2.0).item() == pytest.approx(0, abs=1e-6)
    assert old_classes_kd(student, taught, sessions[1], 2.0).item() > 1


def test_a_model_that_knows_classes_untaught_is_refused(toymini, recipe):
    manager = cut(toymini, learn("Veltro Comet"), known=["Veltro Arrow"])
    learner = L2Learner(knowing(shipped("tiny_vit"), manager), recipe(), recipe())
    with pytest.raises(ConfigError, match="key 'known': session 0 teaches classes to a model that knows some"):
        learner.check(manager.sessions()[0])
