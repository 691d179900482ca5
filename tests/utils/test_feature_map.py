"""The map of features: the plane by another way to the same directions, the choice of images by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.utils.invented import stream
from utils.feature_map import MOST, Plane, Spot, shown, spots
from utils.results import SessionResult


def test_the_plane_is_that_of_the_covariances_largest_eigenvectors():
    features = np.random.default_rng(1).normal(size=(40, 6)) * [9, 1, 5, 1, 1, 2] + 3
    unit = np.array([row / np.sqrt((row**2).sum()) for row in features])
    values, vectors = np.linalg.eigh(np.cov(unit.T))  # ascending
    expected = (unit - unit.mean(0)) @ vectors[:, [-1, -2]]
    found = Plane(features.astype(np.float32)).of(features)
    signs = np.sign((found * expected).sum(0))
    assert found == pytest.approx(expected * signs, abs=1e-5)
    assert found.var(0, ddof=1) == pytest.approx(values[[-1, -2]], abs=1e-6)


def test_each_direction_points_to_where_its_largest_weight_does():
    features = np.random.default_rng(2).normal(size=(30, 5))
    axes = Plane(features).axes
    assert all(axis[np.abs(axis).argmax()] > 0 for axis in axes)


def test_lengths_do_not_count_and_others_are_seen_in_the_same_plane():
    # three directions in space: by hand the middle is (1, 1, 1) / 3, and every difference lies across it
    plane = Plane(np.eye(3))
    assert plane.of(5 * np.eye(3)) == pytest.approx(plane.of(np.eye(3)))
    assert plane.of(np.eye(3)).sum(0) == pytest.approx([0, 0])
    distances = np.linalg.norm(plane.of(np.eye(3)) - plane.of(np.eye(3))[[1, 2, 0]], axis=1)
    assert distances == pytest.approx([np.sqrt(2)] * 3)  # all of it lies in the plane


@pytest.mark.parametrize("features", [np.ones((1, 4)), np.ones((5, 1)), np.ones((5, 4)), np.zeros((3, 4))])
def test_where_nothing_differs_all_lie_in_the_middle(features):
    assert Plane(features).of(features) == pytest.approx(np.zeros((len(features), 2)))


def test_all_images_of_a_role_are_shown_or_so_many_spread_over_its_classes():
    labels = np.array([2, 0, 1, 2, 0, 3, 3])
    assert shown(labels, [(2,), (0, 1), (7,)]).tolist() == [0, 3, 1, 4, 2]  # by role, then by class
    many = np.repeat([5, 6, 7, 8], 100)
    chosen = many[shown(many, [(5,), (6, 7, 8)])]
    assert len(chosen) == 2 * MOST and (chosen[:MOST] == 5).all()
    assert sorted(np.unique(chosen[MOST:], return_counts=True)[1].tolist()) == [33, 33, 34]
    assert len(set(shown(many, [(6, 7, 8)]).tolist())) == MOST


def test_spots_are_rounded_and_come_back_from_json_and_older_runs_have_none():
    found = spots(["a", "b"], np.array([[0.123456, -1], [0, 0]]), np.array([[1, 2], [3.00004, 4]]))
    assert found == (Spot("a", (0.1235, -1.0), (1.0, 2.0)), Spot("b", (0.0, 0.0), (3.0, 4.0)))
    row = stream("f", forget=1, makes=1, models=2).sessions[0]
    row = replace(row, request=replace(row.request, spots=found))
    written = json.loads(json.dumps(row.to_json()))
    assert SessionResult.from_json(written).request.spots == found
    del written["request"]["spots"]
    assert SessionResult.from_json(written).request.spots == ()
