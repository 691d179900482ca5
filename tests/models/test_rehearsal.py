"""Replay and iCaRL: which images are kept, what a step minimises, and the nearest mean."""

import numpy as np
import pytest
import torch

from models.icarl import ICarlLearner
from models.rehearsal import RehearsalLearner
from utils.errors import ConfigError


@pytest.fixture
def sessions(tiny_sessions):
    return tiny_sessions(2, 1, grant_kept=True)


@pytest.fixture
def build(tiny_model, recipe):
    def make(kind=RehearsalLearner, **memory):
        return kind(tiny_model().eval(), recipe(lr=0.01), recipe(lr=0.01), **(memory or {"memory_size": 7}))

    return make


@torch.no_grad()
def unit_features(learner, stream) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalised features, labels and numbers of a stream's images."""
    learner.model.eval()
    batches = list(stream.batches(7, 0))
    rows = torch.cat([learner.model.backbone(batch["image"]) for batch in batches]).double().numpy()
    labels, items = (torch.cat([batch[name] for batch in batches]).numpy() for name in ("fine", "item"))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels, items


def herded(rows: np.ndarray, count: int) -> list[int]:
    chosen = []
    for _ in range(count):
        errors = {i: np.linalg.norm(rows[[*chosen, i]].mean(0) - rows.mean(0)) for i in range(len(rows))}
        chosen.append(min((i for i in errors if i not in chosen), key=errors.get))
    return chosen


def test_what_is_kept_and_replayed(build, sessions, train):
    learner, (first, second), pools = build(), sessions, []

    def watch(phase):
        pools.append(torch.cat([batch["item"] for batch in phase.streams["pool"].batches(5, 0)]).tolist())

    assert list(train(learner, first, watch)) == ["learn"]
    rows, labels, items = unit_features(learner, first.stream("plain"))
    for label in (0, 1):  # 7 // 2 of each
        own = labels == label
        assert learner.memory.kept[label].tolist() == items[own][herded(rows[own], 3)].tolist()
    kept = {label: some.tolist() for label, some in learner.memory.kept.items()}
    train(learner, second, watch)
    new = second.stream("plain").items.tolist()
    assert sorted(pools[0]) == first.stream("plain").items.tolist()
    assert sorted(pools[1]) == sorted(new + kept[0] + kept[1])
    assert {label: some.tolist() for label, some in learner.memory.kept.items() if label < 2} == {
        label: some[:2] for label, some in kept.items()
    }
    assert set(learner.memory.kept[2].tolist()) <= set(new) and len(learner.memory.items) == 6 <= 7


def test_kept_images_are_augmented_in_training_only(build, sessions, train):
    learner, (first, second) = build(memory_per_class=2, fixed_memory=True), sessions
    train(learner, first)
    items = learner.memory.items
    once, again = ([b["image"] for b in second.recalled(items, augmented=True).batches(9, seed)] for seed in (0, 1))
    assert not torch.equal(once[0], again[0])
    plain = next(second.recalled(items, augmented=False).batches(9, 0))
    assert plain["item"].tolist() == items.tolist() and plain["fine"].tolist() == [0, 0, 1, 1]


def test_replay_is_cross_entropy_over_all_classes(build, sessions, train):
    learner, (first, second) = build(), sessions
    train(learner, first)
    seen = []

    @torch.no_grad()
    def watch(phase):
        batch = next(phase.streams["pool"].batches(64, 0))
        logits = learner.model.eval()(batch["image"]).logits["fine"].double().numpy()
        losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), batch["fine"].numpy()]
        assert phase.loss({"pool": batch})["ce"].item() == pytest.approx(losses.mean(), rel=1e-5)
        seen.extend(batch["fine"].unique().tolist())

    train(learner, second, watch)
    assert seen == [0, 1, 2]


def test_icarl_distils_from_the_model_before(build, sessions, train):
    learner, (first, second) = build(ICarlLearner), sessions
    names = []
    train(learner, first, lambda phase: names.extend(phase.loss({"pool": next(phase.streams["pool"].batches(2, 0))})))
    assert names == ["ce"]

    @torch.no_grad()
    def watch(phase):
        batch = next(phase.streams["pool"].batches(64, 0))
        before = learner.model.eval()(batch["image"]).logits["fine"][:, :2].double().numpy() / 2
        for parameter in learner.model.backbone.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        terms = phase.loss({"pool": batch})
        after = learner.model(batch["image"]).logits["fine"].double().numpy()
        old, new = (values - np.log(np.exp(values).sum(1, keepdims=True)) for values in (before, after[:, :2] / 2))
        by_hand = (np.exp(old) * (old - new)).sum(1).mean()
        assert terms["distill"].item() == pytest.approx(by_hand, rel=1e-3, abs=1e-6) and by_hand > 1e-4
        names.extend(terms)

    train(learner, second, watch)
    assert names == ["ce", "ce", "distill"]


def test_icarl_names_the_class_of_the_nearest_mean_of_kept_images(build, sessions, train):
    learner = build(ICarlLearner)
    for session in sessions:
        train(learner, session)
    rows, labels, _ = unit_features(learner, sessions[1].recalled(learner.memory.items, augmented=False))
    means = np.stack([rows[labels == label].mean(0) for label in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    seen, _, _ = unit_features(learner, sessions[1].stream("test"))
    with torch.no_grad():
        found = [learner.predict(b["image"]).logits["fine"] for b in sessions[1].stream("test").batches(7, 0)]
    nearest = np.linalg.norm(seen[:, None] - means[None], axis=2).argmin(1)
    assert torch.cat(found).argmax(1).tolist() == nearest.tolist()


@pytest.mark.parametrize("kind", [RehearsalLearner, ICarlLearner])
def test_a_state_travels_and_the_next_session_is_the_same(build, sessions, train, kind):
    learner, other = build(kind), build(kind)
    other.load_state_dict(other.state_dict())  # before the first session
    train(learner, sessions[0])
    other.load_state_dict({name: value.clone() for name, value in learner.state_dict().items()})
    for each in (learner, other):
        train(each, sessions[1])
    one, two = learner.state_dict(), other.state_dict()
    assert set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)
    assert {"memory.0", "memory.1", "memory.2"} <= set(one)


@pytest.mark.parametrize(
    ("memory", "reason"),
    [
        ({"memory_size": 0}, "key 'memory_size': 0 leaves no image of each of the 2 classes of session 0"),
        ({"memory_size": 2}, "key 'memory_size': 2 leaves no image of each of the 3 classes of session 1"),
        ({"memory_size": 9, "fixed_memory": True}, "key 'memory_per_class': 0 leaves no image"),
    ],
)
def test_a_memory_without_room_is_refused(build, sessions, memory, reason):
    with pytest.raises(ConfigError, match=reason):
        for session in sessions:
            build(**memory).check(session)


def test_only_images_of_what_was_learned_are_recalled(tiny_sessions):
    first, second = tiny_sessions(2, 1, grant_kept=True)
    later = second.stream("plain").items[:1]
    with pytest.raises(PermissionError, match=f"image {later[0].item()} is of a class"):
        first.recalled(later, augmented=False)
    assert len(second.recalled(later, augmented=False)) == 1
    with pytest.raises(PermissionError, match="keeps none"):
        tiny_sessions(2)[0].recalled(later, augmented=False)
