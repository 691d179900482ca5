"""Images held out for choosing settings: never those of the test set."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from data.index import IndexedSet, Record
from data.validation import held_out


def invented(**counts: int) -> IndexedSet:
    """So many training images of each class, interleaved, and as many test images."""
    train = [
        Record(f"{name}{i}.png", "c", name) for i in range(max(counts.values())) for name in counts if i < counts[name]
    ]
    test = [replace(record, path=f"test/{record.path}") for record in train]
    return IndexedSet(
        "drawn", Path("sets/drawn"), Path("root"), {"train": train, "test": test}, {"a": ["b"]}, {"x": "y"}
    )


def counted(records: list[Record]) -> dict[str, int]:
    return dict(Counter(record.fine for record in records))


@pytest.mark.parametrize(
    "share, taken",
    [
        (0.25, {"many": 10, "some": 2, "few": 1, "two": 1}),  # 10, 2, 0.75 and 0.5
        (0.01, {"many": 1, "some": 1, "few": 1, "two": 1}),  # at least one
        (0.99, {"many": 39, "some": 7, "few": 2, "two": 1}),  # and never all
    ],
)
def test_a_share_of_every_class(share, taken):
    whole = invented(many=40, some=8, few=3, two=2, single=1)
    found = held_out(whole, share)
    assert counted(found.splits["test"]) == taken
    left = {"many": 40, "some": 8, "few": 3, "two": 2, "single": 1}
    assert counted(found.splits["train"]) == {name: left[name] - taken.get(name, 0) for name in left}


def test_the_two_parts_are_the_training_images_in_their_order():
    whole = invented(a=20, b=12)
    found = held_out(whole, 0.3)
    train, test = found.splits["train"], found.splits["test"]
    place = {record: position for position, record in enumerate(whole.splits["train"])}
    assert set(train) | set(test) == set(place) and not set(train) & set(test)
    for part in (train, test):
        positions = [place[record] for record in part]
        assert positions == sorted(positions)
    assert (found.name, found.root) == ("drawn", Path("root"))
    assert (found.aliases, found.names) == ({"a": ["b"]}, {"x": "y"})
    assert len(whole.splits["test"]) == 32  # the set itself stays as it was


def test_the_choice_follows_from_the_paths_alone():
    whole = invented(a=30, b=9)
    chosen = set(held_out(whole, 0.2).splits["test"])
    turned = replace(whole, splits={**whole.splits, "train": whole.splits["train"][::-1]})
    assert set(held_out(turned, 0.2).splits["test"]) == chosen
    one_class = replace(whole, splits={**whole.splits, "train": [r for r in whole.splits["train"] if r.fine == "a"]})
    assert set(held_out(one_class, 0.2).splits["test"]) == {record for record in chosen if record.fine == "a"}
    assert {record.path for record in chosen if record.fine == "a"} != {f"a{i}.png" for i in range(6)}  # not the first


def test_more_is_held_out_on_top_of_less():
    whole = invented(a=40)
    shares = [set(held_out(whole, share).splits["test"]) for share in (0.1, 0.2, 0.5)]
    assert shares[0] < shares[1] < shares[2]


def test_a_message_names_the_index_that_holds_the_image():
    found = held_out(invented(a=4), 0.5)
    path = found.splits["test"][1].path
    assert found.place("test", 1) == f"sets/drawn/train.jsonl, {path}"
    assert found.file("test", 1) == Path("root") / path
