"""`utils.streams`: what a pass holds, in which order, and on what that depends."""

import pytest
import torch

from utils.streams import DrawnStream, TensorStream


def rows(stream, size=3, seed=0):
    return [batch["x"].tolist() for batch in stream.batches(size, seed)]


def flat(batches):
    return [value for batch in batches for value in batch]


def test_unshuffled_pass_is_in_order_with_a_smaller_last_batch():
    stream = TensorStream({"x": torch.arange(7)}, shuffle=False)
    assert len(stream) == 7
    assert rows(stream) == rows(stream, seed=9) == [[0, 1, 2], [3, 4, 5], [6]]
    assert rows(stream, size=100) == [list(range(7))]


def test_shuffled_pass_holds_every_row_once_and_follows_its_seed():
    stream = TensorStream({"x": torch.arange(50)})
    assert sorted(flat(rows(stream, size=8))) == list(range(50))
    assert rows(stream, seed=1) == rows(stream, seed=1) != rows(stream, seed=2)
    assert flat(rows(stream, size=3)) == flat(rows(stream, size=8)) != list(range(50))


def test_fields_stay_together():
    stream = TensorStream({"x": torch.arange(20), "y": torch.arange(20) * 10, "z": torch.randn(20, 2, 3)})
    for batch in stream.batches(6, seed=4):
        assert torch.equal(batch["y"], batch["x"] * 10) and torch.equal(batch["z"], stream.fields["z"][batch["x"]])


@pytest.mark.parametrize("fields", [{}, {"x": torch.zeros(3), "y": torch.zeros(4)}])
def test_unequal_fields_are_refused(fields):
    with pytest.raises(ValueError, match="same length"):
        TensorStream(fields)


def test_streams_leave_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    rows(TensorStream({"x": torch.arange(9)}))
    rows(DrawnStream(lambda generator: {"x": torch.randn(9, generator=generator)}, 9))
    assert torch.equal(torch.get_rng_state(), before)


def test_drawn_stream_draws_anew_for_every_seed():
    stream = DrawnStream(lambda generator: {"x": torch.randn(10, generator=generator)}, 10)
    assert len(stream) == 10
    assert rows(stream, seed=1) == rows(stream, seed=1)
    assert not set(flat(rows(stream, seed=1))) & set(flat(rows(stream, seed=2)))
    assert [len(batch) for batch in rows(stream, size=4)] == [4, 4, 2]


def test_drawn_rows_are_shuffled():
    stream = DrawnStream(lambda generator: {"x": torch.arange(40)}, 40)
    assert flat(rows(stream)) != list(range(40)) and sorted(flat(rows(stream))) == list(range(40))
    assert rows(stream, seed=1) != rows(stream, seed=2)
