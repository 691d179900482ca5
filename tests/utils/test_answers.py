"""What images are called, counted by hand."""

import json
from dataclasses import replace

import numpy as np

from tests.utils.invented import stream
from utils.answers import Answer, answers, said
from utils.results import SessionResult


def test_countings_side_by_side():
    labels = np.array([0, 0, 1, 2, 2, 2])
    before, after = np.eye(3)[[0, 0, 1, 2, 2, 1]], np.eye(3)[[0, 1, 1, 0, 0, 1]]  # the highest column of each image
    first, second = (said(labels, logits, (2, 0)) for logits in (before, after))
    assert first == {(0, 0): 2, (2, 2): 2, (2, 1): 1} and second == {(0, 0): 1, (0, 1): 1, (2, 0): 2, (2, 1): 1}
    assert answers(first, second, "abc") == (
        Answer("a", "a", 2, 1),
        Answer("a", "b", 0, 1),
        Answer("c", "a", 0, 2),
        Answer("c", "b", 1, 1),
        Answer("c", "c", 2, 0),
    )


def test_they_come_back_from_json_and_older_runs_have_none():
    row = stream("f", forget=1, makes=1, models=2).sessions[0]
    row = replace(row, request=replace(row.request, answers=(Answer("a", "b", 1, 2),)))
    written = json.loads(json.dumps(row.to_json()))
    assert SessionResult.from_json(written).request.answers == row.request.answers
    del written["request"]["answers"]
    assert SessionResult.from_json(written).request.answers == ()
