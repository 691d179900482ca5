"""What a request did, against figures worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from convs.backbone import TrainedHead
from data.general import GeneralSet, general_set
from data.sessions import ClassOrder, Session
from data.transforms import test_transform as plain_transform
from models.evaluation import Scores
from models.finetune import FinetuneLearner
from models.request_figures import Examined, Judge, Parts, Reading, examine, general_accuracy, measure, parts
from utils.errors import WeightsError
from utils.streams import TensorStream

# eight classes under four parents: A 0 1 2, B 3 4, C 5 6, D 7
ORDER = ClassOrder(tuple("abcdefgh"), tuple("ABCD"), (0, 0, 0, 1, 1, 2, 2, 3))
FLAT = ClassOrder(tuple("abcdefgh"), tuple("abcdefgh"), tuple(range(8)))
# rows that tell which classes are nearest: to h b, c and d in this order, to d and e f, g and c
ROWS = torch.eye(8)
ROWS[7, [1, 2, 3]] = torch.tensor([0.9, 0.8, 0.6])
ROWS[3:5, [5, 6, 2]] = torch.tensor([0.9, 0.8, 0.75])
FINE = [label for label in range(8) for _ in range(10)]  # ten test images of every class


def asked(classes, alive=None, order=ORDER, **options) -> Session:
    left = tuple(label for label in range(8) if label not in classes) if alive is None else tuple(alive)
    return Session(1, "forget", tuple(classes), tuple(range(8)), left, order, **options)


def logits(right: dict[int, int], labels: list[int], count: int, sure: float = 1.0) -> np.ndarray:
    """One column stands out: the true one for the first `right[label]` images of a class, another one for the rest."""
    found, seen = np.zeros((len(labels), count), dtype=np.float32), dict.fromkeys(range(count), 0)
    for image, label in enumerate(labels):
        hit = seen[label] < right.get(label, 10**6)
        found[image, label if hit else (label + 1) % count] = sure
        seen[label] += 1
    return found


def made_up(fine: dict[int, int], coarse: dict[int, int], text=None, order: ClassOrder = ORDER) -> Scores:
    """Scores with so many images of a class recognised; `coarse` counts by parent, all others are right.

    `text`: the same two of the plain text features.
    """
    labels = {"fine": np.array(FINE), "coarse": np.array([order.parents[label] for label in FINE])}

    def both(fine, coarse):
        found = {"fine": logits(fine, FINE, 8)}
        if order.two_levels:
            found["coarse"] = logits(coarse, labels["coarse"].tolist(), 4)
        return found

    return Scores(labels, both(fine, coarse), both(*text) if text else {}, np.eye(8)[FINE])


def figures(scores: Scores, session: Session, general=None) -> dict[str, float]:
    return measure(scores, session, parts(session, ROWS), general or {}).figures


# adjacent and remote


def test_adjacent_are_the_siblings_of_what_is_forgotten():
    assert parts(asked([0, 3]), ROWS) == Parts((1, 2, 4), (5, 6, 7))


def test_where_no_sibling_is_left_the_nearest_rows_are_adjacent():
    assert parts(asked([7]), 100 * ROWS) == Parts((1, 2, 3), (0, 4, 5, 6))
    turned = ROWS.clone()
    turned[1] *= -1  # now b is as far as can be
    assert parts(asked([7]), turned).adjacent == adjacent(turned, (7,)) == (2, 3, 4)


def adjacent(rows: torch.Tensor, gone: tuple[int, ...], count: int = 3) -> tuple[int, ...]:
    """The nearest by cosine to any of some classes, found one by one."""
    found = set()
    for label in gone:
        alive = [other for other in range(len(rows)) if other not in gone]
        cosine = {o: torch.cosine_similarity(rows[label].double(), rows[o].double(), dim=0).item() for o in alive}
        found |= set(sorted(alive, key=lambda other: -cosine[other])[:count])
    return tuple(sorted(found))


def test_a_parent_forgotten_whole_has_the_nearest_rows_beside_it():
    rows = torch.randn(8, 5, generator=torch.Generator().manual_seed(3))
    session = asked([5, 6], level="coarse", coarse_classes=(2,))
    assert parts(session, rows).adjacent == adjacent(rows, (5, 6))


def test_on_one_level_the_nearest_rows_are_adjacent():
    rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    found = parts(asked([2], order=FLAT), rows)
    assert found.adjacent == adjacent(rows, (2,)) and len(found.adjacent) == 3
    assert sorted(found.adjacent + found.remote) == [0, 1, 3, 4, 5, 6, 7]


def test_what_was_forgotten_before_is_neither():
    session = asked([0], alive=[2, 5, 6, 7])
    assert session.past == (1, 3, 4)
    assert parts(session, ROWS) == Parts((2,), (5, 6, 7))


def test_few_are_left():
    assert parts(asked([0, 1, 2, 3, 4, 5], alive=[6, 7]), ROWS) == Parts((6, 7), ())
    assert parts(asked(range(8), alive=[]), ROWS) == Parts((), ())


# accuracies


def test_accuracies_by_rows_and_by_text():
    read = Reading(made_up({0: 7, 3: 2}, {0: 3}, text=({0: 9, 3: 1}, {0: 1})))
    assert (read.rows("fine", [0]), read.text("fine", [0]), read.larger("fine", [0])) == (70, 90, 90)
    assert (read.rows("fine", [3]), read.text("fine", [3]), read.larger("fine", [3])) == (20, 10, 20)
    assert read.rows("fine", [0, 3]) == 45
    assert read.rows("coarse", [0]) == 30 and read.rows("coarse", [1, 2]) == 0  # the first three of A are of class a
    assert math.isnan(read.rows("fine", [])) and math.isnan(read.text("coarse", []))


def test_without_a_text_tower_the_rows_alone_count():
    read = Reading(made_up({0: 7}, {}))
    assert math.isnan(read.text("fine", [0])) and read.larger("fine", [0]) == 70


# whole requests


def test_goal_fine():
    """A and h are forgotten at the fine level; two of A's images are taken for B."""
    before = made_up({}, {}, text=({}, {}))
    after = made_up({0: 1, 1: 8, 5: 9, 7: 0}, {0: 28}, text=({0: 3, 7: 0}, {0: 0}))
    session = asked([0, 7])
    found = figures(after, session)
    assert found["forget_fine"] == 100 * (3 + 0) / 20  # a by the names, as they know more
    assert (found["forget_fine_rows"], found["forget_fine_text"]) == (5.0, 15.0)
    assert found["forget_coarse"] == 100.0  # the rows of A fail on the last two images, which are of class c
    assert found["retain_fine"] == pytest.approx(100 * (8 + 10 + 10 + 10 + 9 + 10) / 60)
    assert found["retain_coarse"] == pytest.approx(100 * 58 / 60)
    split = parts(session, ROWS)  # siblings of a: b, c; h has none
    assert split.adjacent == (1, 2, 3) and split.remote == (4, 5, 6)
    assert found["adjacent_fine"] == pytest.approx(100 * 28 / 30)
    assert found["remote_fine"] == pytest.approx(100 * 29 / 30)
    assert math.isnan(found["past_fine"]) and math.isnan(found["zero_shot"])
    measured = measure(after, session, split, {})
    assert measured.forgotten == [15.0]  # Quality: forget-fine
    assert measured.kept == [100.0, pytest.approx(100 * 57 / 60), pytest.approx(100 * 58 / 60)]
    assert figures(before, session)["forget_fine"] == 100.0


def test_goal_coarse():
    """B is forgotten with its children d and e; a parent's name is looked for twice, too."""
    after = made_up({3: 1, 4: 3, 0: 8}, {1: 2, 3: 5}, text=({3: 5, 4: 1}, {1: 6}))
    session = asked([3, 4], level="coarse", coarse_classes=(1,))
    found = measure(after, session, parts(session, ROWS), {})
    assert found.figures["forget_fine"] == 100 * 6 / 20  # the rows know four of twenty, the names six
    assert found.figures["forget_coarse"] == 100 * 6 / 20  # the rows two, the names six
    assert (found.figures["forget_fine_rows"], found.figures["forget_fine_text"]) == (20.0, 30.0)
    assert found.forgotten == [30.0, 30.0]
    assert found.kept == [pytest.approx(100 * 58 / 60), pytest.approx(100 * 55 / 60)]
    assert [found.figures["retain_fine"], found.figures["retain_coarse"]] == found.kept


def test_goal_hybrid():
    """a at the fine level, B with d and e: Quality and Utility pool what each of them falls and keeps."""
    after = made_up({0: 2, 3: 1, 4: 0}, {0: 29, 1: 4}, text=({0: 1, 3: 3, 4: 0}, {1: 1}))
    session = asked([0, 3, 4], level="hybrid", coarse_classes=(1,))
    assert session.goals == {0: "fine", 3: "coarse", 4: "coarse"}
    found = measure(after, session, parts(session, ROWS), {})
    assert found.forgotten == [20.0, 15.0, 20.0]  # fine of a; fine of d and e by the names, coarse by the rows
    assert found.kept == [100.0, pytest.approx(100.0), pytest.approx(100 * 49 / 50)]
    # over all the request's images, each read as its goal has it: 2 of 10 and 3 of 20; 10 of 10 and 4 of 20
    assert found.figures["forget_fine"] == pytest.approx(100 * 5 / 30)
    assert found.figures["forget_coarse"] == pytest.approx(100 * 14 / 30)


def test_a_class_named_at_both_levels_goes_with_its_parent():
    session = asked([3, 4], level="hybrid", coarse_classes=(1,))
    whole = replace(session, level="coarse")
    scores = made_up({3: 4}, {1: 7}, text=({4: 2}, {1: 1}))
    assert figures(scores, session) == pytest.approx(figures(scores, whole), nan_ok=True)


def test_one_level_of_names():
    session = asked([1], order=FLAT)
    found = measure(made_up({1: 2, 0: 6}, {}, order=FLAT), session, parts(session, ROWS), {})
    assert not any("coarse" in name for name in found.figures)
    assert (found.forgotten, found.kept) == ([20.0], [pytest.approx(100 * 66 / 70)])


def test_classes_of_past_requests_are_watched_by_the_stricter_reading():
    session = asked([0], alive=[2, 3, 4, 5, 6, 7])
    scores = made_up({0: 0, 1: 1, 2: 9}, {}, text=({0: 2, 1: 4, 2: 0}, {}))
    found = measure(scores, session, parts(session, ROWS), {})
    assert found.figures["past_fine"] == 40.0
    assert found.figures["retain_fine"] == pytest.approx(100 * 59 / 60)  # without class b
    assert found.classes == {0: 20.0, 1: 40.0, 2: 90.0} | dict.fromkeys(range(3, 8), 100.0)  # c by the rows


def test_everything_is_forgotten():
    session = asked(range(8), alive=[])
    found = measure(made_up(dict.fromkeys(range(8), 0), {}), session, Parts((), ()), {})
    assert found.figures["forget_fine"] == 0.0 and found.forgotten == [0.0]
    assert math.isnan(found.figures["retain_fine"]) and math.isnan(found.figures["ece"])
    assert found.kept == [100.0]  # the parents


def test_zero_shot_is_the_mean_over_the_sets():
    found = figures(made_up({}, {}), asked([0]), {"food": 80.0, "pets": 50.0})
    assert (found["zero_shot"], found["zero_shot.food"], found["zero_shot.pets"]) == (65.0, 80.0, 50.0)


def test_calibration_is_over_what_is_retained():
    scores = made_up({0: 0, 1: 4}, {})
    sure = {label: math.log(7 * p / (1 - p)) for label, p in ((0, 0.99), (1, 0.8))}  # softmax of the one column
    fine = scores.logits["fine"] * np.array([sure.get(label, math.log(7 * 0.95 / 0.05)) for label in FINE])[:, None]
    found = figures(replace(scores, logits={**scores.logits, "fine": fine.astype(np.float32)}, text={}), asked([0]))
    # class b: ten images at 0.8, four right; the sixty others at 0.95, all right; class a does not count
    assert found["ece"] == pytest.approx((10 * abs(40 - 80) + 60 * abs(100 - 95)) / 70, abs=1e-3)


# before and after


def judged(session: Session, before: Scores, after: Scores, general=({}, {})):
    """A request measured from scores before and after, and accuracies on general sets."""
    sets = [GeneralSet(name, ("n",), TensorStream({"fine": torch.zeros(size)})) for name, size in SIZES.items()]
    judge = Judge(session, ROWS, Examined(before, general[0]), sets if general[0] else ())
    return judge.verdict(Examined(after, general[1]))


SIZES = {"x": 30, "y": 10}


def test_quality_utility_and_their_mean():
    before = made_up({0: 8, 1: 5}, {0: 25})
    after = made_up({0: 2, 1: 6, 3: 8}, {0: 20})
    found = judged(asked([0]), before, after)
    # forget-fine 80 → 20; forget-coarse 100 → 100; retain-fine 65 → 64 of 70; retain-coarse 65 → 60 of 70
    quality, utility = 100 * (80 - 20) / 80, 100 * (1 + 64 / 65 + 60 / 65) / 3
    assert found.after["quality"] == pytest.approx(quality)
    assert found.after["utility"] == pytest.approx(utility)
    assert found.after["qu"] == pytest.approx(2 * quality * utility / (quality + utility))
    assert [found.before[name] for name in ("quality", "utility", "qu")] == [0.0, pytest.approx(100.0), 0.0]
    assert (found.before["forget_fine"], found.after["forget_fine"]) == (80.0, 20.0)
    assert (found.level, found.counts) == ("fine", {})


def test_every_class_has_a_row_with_its_part():
    session = asked([0, 3, 4], alive=[2, 5, 6, 7], level="hybrid", coarse_classes=(1,))
    found = judged(session, made_up({1: 3}, {}), made_up({0: 1, 1: 2, 5: 9}, {}))
    assert [(row.name, row.parent, row.role) for row in found.classes] == [
        ("a", "A", "forget"),
        ("b", "A", "past"),
        ("c", "A", "adjacent"),
        ("d", "B", "forget"),
        ("e", "B", "forget"),
        ("f", "C", "adjacent"),  # the whole of B goes: f, g and c are nearest
        ("g", "C", "adjacent"),
        ("h", "D", "remote"),
    ]
    assert {row.images for row in found.classes} == {10}
    assert [(row.before, row.after) for row in found.classes[:2]] == [(100.0, 10.0), (30.0, 20.0)]
    assert found.classes[5].change == -10.0


def test_general_sets_stand_before_and_after_with_their_sizes():
    general = ({"x": 80.0, "y": 60.0}, {"x": 70.0, "y": 40.0})
    found = judged(asked([0]), made_up({}, {}), made_up({}, {}), general)
    assert (found.before["zero_shot"], found.after["zero_shot"]) == (70.0, 55.0)
    assert (found.before["zero_shot.y"], found.after["zero_shot.y"]) == (60.0, 40.0)
    assert found.counts == {"zero_shot": 40, "zero_shot.x": 30, "zero_shot.y": 10}


def test_the_map_shows_both_models_in_the_originals_plane():
    moved = np.eye(8)[[3 if label == 0 else label for label in FINE]]  # images of a have become those of d
    found = judged(asked([0]), made_up({}, {}), replace(made_up({}, {}), features=moved)).spots
    assert [spot.name for spot in found] == [name for name in "abcdefgh" for _ in range(10)]
    where = {spot.name: spot.before for spot in found}
    for spot in found:
        assert spot.after == pytest.approx(where["d" if spot.name == "a" else spot.name], abs=1e-4)
    assert len(set(where.values())) > 4


def test_a_judge_keeps_its_numbers_while_the_model_changes(tiny_model, recipe, tiny_sessions):
    learner = FinetuneLearner(tiny_model("tiny_clip"), recipe(), recipe())
    learned = tiny_sessions(6)[0]
    learner.model.recall("fine", learned.order.fine)
    learner.model.recall("coarse", learned.order.coarse)
    session = replace(learned, index=1, kind="forget", classes=(1,), alive=(0, 2, 3, 4, 5))
    judge = Judge(session, learner.model.rows()["fine"], examine(learner, session, []))
    first = judge.verdict(examine(learner, session, []))
    assert first.before == pytest.approx(first.after, nan_ok=True)  # nothing has happened yet
    with torch.no_grad():
        for level in ("fine", "coarse"):
            head = learner.model.head(level)
            head.replace({label: -row for label, row in enumerate(head.weight.clone())})
    second = judge.verdict(examine(learner, session, []))
    assert second.before == pytest.approx(first.before, nan_ok=True)
    assert second.after["forget_fine_text"] == first.before["forget_fine_text"]  # the features still know
    assert second.after != pytest.approx(first.after, nan_ok=True)


# general sets


@pytest.fixture
def general(pets) -> GeneralSet:
    return general_set(pets, plain_transform(64, "bilinear", 1.0))


@torch.no_grad()
def one_by_one(learner, item: GeneralSet, rows: torch.Tensor) -> float:
    hits = []
    for batch in item.stream.batches(1, 0):
        feature = learner.model.eval().backbone(batch["image"])[0].double()
        cosines = [torch.cosine_similarity(feature, row.double(), dim=0).item() for row in rows]
        hits.append(cosines.index(max(cosines)) == batch["fine"].item())
    return 100 * sum(hits) / len(hits)


def test_a_clip_is_asked_by_the_names_of_the_set(tiny_model, recipe, general):
    learner = FinetuneLearner(tiny_model("tiny_clip"), recipe(), recipe())
    learner.model.grow("fine", ["of the stream", "and not", "of the set"])
    with torch.no_grad():
        rows = learner.model.backbone.name_features(list(general.names), learner.model.templates)
    other = replace(general, name="again")
    found = general_accuracy(learner, [general, other])
    assert found == {"pets": one_by_one(learner, general, rows), "again": one_by_one(learner, general, rows)}
    assert general_accuracy(learner, []) == {}


def test_a_vit_is_asked_by_the_rows_of_its_weights(tiny_model, recipe, general):
    learner = FinetuneLearner(tiny_model(), recipe(), recipe())
    with pytest.raises(WeightsError, match="the weights know no fine class 'beagle'"):
        general_accuracy(learner, [general])
    rows = torch.randn(6, 128, generator=torch.Generator().manual_seed(0))
    names = ("husky", "unasked", "persian", "siamese", "beagle", "poodle")
    learner.model.backbone.trained_heads = {"fine": TrainedHead(names, rows)}
    expected = one_by_one(learner, general, rows[[4, 3, 5, 2, 0]])
    assert general_accuracy(learner, [general]) == {"pets": expected}
