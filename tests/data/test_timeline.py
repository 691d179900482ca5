"""Who knows what when: streams of requests worked out by hand, and requests that cannot be served."""

import pytest

from data.timeline import Catalogue, timeline
from utils.errors import DataError
from utils.requests import ForgetRequest, HybridClasses, LearnRequest

POOL = ("a1", "b1", "a2", "c1", "b2", "a3")  # in class order; the letter is the parent
CATALOGUE = Catalogue("letters", POOL, {name: name[0].upper() for name in POOL}, {"a1": ["one"], "b2": ["two", "x"]})


def learn(classes) -> LearnRequest:
    return LearnRequest(classes=classes)


def forget(classes, level: str = "fine") -> ForgetRequest:
    return ForgetRequest(classes=classes, level=level)


def follow(*requests, known="auto"):
    return timeline(requests, CATALOGUE, known)


def words(names) -> str:
    return " ".join(names)


def sessions(stream) -> list[tuple[str, str]]:
    """Of every session what it is about and what is alive after it."""
    return [(words(step.classes), words(step.alive)) for step in stream.steps]


def refusal(*requests, known="auto") -> str:
    with pytest.raises(DataError) as caught:
        follow(*requests, known=known)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_counts_take_the_class_order_and_skip_what_is_named():
    stream = follow(learn(1), learn(["a2"]), learn(2), forget(1), learn(1))
    assert stream.known == ()
    assert words(stream.names) == "a1 a2 b1 c1 b2"
    assert sessions(stream) == [
        ("a1", "a1"),
        ("a2", "a1 a2"),
        ("b1 c1", "a1 a2 b1 c1"),
        ("a1", "a2 b1 c1"),
        ("b2", "a2 b1 c1 b2"),
    ]
    assert [words(step.seen) for step in stream.steps] == ["a1", "a1 a2", *["a1 a2 b1 c1"] * 2, "a1 a2 b1 c1 b2"]


def test_a_stream_that_starts_by_forgetting_knows_the_rest():
    stream = follow(forget(["b2"]), learn(2), forget(2))
    # the two that are taught are the first of the pool that no earlier request names
    assert words(stream.known) == "a2 c1 b2 a3"
    assert words(stream.names) == "a2 c1 b2 a3 a1 b1"
    assert sessions(stream) == [("b2", "a2 c1 a3"), ("a1 b1", "a2 c1 a3 a1 b1"), ("a2 c1", "a3 a1 b1")]


@pytest.mark.parametrize(
    ("requests", "known", "expected"),
    [
        ([learn(2)], "auto", ""),
        ([learn(2)], "none", ""),
        ([learn(2)], "rest", "a2 c1 b2 a3"),
        ([learn(["a2", "a1"])], "rest", "b1 c1 b2 a3"),
        ([learn(6)], "rest", ""),
        ([learn(2)], ("a3", "c1"), "c1 a3"),  # class order, not the order of the list
        ([learn(2)], ("two",), "b2"),
        ([forget(1)], "auto", "a1 b1 a2 c1 b2 a3"),
        ([forget(["a1"]), learn(["a1"])], "auto", "a1 b1 a2 c1 b2 a3"),  # learned again
        ([forget(["A"], "coarse"), learn(["a2"])], "auto", "a1 b1 a2 c1 b2 a3"),
        ([forget(["b1"]), learn(["a1"]), learn(1)], "auto", "b1 c1 b2 a3"),  # the count takes a2
        ([forget(["A"], "coarse"), learn(2)], "auto", "a1 a2 b2 a3"),  # b1 and c1 are new
        ([forget(["B"], "coarse"), learn(["b1"]), learn(1), forget(["a1"])], "rest", "b1 a2 c1 b2 a3"),
    ],
)
def test_what_is_known_from_the_start(requests, known, expected):
    assert words(follow(*requests, known=known).known) == expected


def test_named_known_classes_are_not_counted_out_again():
    assert sessions(follow(learn(2), known=("a1",))) == [("b1 a2", "a1 b1 a2")]
    assert "only 5 of the 6" in refusal(learn(6), known=("a1",))


def test_a_class_that_comes_back_keeps_its_label():
    stream = follow(learn(3), forget(["b1"]), learn(["c1", "b1"]), forget(["b1"]))
    assert words(stream.names) == "a1 b1 a2 c1"
    assert sessions(stream) == [
        ("a1 b1 a2", "a1 b1 a2"),
        ("b1", "a1 a2"),
        ("b1 c1", "a1 b1 a2 c1"),
        ("b1", "a1 a2 c1"),
    ]


def test_a_count_may_teach_what_is_to_be_learned_again():
    assert sessions(follow(learn(2), forget(["b1"]), learn(["b1"])))[0] == ("a1 b1", "a1 b1")
    assert sessions(follow(learn(2), forget(["A"], "coarse"), learn(["a1", "a2"]))) == [
        ("a1 b1", "a1 b1"),
        ("a1", "b1"),
        ("a1 a2", "a1 b1 a2"),
    ]
    assert sessions(follow(learn(2), learn(["b1"]), forget(["b1"])))[0] == ("a1 a2", "a1 a2")


def test_a_count_to_learn_never_brings_a_class_back():
    stream = follow(learn(2), forget(2), learn(2))
    assert sessions(stream) == [("a1 b1", "a1 b1"), ("a1 b1", ""), ("a2 c1", "a2 c1")]


def test_a_parent_goes_with_its_children_that_are_alive():
    stream = follow(learn(5), forget(["a1"]), forget(["A"], "coarse"), learn(1), forget(1, "coarse"))
    assert [(words(step.classes), words(step.coarse)) for step in stream.steps[1:]] == [
        ("a1", ""),
        ("a2", "A"),  # a3 is not known yet
        ("a3", ""),
        ("b1 b2", "B"),  # the first parent alive in label order
    ]


def test_a_parent_whose_only_new_child_comes_later_can_be_forgotten_again():
    stream = follow(learn(1), forget(["A"], "coarse"), learn(2), forget(["A"], "coarse"))
    assert sessions(stream) == [("a1", "a1"), ("a1", ""), ("b1 a2", "b1 a2"), ("a2", "b1")]


def test_hybrid_requests_name_each_concept_at_its_level():
    wish = HybridClasses(fine=("c1", "a1"), coarse=("B", "A"))
    (_, step) = follow(learn(6), forget(wish, "hybrid")).steps
    assert (words(step.classes), words(step.coarse), step.alive) == ("a1 b1 a2 c1 b2 a3", "A B", ())
    (_, step) = follow(learn(6), forget(HybridClasses(fine=2), "hybrid")).steps
    assert (words(step.classes), step.coarse) == ("a1 b1", ())
    (_, step) = follow(learn(6), forget(HybridClasses(coarse=2, fine=("c1",)), "hybrid")).steps
    assert (words(step.classes), words(step.coarse)) == ("a1 b1 a2 c1 b2 a3", "A B")


def test_aliases_name_their_class():
    stream = follow(learn(["one", "two"]), forget(["x"]))
    assert sessions(stream) == [("a1 b2", "a1 b2"), ("b2", "a1")]
    shared = Catalogue("letters", POOL, CATALOGUE.parents, {"a1": ["it", "b1"], "a2": ["it"]})
    with pytest.raises(DataError, match="no such class"):
        timeline([learn(["it"])], shared)
    assert timeline([learn(["b1"])], shared).names == ("b1",)  # a class's own name comes first


@pytest.mark.parametrize(
    ("requests", "known", "message"),
    [
        ([learn(["a9"])], "auto", "session 0 asks to learn 'a9', but 'letters' has no such class; known: a1,"),
        (
            [learn(["wto"])],
            "auto",
            "session 0 asks to learn 'wto', but 'letters' has no such class; did you mean 'two'",
        ),
        ([learn(1), forget(["q"])], "auto", "session 1 asks to forget 'q', but 'letters' has no such class; known: "),
        ([learn(1), forget(["AA"], "coarse")], "auto", "'AA', but 'letters' has no such coarse class"),
        ([learn(1), forget(HybridClasses(coarse=("a1",)), "hybrid")], "auto", "no such coarse class"),
        ([learn(1)], ("zz",), "key 'known' names 'zz', but 'letters' has no such class"),
        ([learn(["a1"]), learn(["a1"])], "auto", "'a1', which is known already, since session 0; drop it there, or"),
        ([learn(["a1"])], ("a1",), "session 0 asks to learn 'a1', which is known already, from the start (key 'known'"),
        ([learn(4), learn(3)], "auto", "session 1 asks for 3 new classes, but only 2 of the 6 of 'letters' are left"),
        ([forget(["a1"])], "none", "session 0 asks to forget 'a1', which is not known by then; learn it in an earlier"),
        ([learn(1), forget(["c1"]), learn(["c1"])], "auto", "session 1 asks to forget 'c1', which is not known by"),
        ([learn(1), forget(["B"], "coarse")], "auto", "session 1 asks to forget 'B', which is not known by then"),
        ([learn(3), forget(2), forget(["b1"])], "auto", "session 2 asks to forget 'b1', which session 1 has made the"),
        ([learn(1), forget(1), forget(["A"], "coarse")], "auto", "forget 'A', which session 1 has made the model"),
        ([learn(2), forget(3)], "auto", "session 1 asks to forget 3 fine classes, but only 2 are known by then"),
        ([learn(3), forget(3, "coarse")], "auto", "session 1 asks to forget 3 coarse classes, but only 2 are known"),
        ([learn(2), forget(2), forget(1)], "auto", "session 2 asks to forget 1 fine classes, but only 0 are known"),
    ],
)
def test_what_is_refused(requests, known, message):
    assert message in refusal(*requests, known=known)


def test_no_stream_at_all():
    stream = timeline([], CATALOGUE, ("a1",))
    assert (stream.known, stream.names, stream.steps) == (("a1",), ("a1",), ())


# from the end of the class order; classes of which nothing is shown


def from_end(count, **options) -> ForgetRequest:
    return ForgetRequest(classes=count, take="last", **options)


def test_a_count_from_the_end_takes_the_last_classes_alive():
    stream = follow(from_end(2), from_end(1), from_end(1, level="coarse"))
    assert sessions(stream) == [("b2 a3", "a1 b1 a2 c1"), ("c1", "a1 b1 a2"), ("b1", "a1 a2")]
    assert words(stream.steps[2].coarse) == "B"  # of the parents alive, a and b, the last


def test_the_first_classes_alive_may_be_missing():
    stream = follow(from_end(1, retain="all", missing=2), forget(["a1"]), forget(["b1"]))
    assert [words(step.missing) for step in stream.steps] == ["a1 b1", "", ""]
    later = follow(forget(["a1"]), from_end(1, retain="all", missing=2))
    assert words(later.steps[1].missing) == "b1 a2"


def test_some_class_must_be_shown():
    told = refusal(from_end(2, retain="all", missing=4))
    assert "session 0 leaves 4 classes" in told and "'missing'" in told
