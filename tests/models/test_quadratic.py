"""L2, EWC and MAS: importances by hand and by a loop over examples, anchors, terms task by task, and their way home."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import trainer
from convs.backbone import Backbone, Preprocess, TrainedHead
from convs.model import Model
from data.sessions import ClassOrder, Session
from models.quadratic import Term
from tests.forgetting import FALCON, FORGET, MEADOW
from tests.models.replaying import LEVELS, REPLAYS, built, ce_by_hand, figures, one_step, served
from tests.models.requests import ABSENT, cut, differing, forget, frozen_copy, knowing, shipped, step_through
from tests.support import assert_same_run, cut_after_writing, experiment, lethe, only_run
from utils.streams import TensorStream

METHODS = {"l2": 0.05, "ewc": 10.0, "mas": 0.005}
LN3 = math.log(3)
OTHERS = (*ABSENT, "Veltro Comet", "Ostara Meadow", "Ostara Canyon")
TWO_TASKS = [forget(name, exemplars=2, retain={"few": 1}) for name in ("Veltro Arrow", "Ostara Falcon")]


class Matrix(Backbone):
    """Two pixels, two features."""

    preprocess = Preprocess(1, (0.5,) * 3, (0.5,) * 3)
    dim = 2

    def __init__(self, weight: list[list[float]]):
        super().__init__()
        self.net = nn.Linear(2, 2, bias=False)
        self.net.weight.data = torch.tensor(weight)

    @property
    def blocks(self) -> list[nn.Module]:
        """None."""
        return []

    def embed(self, images: Tensor) -> Tensor:
        """[B, 2] → [B, 2]."""
        return self.net(images)


def of_two(weight: list[list[float]]) -> Model:
    """Logits W·x of two classes."""
    model = Model(Matrix(weight))
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # of a linear classifier, without bias
    model.backbone.trained_heads = {"fine": TrainedHead(("ash", "oak"), rows)}
    model.recall("fine", ("ash", "oak"))
    return model.eval()


def showing(retained: list[list[float]], labels: list[int]) -> Session:
    """A request that shows these examples of what is to stay."""

    def stream(images: list[list[float]], labels: list[int], shuffle: bool) -> Callable[[], TensorStream]:
        fields = {"image": torch.tensor(images), "fine": torch.tensor(labels), "item": torch.arange(len(images))}
        return lambda: TensorStream(fields, shuffle)

    streams = {f"retain{end}": stream(retained, labels, not end) for end in ("", "_plain")}
    order = ClassOrder(("ash", "oak"), ("ash", "oak"), (0, 1))
    return Session(0, "forget", (1,), (0, 1), (0,), order, streams=streams)


# importances


def test_importance_of_ewc_by_hand():
    learner = built("ewc", of_two([[LN3, 0.0], [0.0, 0.0]]))
    # (1, 0), label 1: p = (3/4, 1/4), so the gradient (p − 1_y)·xᵀ is ¾ and −¾ in the first column;
    # (0, 2), label 0: p = (1/2, 1/2), so it is −1 and 1 in the second
    (found,) = learner.importance(showing([[1.0, 0.0], [0.0, 2.0]], [1, 0]))
    expected = [[9 / 32, 1 / 2], [9 / 32, 1 / 2]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_importance_of_mas_by_hand():
    learner = built("mas", of_two([[LN3, 0.0], [0.0, -1.0]]))
    # ∂ ½(z₁² + z₂²)/∂W = z·xᵀ: (1, 0) has z = (ln 3, 0); (−1, 2) has z = (−ln 3, −2)
    (found,) = learner.importance(showing([[1.0, 0.0], [-1.0, 2.0]], [0, 0]))
    expected = [[(LN3 + LN3) / 2, 2 * LN3 / 2], [2 / 2, 4 / 2]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_importance_of_l2_is_one():
    learner = built("l2", of_two([[1.0, 2.0], [3.0, 4.0]]))
    (omega,) = learner.importance(showing([[1.0, 1.0]], [0]))
    assert Term([omega], [torch.zeros(2, 2)])(learner.part).item() == 1 + 4 + 9 + 16


@pytest.mark.parametrize(("name", "level"), [("ewc", "coarse"), ("mas", "fine")])
def test_importances_are_those_of_single_examples(toymini, name, level):
    session, model = served(toymini, level, "tiny_vit")
    learner = built(name, model)
    found = learner.importance(session)
    assert all(parameter.grad is None for parameter in model.parameters()) and not model.training
    sums, count = [torch.zeros_like(parameter) for parameter in learner.part], 0
    for batch in session.stream("retain_plain").batches(4, 0):
        logits = model(batch["image"]).logits
        for i in range(len(batch["fine"])):
            if name == "ewc":
                loss = -sum(logits[k][i].log_softmax(0)[batch[k][i]] for k in LEVELS[level])
            else:
                loss = sum((logits[k][i] ** 2).sum() / len(logits[k][i]) for k in LEVELS[level])
            slopes = torch.autograd.grad(loss, learner.part, retain_graph=True)
            for total, slope in zip(sums, slopes, strict=True):
                total += slope**2 if name == "ewc" else slope.abs()
            count += 1
    assert count == len(session.stream("retain_plain")) > 1
    for omega, total in zip(found, sums, strict=True):
        expected = total / count
        torch.testing.assert_close(omega, expected, rtol=1e-3, atol=1e-4 * expected.max().item())
    assert max(total.max().item() for total in sums) > 0


# what is minimised


@pytest.mark.parametrize(("name", "level"), [("l2", "fine"), ("ewc", "fine"), ("mas", "coarse")])
def test_the_loss_is_ce_of_the_pool_and_the_springs(toymini, name, level):
    session, model = served(toymini, level, "tiny_vit")
    learner = built(name, model)
    start = [parameter.detach().clone().double() for parameter in learner.part]
    step = one_step(learner, session, size=9)
    found, (term,) = figures(step.terms), learner.terms
    assert found["ce"] == pytest.approx(ce_by_hand(step.student["pool"], step.batches["pool"], LEVELS[level]), rel=1e-4)
    moved = zip(term.importance, learner.part, start, strict=True)
    springs = sum((omega.double() * (now.double() - before) ** 2).sum().item() for omega, now, before in moved)
    assert found["penalty"] == pytest.approx(METHODS[name] * springs, rel=1e-4) and found["penalty"] > 0
    assert all(torch.equal(anchor.double(), before) for anchor, before in zip(term.anchor, start, strict=True))
    assert set(found) == {"ce", "penalty"}


@pytest.mark.parametrize("level", REPLAYS)
def test_the_pool_names_what_goes_wrongly_once_and_what_stays_rightly(toymini, level):
    session, model = served(toymini, level, "tiny_vit")
    true = {i: (f, c) for i, f, c in labelled(session.stream("plain"), session.stream("retain_plain"))}
    torch.manual_seed(3)
    pool = next(built("l2", model).phases(session)).streams["pool"]
    passes = [{i: (f, c) for i, f, c in labelled(pool, seed=seed)} for seed in (1, 2)]
    assert passes[0] == passes[1] and set(passes[0]) == set(true) and len(pool) == len(true)
    for item, (fine, coarse) in passes[0].items():
        if true[item][0] in session.classes:
            assert fine != true[item][0] and (coarse != true[item][1]) == (level == "coarse")
        else:
            assert (fine, coarse) == true[item]
    mixed = [len({true[item][0] in session.classes for item in b["item"].tolist()}) for b in pool.batches(6, 1)]
    assert max(mixed) == 2  # what goes and what stays in one batch


def labelled(*streams, seed: int = 0):
    for stream in streams:
        for batch in stream.batches(5, seed):
            yield from zip(batch["item"].tolist(), batch["fine"].tolist(), batch["coarse"].tolist(), strict=True)


@pytest.mark.parametrize(("name", "backbone"), [("l2", "tiny_clip"), ("ewc", "tiny_vit"), ("mas", "tiny_clip")])
def test_only_the_image_tower_moves(toymini, name, backbone):
    session, model = served(toymini, "coarse", backbone)
    learner, before = built(name, model), frozen_copy(model)
    learner.check(session)
    assert step_through(learner, session) == ["forget"]
    tower = "backbone.net.visual." if backbone == "tiny_clip" else "backbone.net."
    moved = differing(model, before)
    assert moved and all(each.startswith(tower) for each in moved)


def test_springs_hold(toymini):
    """The stiffer they are, the less the weights move."""
    distances = []
    for weight in (0.0, 1e6):
        session, model = served(toymini, "fine", "tiny_vit")
        learner = built("l2", model, reg_weight=weight)
        start = [parameter.detach().clone() for parameter in learner.part]
        step_through(learner, session)
        step_through(learner, session)  # the first step of either is the CE's alone
        distances.append(sum((p - s).square().sum().item() for p, s in zip(learner.part, start, strict=True)))
    assert distances[1] < distances[0] / 2


@pytest.mark.parametrize("name", METHODS)
def test_the_settings_reach_the_learner(toymini, name):
    _, model = served(toymini, "fine", "tiny_vit")
    assert (built(name, model).reg_weight, built(name, model).online) == (METHODS[name], False)
    given = built(name, model, reg_weight=0.0, online=True)
    assert (given.reg_weight, given.online) == (0.0, True)


# task by task


def after_two_tasks(toymini, name: str, **options):
    """A learner after two requests, with the weights before, between and after."""
    manager = cut(toymini, *TWO_TASKS, exclude=OTHERS)
    learner = built(name, knowing(shipped("tiny_vit"), manager), **options)
    weights, terms = [copies(learner)], []
    for session in manager.sessions():
        step_through(learner, session, before=lambda _: terms.append(list(learner.terms)))
        weights.append(copies(learner))
        terms.append(list(learner.terms))
    return learner, weights, terms, manager.sessions()


def copies(learner) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in learner.part]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, one, other))


@pytest.mark.parametrize("name", METHODS)
def test_every_task_leaves_a_term_of_its_own(toymini, name):
    learner, weights, terms, sessions = after_two_tasks(toymini, name)
    assert [len(some) for some in terms] == [1, 2, 2, 3]  # while task 0 lasts, after it, while task 1 lasts, after it
    assert all(equal(term.anchor, some) for term, some in zip(learner.terms, weights, strict=True))
    assert not equal(weights[0], weights[1]) and not equal(weights[1], weights[2])
    assert equal(learner.terms[-1].importance, learner.importance(sessions[1]))
    if name != "l2":
        assert not equal(learner.terms[0].importance, learner.terms[1].importance)


@pytest.mark.parametrize("name", ["l2", "ewc"])
def test_online_one_term_runs_along(toymini, name):
    _, _, apart, _ = after_two_tasks(toymini, name)
    learner, weights, terms, _ = after_two_tasks(toymini, name, online=True)
    assert [len(some) for some in terms] == [1, 1, 1, 1]
    between = terms[1][0]
    assert equal(between.anchor, weights[1]) and equal(learner.terms[0].anchor, copies(learner))
    sums = [one + other for one, other in zip(apart[1][0].importance, apart[1][1].importance, strict=True)]
    for omega, expected in zip(between.importance, sums, strict=True):
        torch.testing.assert_close(omega, expected)


@pytest.mark.parametrize("name", ["l2", "ewc"])
def test_a_state_travels_to_a_fresh_learner(toymini, name):
    learner, *_, sessions = after_two_tasks(toymini, name)
    state = {key: value.clone() for key, value in learner.state_dict().items()}
    manager = cut(toymini, *TWO_TASKS, exclude=OTHERS)
    twin = built(name, knowing(shipped("tiny_vit"), manager))
    twin.load_state_dict(state)
    assert len(twin.terms) == 3 and equal(copies(twin), copies(learner))
    for one, other in zip(learner.terms, twin.terms, strict=True):
        assert equal(one.importance, other.importance) and equal(one.anchor, other.anchor)
    ends = [one_step(each, sessions[1]) for each in (learner, twin)]
    assert figures(ends[0].terms) == figures(ends[1].terms)
    fresh = built(name, knowing(shipped("tiny_vit"), manager))
    fresh.load_state_dict(fresh.state_dict())
    assert fresh.terms == []


def test_a_run_that_was_cut_ends_as_if_it_had_not_been(workplace, monkeypatch):
    shown = {"exemplars": 2, "retain": {"few": 1}}
    tasks = [{"forget": {"classes": [name], **shown}} for name in (MEADOW, FALCON)]
    settings = {key: FORGET[key] for key in ("dataset", "device", "shuffle", "workers", "exclude", "forget_lr")}
    settings |= {"model_name": "ewc", "convnet_type": "tiny_vit", "sessions": tasks}
    settings |= {"forget_epochs": 2, "forget_batch_size": 4, "checkpoint_every": 1}
    monkeypatch.setattr(trainer.plots, "curves", lambda *_: None)
    monkeypatch.setattr(trainer.request_plots, "requests", lambda *_: None)
    assert lethe("--config", experiment(settings, logs="whole")) == 0
    file = experiment(settings, logs="cut")
    for kind in ("phase", "session"):  # inside the first task, and between the two
        with monkeypatch.context() as patch:
            cut_after_writing(patch, kind)
            assert lethe("--config", file, "--resume") == 130
    assert lethe("--config", file, "--resume") == 0
    assert_same_run(only_run(workplace / "whole"), only_run(workplace / "cut"))
