"""The growth of costs at sizes for tests, and the fit of its exponents."""

import pytest
import torch

from benchmarks.growth import COLUMNS, SIZES, Point, Series, along_stream, exponent, main, size_of


def test_the_exponent_of_a_power_law_is_found():
    assert exponent([1, 10, 100], [3, 300, 30_000]) == pytest.approx(2)
    assert exponent([2, 4, 8], [7, 7, 7]) == pytest.approx(0, abs=1e-12)
    # by hand: logarithms (0, 1, 2) against (0, 0, 1) to base 10; slope Σ(x − 1)(y − 1/3) / Σ(x − 1)² = 1/2
    assert exponent([1, 10, 100], [1, 1, 10]) == pytest.approx(0.5)


def test_a_series_shows_every_size_and_what_nothing_is_stored_of():
    points = [Point(10, 0.001, 2**20), Point(1000, 0.1, 2**20)]
    assert Series("cost", "classes", points).cells() == [
        "cost",
        "classes",
        "10 … 1,000",
        "1 · 100",
        "1.00",
        "1 · 1",
        "0.00",
        "–",
        "–",
    ]


def test_what_a_checkpoint_holds_grows_by_the_same_with_every_session():
    sizes = SIZES["small"]
    found = along_stream(sizes, torch.device("cpu"), lambda call: call() or 1.0)
    assert [value for value, _ in found.values()] == [1.0] * len(sizes.sessions)
    # a class of ten features: mean, nine directions, four numbers in double precision, and its row
    width = sizes.width
    per_session = sizes.per_session * (4 * (width + min(9, width) * width + width) + 4 * 8)
    first, second = (found[number][1] for number in sizes.sessions)
    assert second - first == (sizes.sessions[1] - sizes.sessions[0]) * per_session


def test_sizes_in_bytes():
    assert size_of([torch.zeros(3, 2), torch.zeros(2, dtype=torch.float64)]) == 40


def test_the_command_prints_one_table(capsys):
    main(["--small"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 5 and {line.count("|") for line in lines} == {len(COLUMNS) + 1}
