"""What the tests of learners that build on session by session share: a state that goes from one to another."""

from collections.abc import Callable, Sequence

import torch

from data.sessions import Session
from models.learner import Learner


def assert_state_travels(
    build: Callable[[], Learner], train: Callable, taught: Sequence[Session], new: Session
) -> Learner:
    """A fresh learner that is given another's state answers as it does and learns the next session the same.

    Returns:
        The fresh one, after that session.
    """
    learner, other = build(), build()
    other.load_state_dict(other.state_dict())  # before the first session
    for session in taught:
        train(learner, session)
    other.load_state_dict({name: value.clone() for name, value in learner.state_dict().items()})
    images = next(new.stream("test").batches(1000, 0))["image"]
    with torch.no_grad():
        assert torch.equal(*(each.predict(images).logits["fine"] for each in (learner, other)))
    for each in (learner, other):
        train(each, new)
    one, two = learner.state_dict(), other.state_dict()
    assert set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)
    return other
