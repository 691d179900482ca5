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


@pytest.mark.parametrize(
    ("classes", "seen", "expected"),
    [((0, 1), (0, 1), (0, 1)), ((2, 3), (0, 1, 2, 3), (2,)), ((4,), (0, 1, 2, 3, 4), ()), ((2,), (2,), (0,))],
)
def test_a_parent_is_new_with_its_first_child(classes, seen, expected):
    assert Session(0, "learn", classes, seen, ORDER).new_parents() == expected


def test_a_stream_that_is_not_granted_is_refused():
    made = []
    session = Session(3, "forget", (1,), (0, 1), ORDER, streams={"forget": lambda: made.append(1), "test": list})
    with pytest.raises(PermissionError, match=r"session 3 \(forget\) grants no stream 'train', only: forget, test"):
        session.stream("train")
    assert made == []
    assert session.stream("test") == []
