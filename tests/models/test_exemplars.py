"""What goes with every exemplar, and the terms of a request against sums over single exemplars."""

import math
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from convs.model import LEVELS
from data.images import ImageSet, ImageStream
from data.sessions import ClassOrder, Session
from models.exemplars import exemplar_fields, original_fields, request_fields, request_terms
from models.unlearn_losses import LOSSES
from utils.streams import JoinedStream, TensorStream

# six classes under three parents: A 0 1, B 2 3 4, C 5
ORDER = ClassOrder(tuple("abcdef"), tuple("ABC"), (0, 0, 1, 1, 1, 2))
COUNTS = {"fine": 6, "coarse": 3}
FINE = torch.tensor([0, 2, 3, 4, 0, 2, 3, 4, 0])


def asked(classes: Sequence[int], coarse: Sequence[int] = (), level: str = "fine", **streams) -> Session:
    alive = tuple(label for label in range(6) if label not in classes)
    given = {name: (lambda stream=stream: stream) for name, stream in streams.items()}
    return Session(0, "forget", tuple(classes), tuple(range(6)), alive, ORDER, level, tuple(coarse), streams=given)


HYBRID = asked((0, 2, 3, 4), (1,), "hybrid")


def levels_of(fine: Tensor) -> dict[str, Tensor]:
    return {"fine": fine, "coarse": torch.tensor(ORDER.parents)[fine]}


# fields


def test_a_wrong_label_is_never_true_and_any_of_the_others():
    labels = levels_of(torch.arange(6).repeat(200))
    found = request_fields(asked(range(6)), labels, COUNTS, torch.Generator().manual_seed(0))
    for level, count in COUNTS.items():
        wrong = found[f"wrong.{level}"]
        assert (wrong != labels[level]).all()
        for label in range(count):
            assert set(wrong[labels[level] == label].tolist()) == set(range(count)) - {label}
        assert found[level] is labels[level]


def test_the_generator_alone_draws_wrong_labels():
    one, same, other = (
        request_fields(HYBRID, levels_of(FINE), COUNTS, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["wrong.fine"], other["wrong.fine"])


def test_a_level_of_one_class_has_no_wrong_label():
    found = request_fields(HYBRID, levels_of(FINE), {"fine": 6, "coarse": 1}, torch.Generator())
    assert found.keys() == {"fine", "coarse", "goal", "wrong.fine"}


def test_every_exemplar_has_the_goal_of_its_concept():
    fields = request_fields(HYBRID, levels_of(FINE), COUNTS, torch.Generator())
    assert [LEVELS[code] for code in fields["goal"].tolist()] == ["fine", *["coarse"] * 3] * 2 + ["fine"]
    plain = request_fields(asked((0, 2, 3, 4)), levels_of(FINE), COUNTS, torch.Generator())
    assert [LEVELS[code] for code in plain["goal"].tolist()] == ["fine"] * 9


@torch.no_grad()
def test_original_logits_are_scaled_cosines(tiny_model):
    model = tiny_model()
    features = torch.randn(5, 128, generator=torch.Generator().manual_seed(0))
    rows = {"fine": torch.randn(3, 128), "coarse": torch.randn(2, 128)}
    found = original_fields(model, features, rows, "names")
    assert found.keys() == {"names.fine", "names.coarse"}
    for level, weight in rows.items():
        expected = 20 * torch.cosine_similarity(features[:, None].double(), weight[None].double(), dim=-1)
        torch.testing.assert_close(found[f"names.{level}"].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def joined(pets, tiny_model):
    """The exemplars of a request over drawn pets, their fields, and the model that was asked."""
    rows = [0, 1, 2, 3, 4] * 5  # beagle, siamese, poodle, persian, husky
    parents = (0, 1, 0, 1, 0)
    order = ClassOrder(("beagle", "siamese", "poodle", "persian", "husky"), ("dog", "cat"), parents)
    names = [record.fine for record in pets.splits["train"]]
    fine = torch.tensor([order.fine.index(name) for name in names])
    labels = {"fine": fine, "coarse": torch.tensor(parents)[fine]}
    images = ImageSet(pets, "train", range(len(rows)), labels)
    items = [place for place, label in enumerate(fine.tolist()) if label in (0, 1, 3)]
    look = lambda image: image.float().repeat_interleave(4, 1).repeat_interleave(4, 2) / 255  # noqa: E731
    streams = {name: (lambda n=name: ImageStream(images, items, look, n == "forget")) for name in ("forget", "plain")}
    whole = {"level": "hybrid", "coarse_classes": (1,), "streams": streams}
    session = Session(3, "forget", (0, 1, 3), tuple(range(5)), (2, 4), order, **whole)
    model = tiny_model().eval()
    model.grow("fine", order.fine)
    model.grow("coarse", order.coarse)
    return model, session


@torch.no_grad()
def test_fields_follow_their_images_through_every_shuffled_pass(joined):
    model, session = joined
    plain = session.stream("plain")
    images = torch.cat([batch["image"] for batch in plain.batches(4, 0)])
    other = {level: torch.randn_like(rows) for level, rows in model.rows().items()}
    features = model.backbone(images)
    fields = exemplar_fields(model, session, features, {"rows": model.rows(), "names": other})
    prefixes = ("", "wrong.", "rows.", "names.")
    assert fields.keys() == {"goal", *(prefix + level for prefix in prefixes for level in LEVELS)}
    assert {len(value) for value in fields.values()} == {15}
    stream = JoinedStream(session.stream("forget"), plain.items, fields)
    orders, wrong = [], {}
    for seed in (0, 1):
        batches = list(stream.batches(4, seed))
        orders.append([item for batch in batches for item in batch["item"].tolist()])
        for batch in batches:
            said = model(batch["image"])
            for level in ("fine", "coarse"):
                torch.testing.assert_close(batch[f"rows.{level}"], said.logits[level], rtol=1e-4, atol=1e-4)
                by_other = model.logits(said.features, other)[level]
                torch.testing.assert_close(batch[f"names.{level}"], by_other, rtol=1e-4, atol=1e-4)
                assert (batch[f"wrong.{level}"] != batch[level]).all()
            assert batch["coarse"].tolist() == [session.order.parents[label] for label in batch["fine"].tolist()]
            assert batch["goal"].tolist() == [int(label in (1, 3)) for label in batch["fine"].tolist()]
            for item, label in zip(batch["item"].tolist(), batch["wrong.fine"].tolist(), strict=True):
                assert wrong.setdefault(item, label) == label  # drawn once for the session
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]) == plain.items.tolist()


def test_wrong_labels_follow_from_torchs_state(joined):
    model, session = joined
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(exemplar_fields(model, session, torch.randn(15, 128), {})["wrong.fine"].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


# terms


def softmax(row: Sequence[float]) -> list[float]:
    top = max(row)
    parts = [math.exp(value - top) for value in row]
    return [part / math.fsum(parts) for part in parts]


def ce(row: Sequence[float], label: int) -> float:
    return -math.log(softmax(row)[label])


def kl(row: Sequence[float], original: Sequence[float]) -> float:
    pairs = zip(softmax(original), softmax(row), strict=True)
    return math.fsum(old * math.log(old / new) for old, new in pairs) / len(row)


def rest(row: Sequence[float], label: int) -> list[float]:
    return [value for column, value in enumerate(row) if column != label]


def gdiff(z: Mapping, o: Mapping, y: Mapping, wrong: Mapping, goal: str) -> dict[str, float]:
    if goal == "coarse":
        return {"forget": -ce(z["fine"], y["fine"]) - ce(z["coarse"], y["coarse"]), "keep": 0.0}
    return {"forget": -ce(z["fine"], y["fine"]), "keep": ce(z["coarse"], y["coarse"])}


def hinge(z: Mapping, o: Mapping, y: Mapping, wrong: Mapping, goal: str) -> dict[str, float]:
    gone = ("fine", "coarse") if goal == "coarse" else ("fine",)
    weights = {"fine": 20.0, "coarse": 10.0}
    masked = {k: kl(rest(z[k], y[k]), rest(o[k], y[k])) if k in gone else kl(z[k], o[k]) for k in z}
    return {
        "forget": math.fsum(max(0.0, z[k][y[k]] - max(rest(z[k], y[k])) + 2.0) for k in gone),
        "keep": math.fsum(weights[k] * value for k, value in masked.items()),
    }


def relabeling(z: Mapping, o: Mapping, y: Mapping, wrong: Mapping, goal: str) -> dict[str, float]:
    return {"forget": ce(z[goal], wrong[goal]), "keep": 0.0}


BY_HAND = {"gdiff": gdiff, "hinge": hinge, "relabeling": relabeling}


def batch_of(session: Session, fine: Tensor, source: str = "original") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Made-up logits in float64, and the batch that goes with them."""
    dice = torch.Generator().manual_seed(7)
    made = lambda: {k: 3 * torch.randn(len(fine), n, generator=dice).double() for k, n in COUNTS.items()}  # noqa: E731
    logits, original = made(), made()
    fields = request_fields(session, levels_of(fine), COUNTS, dice)
    return logits, fields | {f"{source}.{level}": value for level, value in original.items()}


def expected(name: str, session: Session, logits, batch, source: str = "original") -> dict[str, float]:
    """The mean over the exemplars, each by the loss of its own concept's level."""
    total = {"forget": 0.0, "keep": 0.0}
    for row, label in enumerate(batch["fine"].tolist()):
        z, o = ({k: values[row].tolist() for k, values in some.items()} for some in (logits, by_level(batch, source)))
        y, wrong = ({k: batch[prefix + k][row].item() for k in COUNTS} for prefix in ("", "wrong."))
        for term, value in BY_HAND[name](z, o, y, wrong, session.goals[label]).items():
            total[term] += value / len(batch["fine"])
    return total


def by_level(batch, source: str) -> dict[str, Tensor]:
    return {level: batch[f"{source}.{level}"] for level in COUNTS}


SESSIONS = {
    "fine": asked((0, 2, 3, 4)),
    "coarse": asked((2, 3, 4), (1,), "coarse"),
    "hybrid": HYBRID,
}


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("level", SESSIONS)
def test_terms_are_the_mean_over_the_exemplars(name, level):
    session = SESSIONS[level]
    fine = FINE[torch.isin(FINE, torch.tensor(session.classes))]
    logits, batch = batch_of(session, fine, "rows")
    found = request_terms(LOSSES[name](), session, logits, batch, "rows")
    wanted = expected(name, session, logits, batch, "rows")
    assert {term: value.item() for term, value in found.items()} == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert (wanted["forget"] != 0) and (wanted["keep"] != 0 or name != "hinge")


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("fine", [[0, 0, 0], [2, 4, 2], [3]])
def test_a_hybrid_batch_may_hold_one_goal_alone(name, fine):
    logits, batch = batch_of(HYBRID, torch.tensor(fine))
    found = request_terms(LOSSES[name](), HYBRID, logits, batch, "original")
    wanted = expected(name, HYBRID, logits, batch)
    assert {term: value.item() for term, value in found.items()} == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_gradients_of_a_hybrid_batch_reach_every_exemplar_at_its_level_alone():
    logits, batch = batch_of(HYBRID, torch.tensor([0, 3]))
    for values in logits.values():
        values.requires_grad_(True)
    request_terms(LOSSES["ga"](), HYBRID, logits, batch, "original")["forget"].backward()
    assert logits["fine"].grad.any(1).tolist() == [True, True]
    assert logits["coarse"].grad.any(1).tolist() == [False, True]  # the first one's parent stays


def test_one_level_of_names_forgets_that_level():
    session = asked((0, 2))
    logits, batch = batch_of(session, torch.tensor([0, 2, 2]))
    found = request_terms(LOSSES["gdiff"](), session, {"fine": logits["fine"]}, batch, "original")
    rows = zip(logits["fine"].tolist(), (0, 2, 2), strict=True)
    assert found["forget"].item() == pytest.approx(-math.fsum(ce(row, label) for row, label in rows) / 3)
    assert found["keep"].item() == 0


def test_batches_of_a_pass_weigh_as_their_exemplars():
    """Two goals of unequal share: the mean over equal batches is the mean over the pass."""
    logits, batch = batch_of(HYBRID, torch.tensor([0, 2, 0, 3, 0, 0, 4, 2]))
    fields = {f"z.{level}": value for level, value in logits.items()} | batch
    parts = []
    for some in TensorStream(fields).batches(4, 0):
        z = {level: some[f"z.{level}"] for level in COUNTS}
        parts.append(request_terms(LOSSES["hinge"](), HYBRID, z, some, "original")["forget"].item())
    assert sum(parts) / 2 == pytest.approx(expected("hinge", HYBRID, logits, batch)["forget"])
