"""Numbers as JSON and people take them."""

import json
import math

import numpy as np
import pytest

from utils.plain import Twin, dumps, duration, finite, no_twins, number, plain


def test_what_counts_as_a_number():
    assert all(map(finite, [0, 1.5, -3, np.float64(2.0)]))
    assert not any(map(finite, [math.nan, math.inf, None, "1", np.float64("nan")]))


def test_none_is_nan():
    assert number(1.5) == 1.5 and math.isnan(number(None))


def test_plain_values():
    found = plain({"a": (1, np.float32(0.5)), "b": [math.nan, -math.inf], "c": {"d": np.int64(3)}, "e": None, "f": "x"})
    assert found == {"a": [1, 0.5], "b": [None, None], "c": {"d": 3}, "e": None, "f": "x"}
    assert type(found["a"][1]) is float and type(found["c"]["d"]) is int


def test_text_is_readable_json_without_nan():
    assert dumps({"é": 1}) == '{"é": 1}' and json.loads(dumps([0.1 + 0.2])) == [0.1 + 0.2]
    with pytest.raises(ValueError):
        dumps(math.nan)


def test_a_key_that_stands_twice_is_named():
    assert json.loads('{"a": {"b": 1}, "c": 2}', object_pairs_hook=no_twins) == {"a": {"b": 1}, "c": 2}
    with pytest.raises(Twin, match="key 'b' stands there twice") as caught:
        json.loads('{"a": {"b": 1, "b": 1}}', object_pairs_hook=no_twins)
    assert caught.value.key == "b"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (45.4, "45 s"), (99.4, "99 s"), (100, "2 min"), (600, "10 min"), (5940, "99 min"), (6000, "1.7 h")],
)
def test_times_for_people(seconds, text):
    assert duration(seconds) == text
