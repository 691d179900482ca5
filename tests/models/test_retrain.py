"""Retraining: jointly from the same weights in every learn session, from nothing in every forget session."""

import pytest
import torch

from models.retrain import RetrainLearner
from tests.models.replaying import ce_by_hand
from tests.models.requests import (
    ABSENT,
    NAMES,
    REQUESTS,
    cut,
    forget,
    frozen_copy,
    knowing,
    learn,
    shipped,
    step_through,
    top1,
)
from utils.errors import ConfigError
from utils.requests import Few


def test_every_session_starts_from_the_same_weights_and_sees_all(tiny_model, recipe, tiny_sessions, train):
    learner = RetrainLearner(tiny_model(), recipe(epochs=2), recipe(epochs=7))
    pretrained = {name: value.clone() for name, value in learner.model.backbone.state_dict().items()}
    starts = []

    def watch(phase):
        now = learner.model.backbone.state_dict()
        assert all(torch.equal(now[name], value) for name, value in pretrained.items())
        labels = torch.cat([batch["fine"] for batch in phase.streams["joint"].batches(64, 0)])
        starts.append((phase.recipe.epochs, labels.unique().tolist(), len(labels), len(learner.model.head("fine"))))

    for session in tiny_sessions(2, 3, grant_past=learner.sees_past):
        moved = train(learner, session, watch)
        assert moved == {"retrain": {name for name, _ in learner.model.named_parameters()}}
        assert len(learner.model.head("fine").rows) == 1
    assert starts == [(2, [0, 1], 12, 2), (2, [0, 1, 2, 3, 4], 30, 5)]


def test_it_asks_for_the_past(tiny_model, recipe, tiny_sessions, train):
    learner = RetrainLearner(tiny_model(), recipe(), recipe())
    assert learner.sees_past
    with pytest.raises(PermissionError, match="joint"):
        train(learner, tiny_sessions(2)[0])


def test_a_state_travels_to_a_fresh_learner(tiny_model, recipe, tiny_sessions, train):
    sessions = tiny_sessions(2, 3, grant_past=True)
    learner, twin = (RetrainLearner(tiny_model(seed=seed), recipe(), recipe()) for seed in (0, 1))
    for session in sessions:
        train(learner, session)
    twin.load_state_dict(learner.state_dict())
    batch = next(sessions[1].stream("test").batches(4, 0))["image"]
    with torch.no_grad():
        one, other = (each.predict(batch).logits["fine"] for each in (learner, twin))
    assert one.shape == (4, 5)
    assert torch.equal(one, other)


# forget requests

TRAINED = {"exemplars": 2, "retain": Few(few=2)}


def asked(toymini, recipe, *requests, backbone: str = "tiny_vit", exclude=ABSENT, **options):
    """The sessions of a stream that starts with a request, and a learner over the model that knows its classes."""
    manager = cut(toymini, *requests, exclude=exclude)
    model = knowing(shipped(backbone), manager)
    return manager.sessions(grant_past=True), RetrainLearner(model, recipe(), recipe(), recipe(epochs=3), **options)


def drawn(stream) -> set[tuple[int, int]]:
    """(item, fine label) of all images of a stream."""
    return {pair for b in stream.batches(9, 0) for pair in zip(b["item"].tolist(), b["fine"].tolist(), strict=True)}


@pytest.mark.parametrize("level", REQUESTS)
@pytest.mark.parametrize("backbone", ["tiny_vit", "tiny_clip"])
def test_from_scratch_nothing_of_the_model_before_is_left(toymini, recipe, train, backbone, level):
    (session,), learner = asked(toymini, recipe, REQUESTS[level].model_copy(update=TRAINED), backbone=backbone)
    before = frozen_copy(learner.model)
    learner.check(session)

    def watch(phase):
        now = learner.model.state_dict()
        # what starts at 0 or 1 in any model may have stayed there
        same = {name for name in before if before[name].std(correction=0) > 0 and torch.equal(now[name], before[name])}
        assert not same
        assert drawn(phase.streams["joint"]) == drawn(session.stream("retain_plain"))
        assert {label for _, label in drawn(phase.streams["joint"])} == set(session.alive)
        assert phase.recipe.epochs == 3 and {name for name, _ in learner.model.named_parameters()} == set(now)

    torch.manual_seed(0)
    moved = train(learner, session, watch)["retrain"]
    assert {f"heads.{k}.rows.0" for k in ("fine", "coarse")} <= moved
    tower = "backbone.net.visual." if backbone == "tiny_clip" else "backbone.net."
    assert sum(name.startswith(tower) for name in moved) > 40
    assert [len(learner.model.head(k)) for k in ("fine", "coarse")] == [8, 4]  # what was forgotten stays a candidate


@pytest.mark.parametrize("names", ["fine", "both"])
def test_the_loss_is_ce_of_every_level_that_has_names(toymini, recipe, names):
    (session,), learner = asked(toymini, recipe, forget("Veltro Arrow", **TRAINED))
    if names == "fine":
        fine = learner.model.rows()["fine"].detach()
        learner.model.reset_heads()
        learner.model.head("fine").grow(fine)
    phase = next(learner.phases(session))
    batch = next(phase.streams["joint"].batches(7, 0))
    with torch.no_grad():
        (found,) = phase.loss({"joint": batch}).values()
        output = learner.model(batch["image"])
    assert found.item() == pytest.approx(
        ce_by_hand(output, batch, ("fine",) if names == "fine" else ("fine", "coarse")), rel=1e-5
    )


def test_every_request_starts_anew(toymini, recipe, train):
    requests = [forget(name, **TRAINED) for name in ("Veltro Arrow", "Ostara Falcon")]
    for start in ("scratch", "pretrained"):
        sessions, learner = asked(toymini, recipe, *requests, retrain_from=start)
        original, starts = frozen_copy(learner.model), []
        for session in sessions:
            train(learner, session, lambda _, starts=starts, learner=learner: starts.append(frozen_copy(learner.model)))
        tower = [name for name in original if name.startswith("backbone.")]
        equal = [all(torch.equal(begin[name], original[name]) for name in tower) for begin in starts]
        assert equal == [start == "pretrained"] * 2
        for begin in starts:
            assert (begin["heads.fine.rows.0"] != original["heads.fine.rows.0"]).float().mean() > 0.999
        assert not torch.equal(*(begin["heads.fine.rows.0"] for begin in starts))


def test_what_it_was_shown_it_learns_and_nothing_else(toymini, recipe):
    everything = {"exemplars": 1, "retain": "all"}
    requests, four = [forget("Veltro Arrow", **everything)], (*ABSENT, *NAMES[4:])
    (session,), learner = asked(toymini, recipe, *requests, exclude=four, retrain_from="pretrained")
    learner.forget = recipe(epochs=5, lr=1e-3, optimizer="adamw", batch_size=12)
    assert top1(learner, session) == (1.0, 1.0)
    step_through(learner, session)
    gone, kept = top1(learner, session)
    assert gone == 0 and kept > 0.8


def test_a_mixed_stream_sees_the_past_only_where_it_learns(toymini, recipe, train):
    requests = [learn("Veltro Arrow", "Ostara Falcon", "Brandle Summit"), forget("Ostara Falcon", **TRAINED)]
    manager = cut(toymini, *requests, learn("Veltro Comet"))
    learner = RetrainLearner(shipped("tiny_vit"), recipe(), recipe())
    pretrained, shown = frozen_copy(learner.model), []

    def watch(phase):
        now = learner.model.state_dict()
        same = all(torch.equal(now[name], value) for name, value in pretrained.items())
        shown.append((same, {label for _, label in drawn(phase.streams["joint"])}, len(learner.model.head("fine"))))

    for session in manager.sessions(grant_past=True):
        learner.check(session)
        train(learner, session, watch)
    assert shown == [(True, {0, 1, 2}, 3), (False, {0, 2}, 3), (True, {0, 2, 3}, 4)]


@pytest.mark.parametrize("known", ["known", "taught"])
def test_a_state_after_a_request_travels(toymini, recipe, train, known):
    requests = [forget("Veltro Arrow", **TRAINED), learn("Brandle Otter")]
    if known == "taught":
        requests = [learn("Veltro Arrow", "Ostara Falcon"), *requests[:1]]
    exclude = [name for name in ABSENT if name != "Brandle Otter"]
    learners = []
    for _ in range(2):
        manager = cut(toymini, *requests, exclude=exclude)
        model = knowing(shipped("tiny_vit"), manager)
        learners.append(RetrainLearner(model, recipe(), recipe(), recipe()))
    sessions = manager.sessions(grant_past=True)
    for session in sessions:
        train(learners[0], session)
    learners[1].load_state_dict(learners[0].state_dict())
    image = next(sessions[1].stream("test").batches(4, 0))["image"]
    with torch.no_grad():
        one, other = (each.model.eval().classify(each.model.backbone(image)).logits for each in learners)
    assert one.keys() == other.keys() and all(torch.equal(one[level], other[level]) for level in one)


def test_without_an_image_of_what_stays_it_is_refused(toymini, recipe):
    (session,), learner = asked(toymini, recipe, REQUESTS["fine"])
    with pytest.raises(ConfigError, match=r"session 0 shows no image of what is to stay.*: \"all\"") as caught:
        learner.check(session)
    assert "\n" not in str(caught.value)
    (session,), learner = asked(toymini, recipe, forget(*NAMES, retain="all"))
    with pytest.raises(ConfigError, match="no image of what is to stay"):
        learner.check(session)
