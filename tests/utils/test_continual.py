"""`utils.continual`: the figures of a stream of forget requests, by hand."""

import math

import pytest

from utils.continual import task_figures
from utils.results import ClassChange, RequestResult


def request(*classes):
    """A request of (name, role, images, before, after, missing) rows."""
    changes = tuple(ClassChange(name, "p", role, *rest) for name, role, *rest in classes)
    return RequestResult("fine", {}, {}, changes)


FIRST = request(
    ("a", "adjacent", 10, 90.0, 80.0),
    ("b", "remote", 30, 70.0, 60.0),
    ("m", "remote", 20, 100.0, 50.0, True),
    ("y", "adjacent", 10, 60.0, 30.0),
    ("z", "forget", 10, 80.0, 10.0),
)
SECOND = request(
    ("a", "adjacent", 10, 80.0, 70.0),
    ("b", "remote", 30, 60.0, 50.0),
    ("m", "remote", 20, 50.0, 40.0, True),
    ("y", "forget", 10, 30.0, 5.0),
    ("z", "past", 10, 10.0, 15.0),
)


def test_a_first_request():
    found = task_figures([FIRST])
    retained = (10 * 80 + 30 * 60 + 10 * 30) / 50
    assert found["acc_r"] == pytest.approx(retained) and found["acc_m"] == 50 and found["acc_f"] == 10
    assert math.isnan(found["acc_o"])
    assert found["drop"] == 70 and found["h"] == pytest.approx(2 * retained * 70 / (retained + 70))


def test_a_later_request_is_measured_against_the_model_before_the_first():
    found = task_figures([FIRST, SECOND])
    assert found["acc_f"] == 5 and found["acc_o"] == 15 and found["acc_m"] == 40
    assert found["acc_r"] == pytest.approx((10 * 70 + 30 * 50) / 40)
    assert found["drop"] == 60 - 5  # 60 before the first request, 30 before this one
    assert found["h"] == pytest.approx(2 * 55 * 55 / 110)


def test_nothing_forgotten_has_no_harmonic_mean_but_zero():
    kept = request(("a", "remote", 10, 90.0, 90.0), ("z", "forget", 10, 80.0, 85.0))
    assert task_figures([kept])["drop"] == -5 and task_figures([kept])["h"] == 0


@pytest.mark.parametrize("roles", [("forget",), ("remote",)])
def test_what_is_not_there_is_missing(roles):
    found = task_figures([request(*(("a", role, 10, 90.0, 45.0) for role in roles))])
    assert math.isnan(found["h"]) and math.isnan(found["acc_r" if roles == ("forget",) else "acc_f"])
