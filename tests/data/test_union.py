"""Several sets as one."""

from dataclasses import replace

import pytest

from data.registry import find_set
from data.union import union
from utils.errors import DataError


@pytest.fixture
def parts(draw_set, tmp_path):
    """Two sets with roots of their own that share the class `beagle`."""
    first = draw_set(
        tmp_path / "a", (("dog", "beagle"), ("cat", "siamese")), train=3, test=1, aliases={"beagle": ["b"]}
    )
    second = draw_set(tmp_path / "b", (("bird", "owl"), ("dog", "beagle")), train=2, test=1)
    return [first, second]


def test_images_and_classes_of_all_parts_in_their_order(parts):
    beside = [{"names": {"x": "c"}}, {"names": {"y": "c"}, "descriptions": {"owl": "a bird of the night"}}]
    both = union([replace(part, **own) for part, own in zip(parts, beside, strict=True)])
    assert both.name == "pets+pets" and both.names == {"x": "c", "y": "c"}
    assert [record.fine for record in both.splits["test"]] == ["beagle", "siamese", "owl", "beagle"]
    assert len(both.splits["train"]) == 2 * 3 + 2 * 2
    assert both.aliases == {"beagle": ["b"]} and both.descriptions == {"owl": "a bird of the night"}
    assert [both.file("train", i) for i in (0, 6)] == [parts[0].file("train", 0), parts[1].file("train", 0)]
    assert all(both.file(split, i).is_file() for split in both.splits for i in range(len(both.splits[split])))
    assert "owl" in both.place("test", 2)


def test_a_plus_joins_sets_by_name(tmp_path):
    both = find_set("toymini+toymini", tmp_path, cache=tmp_path / "cache")
    assert len(both.splits["test"]) == 2 * 12 * 4


def test_an_unknown_part_is_named(tmp_path):
    with pytest.raises(DataError, match="no set 'toymino'"):
        find_set("toymini+toymino", tmp_path, cache=tmp_path / "cache")
