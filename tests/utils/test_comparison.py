"""Which runs are compared, what is merged, the test by its textbook formula."""

import math
from pathlib import Path

import pytest
from scipy.special import stdtr

from utils.comparison import Run, compare, less_is_better, significance
from utils.schema import Config

BASE = {"dataset": "toycars", "model_name": "adapter", "convnet_type": "tiny_vit"}
AUDI, SEAT = (
    {"forget": {"classes": [name], "level": level}} for name, level in (("Audi A7", "fine"), ("Seat", "coarse"))
)


def run(seed=1, figures=None, place="x", **keys) -> Run:
    stream = {} if keys.keys() & {"sessions", "init_cls", "num_tasks"} else {"init_cls": 2, "increment": 1}
    return Run(Path(place), Config(**BASE | stream | keys, seed=(seed,)), figures)


def test_seeds_are_merged_and_experiments_are_not():
    runs = [
        run(2, {"qu": 1.0}),
        run(1, {"qu": 3.0}),
        run(1, {"qu": 5.0}, ffn_num=8),
        run(1, {"qu": 7.0}, model_name="ga"),
    ]
    (found,) = compare(runs, ["model_name"])
    assert [dict(row.labels) for row in found.rows] == [
        {"model_name": "adapter", "ffn_num": "64"},
        {"model_name": "adapter", "ffn_num": "8"},
        {"model_name": "ga", "ffn_num": "64"},
    ]
    assert [row.values("qu") for row in found.rows] == [{1: 3.0, 2: 1.0}, {1: 5.0}, {1: 7.0}]
    assert [found.lacking(row) for row in found.rows] == [[], [2], [2]]


def test_what_has_no_effect_tells_no_experiments_apart_unless_it_is_asked_for():
    runs = [run(1, {"qu": 1.0}, "a", prefix="a"), run(1, {"qu": 2.0}, "b", prefix="b")]
    (found,) = compare(runs, ["model_name"])
    assert len(found.rows) == 1 and [twin.folder for twin in found.twins] == [Path("b")]
    (found,) = compare(runs, ["prefix"])
    assert [row.labels["prefix"] for row in found.rows] == ["a", "b"] and not found.twins


def test_of_two_runs_the_finished_one_counts():
    (found,) = compare([run(1, None, "cut"), run(1, {"qu": 2.0}, "whole")], ["model_name"])
    assert [found.rows[0].runs[1].folder, found.twins[0].folder] == [Path("whole"), Path("cut")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"dataset": "toycars"}, {"dataset": "toynew"}),
        ({"init_cls": 2}, {"init_cls": 3}),
        ({"sessions": [AUDI]}, {"sessions": [SEAT]}),
        ({"validation": 0.2}, {"validation": 0.0}),
    ],
)
def test_other_tasks_have_tables_of_their_own(one, other):
    assert len(compare([run(**one), run(**other)], ["model_name"])) == 2


def test_what_a_request_shows_is_no_other_task():
    shown = {"forget": AUDI["forget"] | {"retain": "all"}}
    (found,) = compare([run(sessions=[AUDI]), run(sessions=[shown], model_name="scrub")], ["model_name"])
    assert found.task == "toycars: forget Audi A7" and len(found.rows) == 2


def test_the_words_of_tasks():
    tasks = [{"sessions": [{"learn": 4, "repeat": 2}, SEAT], "shuffle": False}, {"init_cls": "all", "exclude": ["x"]}]
    assert [compare([run(**task)], ["model_name"])[0].task for task in tasks] == [
        "toycars: 2 × learn 4 classes, forget Seat (coarse), in the own order of the set",
        "toycars: all at once, without x",
    ]


def test_tasks_that_words_do_not_tell_apart_are_told_apart():
    cars = [f"car {number}" for number in range(5)]
    streams = [{"forget": {"classes": [*cars[:3], last]}} for last in cars[3:]]
    found = compare([run(sessions=[stream]) for stream in streams], ["model_name"])
    assert len({item.task for item in found}) == 2
    assert all(item.task.startswith("toycars: forget car 0, car 1, car 2 … (4) (task ") for item in found)
    few = {"num_tasks": 2, "per_forget_cls": 3, "num_of_first_cls": 6, "data_ratio": 0.5}
    (some, every) = compare([run(**few), run(**few, open_cls_num=2)], ["model_name"])
    assert every.task == f"{some.task}, 2 of the rest without images" and "(task" not in every.task


def test_values_that_begin_alike_are_told_apart():
    runs = [run(templates=[f"a photo of a {{}}, number {n}." for n in range(9)] + [last]) for last in ("{}", "a {}.")]
    (found,) = compare(runs, ["model_name"])
    assert len({row.labels["templates"] for row in found.rows}) == 2


@pytest.mark.parametrize(("asked", "best"), [(AUDI, "8"), (SEAT, "64")])
def test_parents_are_to_stay_where_their_classes_go(asked, best):
    runs = [run(1, {"forget_coarse": figure}, sessions=[asked], ffn_num=n) for n, figure in ((64, 1.0), (8, 2.0))]
    (found,) = compare(runs, ["ffn_num"])
    assert [row.labels["ffn_num"] for row in found.best("forget_coarse")] == [best]
    assert found.ranked("forget_coarse")[0] == ({"8": 2.0, "64": 1.0}[best], found.best("forget_coarse")[0])


def test_the_best_is_the_least_where_less_is_better():
    runs = [run(1, {"qu": 1.0, "ece": 1.0}), run(1, {"qu": 2.0, "ece": 2.0}, ffn_num=8), run(1, {}, ffn_num=4)]
    (found,) = compare(runs, ["ffn_num"])
    assert [[row.labels["ffn_num"] for row in found.best(name)] for name in ("qu", "ece", "bwt")] == [["8"], ["64"], []]
    assert all(map(less_is_better, ("forget_fine", "forget_fine_text", "coarse_forgetting", "past_fine", "acc_f")))
    assert not any(map(less_is_better, ("qu", "retain_fine", "zero_shot.toyfruits", "acc_r", "drop")))


def test_equals_are_best_together():
    (found,) = compare([run(1, {"qu": 2.0}), run(1, {"qu": 2.0}, ffn_num=8)], ["ffn_num"])
    assert len(found.best("qu")) == 2 and found.metric() == "qu"


def test_the_paired_test_by_its_formula():
    one, other = {1: 3.0, 2: 5.0, 3: 4.0, 4: 9.0, 9: 0.0}, {1: 1.0, 2: 4.0, 3: 4.5, 4: 5.0, 8: 0.0}
    differences = [2.0, 1.0, -0.5, 4.0]  # seeds 8 and 9 have no partner
    mean = sum(differences) / 4
    deviation = math.sqrt(sum((value - mean) ** 2 for value in differences) / 3)
    t = mean / (deviation / 2)
    assert significance(one, other) == pytest.approx(2 * stdtr(3, -abs(t)), rel=1e-12)


def test_no_test_over_two_seeds_nor_without_spread():
    assert significance({1: 1.0, 2: 2.0, 3: 3.0}, {1: 0.0, 2: 4.0}) is None
    assert significance({1: 1.0, 2: 2.0, 3: 3.0}, {1: 0.0, 2: 1.0, 3: 2.0}) is None


def test_one_stream_written_in_two_ways_is_one_experiment():
    streams = [{"learn": 1}, {"learn": 1}], [{"learn": 1, "repeat": 2}]
    runs = [run(seed, {"qu": float(seed)}, sessions=stream) for seed, stream in zip((1, 2), streams, strict=True)]
    (found,) = compare(runs, ["model_name"])
    assert [row.values("qu") for row in found.rows] == [{1: 1.0, 2: 2.0}]


@pytest.mark.parametrize(("level", "best"), [("fine", ["keeps"]), ("coarse", ["forgets"]), ("hybrid", [])])
def test_the_parents_of_models_are_to_stay(level, best):
    classes = {"fine": ["Audi A7"], "coarse": ["Seat"]} if level == "hybrid" else ["Seat"]
    asked = {"sessions": [{"forget": {"classes": classes, "level": level}}]}
    runs = [
        run(1, {"forget_coarse": value}, model_name=name, **asked)
        for name, value in {"keeps": 99.0, "forgets": 1.0}.items()
    ]
    (found,) = compare(runs, ["model_name"])
    assert [row.labels["model_name"] for row in found.best("forget_coarse")] == best
