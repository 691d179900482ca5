"""The adapter learner on two sessions of the miniature: what moves, what is remembered, what is drawn."""

import math

import numpy as np
import pytest
import torch

from models.adapter import AdapterLearner
from tests.models.requests import NAMES, cut, forget, knowing, learn, shipped, step_through, text_rows
from utils.streams import DrawnStream

S = 20.0


@pytest.fixture
def sessions(tiny_sessions):
    """Two models of one make; then its third and one of another make."""
    return tiny_sessions(2, 2)


@pytest.fixture
def build(tiny_model, recipe):
    """A function that makes a learner with small settings."""

    def make(model="tiny_vit", **options):
        twice = recipe(epochs=2)  # `down` moves once `up` has moved
        options = {"ffn_num": 8, "adapter_scale": 1.0, "ca_samples": 16, "ca_epochs": 1, **options}
        return AdapterLearner(tiny_model(model) if isinstance(model, str) else model, twice, twice, **options)

    return make


def adapters(learner) -> set[str]:
    return {name for name, _ in learner.model.named_parameters() if ".adapter." in name}


@torch.no_grad()
def encoded(learner, session, stream: str = "plain") -> torch.Tensor:
    learner.model.eval()
    return torch.cat([learner.model.backbone(b["image"]) for b in session.stream(stream).batches(7, 0)])


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_clip"])
@pytest.mark.parametrize("coarse_weight", [0.0, 0.5])
def test_what_moves_in_which_phase(build, tiny_sessions, train, name, coarse_weight):
    sessions = tiny_sessions(4, 3)  # the later classes are of a make known before and of a new one
    learner = build(name, coarse_weight=coarse_weight)
    frozen = {key: value.clone() for key, value in learner.model.state_dict().items() if ".adapter." not in key}
    coarse = {"heads.coarse.rows.0"} if coarse_weight else set()
    assert train(learner, sessions[0]) == {"adapt": adapters(learner) | {"heads.fine.rows.0"} | coarse}
    moved = train(learner, sessions[1])
    assert list(moved) == ["adapt", "align"]
    coarse = {"heads.coarse.rows.0", "heads.coarse.rows.1"} if coarse_weight else set()
    assert moved["adapt"] == adapters(learner) | {"heads.fine.rows.1"} | coarse
    assert moved["align"] == {"heads.fine.rows.0", "heads.fine.rows.1"} | coarse
    after = learner.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in frozen.items())


def test_a_clips_rows_start_as_text(build, sessions, train):
    learner = build("tiny_clip", coarse_weight=1.0)
    seen = {}

    def watch(phase):
        seen.update({level: head.weight.detach().clone() for level, head in learner.model.heads.items()})

    train(learner, sessions[0], watch)
    order, backbone = sessions[0].order, learner.model.backbone
    with torch.no_grad():
        assert torch.equal(seen["fine"], backbone.name_features(list(order.fine[:2]), learner.model.templates))
        assert torch.equal(seen["coarse"], backbone.name_features([order.coarse[0]], learner.model.templates))


def test_the_loss_is_cosface_over_the_sessions_own_columns(build, sessions, train):
    learner = build(margin=0.3, coarse_weight=0.5, adapter_dropout=0.0)
    train(learner, sessions[0])
    compared = []

    def watch(phase):
        if phase.name != "adapt":
            return
        batch = next(phase.streams["train"].batches(8, 0))
        learner.model.eval()
        with torch.no_grad():
            terms = phase.loss({"train": batch})
            features = learner.model.backbone(batch["image"]).double().tolist()
        for level, columns, weight in (("fine", (2, 3), 1.0), ("coarse", (0, 1), 0.5)):
            rows = learner.model.heads[level].weight.detach().double().tolist()
            losses = [
                one_cosface(feature, [rows[column] for column in columns], columns.index(label))
                for feature, label in zip(features, batch[level].tolist(), strict=True)
            ]
            assert terms[level].item() == pytest.approx(weight * np.mean(losses), rel=1e-5)
            compared.append(level)

    train(learner, sessions[1], watch)
    assert compared == ["fine", "coarse"]


def one_cosface(feature: list[float], rows: list[list[float]], label: int) -> float:
    """−log(e^{s(z_y−m)} / (e^{s(z_y−m)} + Σ_{j≠y} e^{s·z_j})) with s = 20, m = 0.3."""
    cosines = [
        math.fsum(a * b for a, b in zip(feature, row, strict=True)) / (math.hypot(*feature) * math.hypot(*row))
        for row in rows
    ]
    own = math.exp(S * (cosines[label] - 0.3))
    return -math.log(own / (own + math.fsum(math.exp(S * z) for j, z in enumerate(cosines) if j != label)))


def test_statistics_are_those_of_the_trained_features(build, sessions, train):
    learner = build(ridge=0.01)
    train(learner, sessions[0])
    features = encoded(learner, sessions[0]).double().numpy()
    labels = sessions[0].stream("plain").labels("fine").numpy()
    assert list(learner.statistics) == [0, 1]
    for label, item in learner.statistics.items():
        own = features[labels == label]
        assert (item.count, item.parent, item.session, item.ridge) == (6, 0, 0, 0.01)
        assert item.factor.shape == (5, 128)
        np.testing.assert_allclose(item.mean.numpy(), own.mean(0), atol=1e-5)
        expected = np.cov(own, rowvar=False) + 0.01 * np.eye(128)
        np.testing.assert_allclose(item.covariance().numpy(), expected, atol=1e-4)


def test_later_statistics_know_their_parent_and_session(build, sessions, train):
    learner = build(ssca=False)
    for session in sessions:
        train(learner, session)
    found = {label: (item.parent, item.session) for label, item in learner.statistics.items()}
    assert found == {0: (0, 0), 1: (0, 0), 2: (0, 1), 3: (1, 1)}


def test_without_shift_old_means_stay(build, sessions, train):
    learner = build(ssca=False)
    train(learner, sessions[0])
    before = {label: item.mean.clone() for label, item in learner.statistics.items()}
    train(learner, sessions[1])
    assert all(torch.equal(learner.statistics[label].mean, mean) for label, mean in before.items())


@pytest.mark.parametrize("sigma", [1.5, "auto"])
def test_old_means_follow_the_drift(build, sessions, train, sigma):
    learner = build(sigma=sigma)
    train(learner, sessions[0])
    old = dict(learner.statistics)
    before = encoded(learner, sessions[1]).double().numpy()
    labels = sessions[1].stream("plain").labels("fine").numpy()
    train(learner, sessions[1])
    after = encoded(learner, sessions[1]).double().numpy()  # the alignment moves rows only
    width = own_spread(before, labels) if sigma == "auto" else sigma
    for label, item in old.items():
        mean = item.mean.double().numpy()
        total, drift = 0.0, np.zeros(128)
        for one, other in zip(before, after, strict=True):
            weight = math.exp(-(np.linalg.norm(one - mean) ** 2) / (2 * width**2)) + 1e-5
            total, drift = total + weight, drift + weight * (other - one)
        moved = learner.statistics[label]
        assert np.abs(drift / total).max() > 1e-4
        np.testing.assert_allclose(moved.mean.numpy(), mean + drift / total, atol=2e-5)
        assert torch.equal(moved.factor, item.factor)


def own_spread(features: np.ndarray, labels: np.ndarray) -> float:
    """The (lower) median distance of a feature to the mean of its class."""
    means = {label: features[labels == label].mean(0) for label in set(labels.tolist())}
    distances = [np.linalg.norm(one - means[label]) for one, label in zip(features, labels.tolist(), strict=True)]
    return sorted(distances)[(len(distances) - 1) // 2]


def test_the_ridge_follows_the_variance(build, sessions, train):
    learner = build(ridge="auto")
    train(learner, sessions[0])
    features = encoded(learner, sessions[0]).double().numpy()
    labels = sessions[0].stream("plain").labels("fine").numpy()
    rest = np.concatenate([features[labels == label] - features[labels == label].mean(0) for label in (0, 1)])
    assert learner.statistics[0].ridge == pytest.approx(1e-3 * (rest**2).mean(), rel=1e-4)


def test_alignment_draws_every_class_around_its_scaled_mean(build, sessions, train):
    learner = build(ca_samples=3000, ca_epochs=2)
    train(learner, sessions[0])
    drawn = []

    def watch(phase):
        if phase.name == "align":
            assert isinstance(phase.streams["drawn"], DrawnStream)
            assert (phase.recipe.epochs, phase.recipe.batch_size) == (2, 3000)
            drawn.extend(phase.streams["drawn"].batches(phase.recipe.batch_size, 1))

    train(learner, sessions[1], watch)
    assert len(drawn) == 4  # as many steps as classes
    rows = {name: torch.cat([batch[name] for batch in drawn]) for name in drawn[0]}
    assert not torch.equal(rows["fine"], rows["fine"].sort().values)
    for label, scale in ((0, 0.95), (1, 0.95), (2, 1.0), (3, 1.0)):  # 0.9 + 0.1·(t_c + 1)/(t + 1) at t = 1
        own, mean = rows["feature"][rows["fine"] == label], learner.statistics[label].mean
        assert len(own) == 3000
        assert rows["coarse"][rows["fine"] == label].unique().tolist() == [learner.statistics[label].parent]
        assert (own.mean(0) @ mean / mean.square().sum()).item() == pytest.approx(scale, abs=0.005)


def test_alignment_can_be_left_out(build, sessions, train):
    learner = build(ca=False)
    assert list(train(learner, sessions[0])) == ["adapt"]
    assert list(train(learner, sessions[1])) == ["adapt"]


# classes known from pre-training, which nobody taught

NEW = ("Veltro Comet", "Corvane Bolt")  # of a make that is known, and of one that is not
KNOWN = [name for name in NAMES if name not in NEW and name != "Brandle Summit"]


@pytest.fixture
def knowledgeable(toymini, build, recipe):
    """A function for a CLIP that knows five classes, and the sessions that teach it three others."""

    def make(**options) -> tuple[AdapterLearner, list]:
        manager = cut(toymini, learn(*NEW), learn("Brandle Summit"), known=KNOWN)
        decayed = recipe(epochs=2, lr=1e-2, optimizer="adam", weight_decay=0.1, batch_size=16)
        learner = build(knowing(shipped("tiny_clip"), manager), **options)
        learner.first = learner.later = decayed  # under a decay that would turn every row it reaches
        return learner, manager.sessions()

    return make


def rows_of(learner) -> dict[str, torch.Tensor]:
    return {level: rows.detach().clone() for level, rows in learner.model.rows().items()}


@pytest.mark.parametrize("coarse_weight", [0.0, 0.5])
def test_what_a_clip_knows_untaught_stays_bit_for_bit(knowledgeable, coarse_weight):
    learner, sessions = knowledgeable(coarse_weight=coarse_weight)
    assert sessions[0].seen == tuple(range(7)) and sessions[0].classes == (5, 6) and len(learner.statistics) == 0
    texts = text_rows(learner.model, {"fine": KNOWN, "coarse": ("Veltro", "Ostara")})
    start, taught = rows_of(learner), {"coarse": set()}
    for level, rows in texts.items():
        torch.testing.assert_close(start[level], rows, atol=1e-6, rtol=1e-5)
    for session, phases in zip(sessions, (["adapt"], ["adapt", "align"]), strict=True):
        assert step_through(learner, session) == phases
        taught["coarse"] |= set(session.order.coarse_of(session.classes)) if coarse_weight else set()
        for level, rows in rows_of(learner).items():
            same = {label for label, row in enumerate(start[level]) if torch.equal(row, rows[label])}
            assert same == set(range(len(start[level]))) - taught.get(level, set())
    assert list(learner.statistics) == [5, 6, 7]
    assert {level: len(rows) for level, rows in rows_of(learner).items()} == {"fine": 8, "coarse": 4}


def test_only_rows_with_samples_are_aligned(knowledgeable):
    learner, sessions = knowledgeable(coarse_weight=0.5)
    at_align = {}

    def watch(phase):
        if phase.name == "align":
            at_align.update(rows_of(learner))

    for session in sessions:
        step_through(learner, session, before=watch)
    moved = {
        level: {label for label, row in enumerate(rows) if not torch.equal(row, at_align[level][label])}
        for level, rows in rows_of(learner).items()
    }
    parents = sessions[1].order.parents
    assert moved == {"fine": {5, 6, 7}, "coarse": {parents[label] for label in (5, 6, 7)}} and 1 not in moved["coarse"]


def test_rows_of_classes_learned_again_are_renewed(toymini, build):
    """The request between the two lessons is nobody's business here: the stream is what makes a class new again."""
    manager = cut(
        toymini,
        learn("Veltro Arrow", "Veltro Harbor", "Ostara Meadow"),
        forget("Veltro Arrow", "Ostara Meadow"),
        learn("Ostara Meadow", "Veltro Arrow", "Corvane Bolt"),
        known="none",
    )
    first, _, again = manager.sessions()
    learner, seen = build(coarse_weight=0.5), {}
    step_through(learner, first)
    before = rows_of(learner)
    step_through(learner, again, before=lambda phase: seen.setdefault(phase.name, rows_of(learner)))
    assert (again.classes, again.learned) == ((0, 2, 3), 1)
    start = {
        level: [torch.equal(row, seen["adapt"][level][label]) for label, row in enumerate(before[level])]
        for level in before
    }
    assert start == {"fine": [False, True, False], "coarse": [True, False]}  # no other model of the second make
    assert {level: len(rows) for level, rows in seen["adapt"].items()} == {"fine": 4, "coarse": 3}
    held = {
        level: [torch.equal(row, seen["align"][level][label]) for label, row in enumerate(seen["adapt"][level])]
        for level in before
    }
    assert held == {"fine": [False, True, False, False], "coarse": [False, False, False]}
    sessions = {label: item.session for label, item in learner.statistics.items()}
    assert sessions == {0: 1, 1: 0, 2: 1, 3: 1} and list(sessions) == sorted(sessions)


def test_a_state_travels_to_a_fresh_learner(build, sessions, train):
    learner = build(coarse_weight=0.5)
    for session in sessions:
        train(learner, session)
    state = {name: value.clone() for name, value in learner.state_dict().items()}
    twin = build(coarse_weight=0.5)
    twin.load_state_dict(state)
    batch = next(sessions[1].stream("test").batches(8, 0))["image"]
    outputs = []
    for each in (learner, twin):
        each.model.eval()
        with torch.no_grad():
            outputs.append(each.predict(batch).logits)
    assert outputs[0].keys() == outputs[1].keys() == {"fine", "coarse"}
    assert all(torch.equal(outputs[0][level], outputs[1][level]) for level in outputs[0])
    assert twin.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in twin.state_dict().items())
    for label, item in learner.statistics.items():
        other = twin.statistics[label]
        assert (other.ridge, other.count, other.parent, other.session) == (item.ridge, 6, item.parent, item.session)


def test_the_state_holds_neither_backbone_nor_images(build, sessions, train):
    learner = build()
    train(learner, sessions[0])
    state = learner.state_dict()
    assert {name for name in state if name.startswith("backbone")} == adapters(learner)
    assert {name.rpartition(".")[2] for name in state if name.startswith("statistics")} == {"mean", "factor", "numbers"}


def test_the_tunable_share(build):
    learner = build(ffn_num=8)
    adapter = 4 * (8 * 128 + 8 + 128 * 8 + 128)
    rest = sum(p.numel() for name, p in learner.model.named_parameters() if ".adapter." not in name)
    assert learner.tunable_ratio() == pytest.approx(adapter / (adapter + rest))
