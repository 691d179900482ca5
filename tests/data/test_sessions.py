"""Class orders and what a session grants."""

import pytest

from data.sessions import ClassOrder, Session

ORDER = ClassOrder(("a1", "b1", "a2", "c1", "b2"), ("a", "b", "c"), (0, 1, 0, 2, 1))


def test_parents_each_once_and_ascending():
    assert ORDER.coarse_of((4, 3, 1)) == (1, 2)
    assert ORDER.coarse_of((2, 0)) == (0,)
    assert ORDER.coarse_of(()) == ()


def test_two_levels_are_two_sets_of_names():
    assert ORDER.two_levels
    assert not ClassOrder(("x", "y"), ("x", "y"), (0, 1)).two_levels


def forget(classes, seen, alive, **options) -> Session:
    return Session(3, "forget", classes, seen, alive, ORDER, **options)


@pytest.mark.parametrize(
    ("session", "gone", "past"),
    [
        (Session(0, "learn", (0, 1), (0, 1), (0, 1), ORDER), (), ()),
        (forget((1, 2), (0, 1, 2, 3, 4), (0, 3)), (1, 2, 4), (4,)),
        (forget((1,), (0, 1), (0,)), (1,), ()),
        (Session(5, "learn", (2,), (0, 1, 2, 3), (0, 2), ORDER), (1, 3), (1, 3)),  # 2 is learned again
    ],
)
def test_what_is_gone_and_what_went_before(session, gone, past):
    assert (session.gone, session.past) == (gone, past)


def test_each_class_has_its_own_goal():
    assert forget((1, 3), (0, 1, 2, 3), (0, 2)).goals == {1: "fine", 3: "fine"}
    coarse = {"level": "coarse", "coarse_classes": (1,)}
    assert forget((1, 4), (0, 1, 4), (0,), **coarse).goals == {1: "coarse", 4: "coarse"}
    # b1 is named by itself and through its parent: the parent must go
    hybrid = {"level": "hybrid", "coarse_classes": (1, 2)}
    assert forget((0, 1, 3, 4), (0, 1, 2, 3, 4), (2,), **hybrid).goals == {
        0: "fine",
        1: "coarse",
        3: "coarse",
        4: "coarse",
    }
    assert Session(0, "learn", (0, 1), (0, 1), (0, 1), ORDER).goals == {}


def test_purging_is_nothing_unless_given():
    purged = []
    assert forget((1,), (0, 1), (0,)).purge() is None
    forget((1,), (0, 1), (0,), purge=lambda: purged.append(1)).purge()
    assert purged == [1]


def test_a_stream_that_is_not_granted_is_refused():
    made = []
    session = forget((1,), (0, 1), (0,), streams={"forget": lambda: made.append(1), "test": list})
    with pytest.raises(PermissionError, match=r"session 3 \(forget\) grants no stream 'train', only: forget, test"):
        session.stream("train")
    assert made == []
    assert session.stream("test") == []
