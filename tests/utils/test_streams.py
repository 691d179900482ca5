"""`utils.streams`: what a pass holds, in which order, and on what that depends."""

import pytest
import torch

from utils.streams import DrawnStream, JoinedStream, TensorStream


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
