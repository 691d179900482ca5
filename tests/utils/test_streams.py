"""`utils.streams`: what a pass holds, in which order, and on what that depends."""

import math

import pytest
import torch

from utils.processes import Part
from utils.streams import ChainedStream, DrawnStream, JoinedStream, LimitedStream, PooledStream, TensorStream


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


# so many examples a pass


def test_batches_stay_what_they_are_when_the_next_pass_is_drawn_into_the_same_memory():
    room = torch.empty(10)
    stream = DrawnStream(lambda generator: {"x": room.normal_(generator=generator)}, 10)
    first = list(stream.batches(5, seed=1))
    kept = [batch["x"].clone() for batch in first]
    list(stream.batches(5, seed=2))
    for batch, before in zip(first, kept, strict=True):
        assert torch.equal(batch["x"], before)


def test_of_a_longer_stream_a_pass_holds_so_many_different_rows():
    stream = LimitedStream(TensorStream({"x": torch.arange(50)}), 7)
    first = rows(stream, seed=1)
    assert len(stream) == 7 and [len(batch) for batch in first] == [3, 3, 1]
    assert len(set(flat(first))) == 7 and first == rows(stream, seed=1) != rows(stream, seed=2)


def test_a_shorter_stream_is_passed_again_and_no_batch_is_short_before_the_last():
    stream = LimitedStream(TensorStream({"x": torch.arange(5)}), 12)
    found = rows(stream, size=4)
    assert [len(batch) for batch in found] == [4, 4, 4]
    assert sorted(flat(found)[:5]) == sorted(flat(found)[5:10]) == list(range(5))
    assert flat(found)[:5] != flat(found)[5:10]  # each pass is shuffled anew


def test_processes_share_the_batches_of_a_limited_pass():
    stream = LimitedStream(TensorStream({"x": torch.arange(5)}), 12)
    parts = [[batch["x"].tolist() for batch in stream.batches(4, 0, Part(index, 2))] for index in range(2)]
    assert [one + other for one, other in zip(*parts, strict=True)] == rows(stream, size=4)


# joined fields


def joined(count=12, **options):
    """Items 100, 103, 106, … in a stream; their fields stand in another order."""
    items = 100 + 3 * torch.arange(count)
    stream = TensorStream({"x": torch.arange(count), "item": items}, **options)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return JoinedStream(stream, items[order], {"double": 2 * order, "rows": torch.stack([order, -order], 1)})


def test_joined_fields_follow_their_items_through_a_shuffled_pass():
    stream = joined()
    assert len(stream) == 12
    assert [batch["x"].tolist() for batch in stream.batches(5, 3)] == rows(stream.stream, size=5, seed=3)
    for batch in stream.batches(5, seed=3):
        assert torch.equal(batch["double"], 2 * batch["x"])
        assert torch.equal(batch["rows"], torch.stack([batch["x"], -batch["x"]], 1))
        assert set(batch) == {"x", "item", "double", "rows"}


def test_joined_streams_nest_and_the_outer_field_replaces():
    inner = joined()
    items = inner.stream.fields["item"]
    outer = JoinedStream(inner, items, {"double": items, "third": 10 * items})
    for batch in outer.batches(4, seed=1):
        assert torch.equal(batch["double"], batch["item"]) and torch.equal(batch["third"], 10 * batch["item"])
        assert torch.equal(batch["rows"][:, 0], batch["x"])


@pytest.mark.parametrize("unknown", [99, 101, 1000])
@pytest.mark.parametrize("known", [[], [100], [100, 103, 106]])
def test_an_item_without_fields_is_named(unknown, known):
    stream = TensorStream({"item": torch.tensor([*known, unknown])}, shuffle=False)
    items = torch.tensor(known, dtype=torch.long)
    with pytest.raises(ValueError, match=f"item {unknown}$"):
        list(JoinedStream(stream, items, {"x": items}).batches(10, 0))


def test_items_and_fields_must_belong_together():
    stream = TensorStream({"item": torch.arange(3)})
    with pytest.raises(ValueError, match=r"lengths \[3, 4\]"):
        JoinedStream(stream, torch.arange(3), {"x": torch.zeros(4)})
    with pytest.raises(ValueError, match="one row"):
        JoinedStream(stream, torch.tensor([0, 1, 1]), {"x": torch.zeros(3)})


def test_a_joined_stream_of_images(toymini):
    from data.images import ImageSet, ImageStream

    images = ImageSet(toymini, "train", range(8), {"fine": torch.arange(8)})
    stream = ImageStream(images, [5, 2, 7], lambda image: image.float(), shuffle=True)
    joint = JoinedStream(stream, stream.items, {"seen": torch.tensor([50, 20, 70])})
    found = [pair for b in joint.batches(2, 0) for pair in zip(b["fine"].tolist(), b["seen"].tolist(), strict=True)]
    assert sorted(found) == [(2, 20), (5, 50), (7, 70)]


# several passes as one


def test_chained_streams_follow_one_another_and_never_share_a_batch():
    few, many = TensorStream({"x": torch.arange(3)}), TensorStream({"x": torch.arange(10, 17)})
    chain = ChainedStream([few, many, few])
    assert len(chain) == 13
    found = rows(chain, size=4, seed=5)
    assert [len(batch) for batch in found] == [3, 4, 3, 3]
    assert sorted(found[0]) == sorted(found[3]) == [0, 1, 2] and sorted(flat(found[1:3])) == list(range(10, 17))


def test_a_stream_that_stands_twice_in_a_chain_is_shuffled_anew():
    stream = TensorStream({"x": torch.arange(30)})
    first, second = rows(ChainedStream([stream, stream]), size=30, seed=5)
    assert first != second and sorted(first) == sorted(second)
    assert rows(ChainedStream([stream, stream]), size=30, seed=5) == [first, second]


# several sets as one


def pooled(*counts: int) -> PooledStream:
    """Rows 0, 1, 2, … of the first stream, 100, 101, … of the second, and so on, with a field that follows them."""
    starts = [100 * i + torch.arange(count) for i, count in enumerate(counts)]
    return PooledStream([TensorStream({"x": start, "y": torch.stack([start, -start], 1)}) for start in starts])


@pytest.mark.parametrize("size", [1, 4, 7, 100])
@pytest.mark.parametrize("counts", [(5, 17), (12, 0, 3), (30,)])
def test_a_pool_holds_every_row_once_in_full_batches(size, counts):
    stream = pooled(*counts)
    found = rows(stream, size=size)
    everything = [100 * i + k for i, count in enumerate(counts) for k in range(count)]
    assert len(stream) == len(everything) and sorted(flat(found)) == everything
    assert all(len(batch) == size for batch in found[:-1]) and len(found) == math.ceil(len(everything) / size)
    for batch in stream.batches(size, 0):
        assert torch.equal(batch["y"], torch.stack([batch["x"], -batch["x"]], 1)) and set(batch) == {"x", "y"}


def test_a_pool_follows_its_seed():
    stream = pooled(20, 20)
    assert rows(stream, seed=1) == rows(stream, seed=1) != rows(stream, seed=2)


def test_pooled_rows_are_mixed_as_in_one_shuffled_set():
    """How many of 12 come from the small set is hypergeometric: mean 12·10/40, variance 12·¼·¾·28/39."""
    stream, drawn = pooled(10, 30), []
    for seed in range(600):
        first = next(stream.batches(12, seed))["x"]
        drawn.append((first < 100).sum().item())
    mean = sum(drawn) / 600
    variance = sum((count - mean) ** 2 for count in drawn) / 600
    assert mean == pytest.approx(3.0, abs=0.2) and variance == pytest.approx(12 * 3 / 16 * 28 / 39, rel=0.2)
    places = [rows(stream, size=40, seed=seed)[0] for seed in range(50)]
    assert len({tuple(sorted(some[:10])) for some in places}) == 1  # of one batch the first stream's come first
    assert len({tuple(some[:10]) for some in places}) == 50  # in an order of their own


def test_a_pool_keeps_no_more_than_a_batch_of_each_stream():
    asked = []

    class Watched(TensorStream):
        def batches(self, size, seed):
            for batch in super().batches(size, seed):
                asked.append(len(batch["x"]))
                yield batch

    passing = PooledStream([Watched({"x": torch.arange(50)}), Watched({"x": torch.arange(50)})]).batches(10, 0)
    for number in range(1, 11):
        next(passing)
        assert sum(asked) <= 10 * number + 2 * 10
