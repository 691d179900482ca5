"""Streams of images: decoding, caching, seeds, workers, and files that are no images."""

import numpy as np
import pytest
import torch
from PIL import Image

from data.decoding import Decoding
from data.images import ImageSet, ImageStream
from data.transforms import train_transform
from utils.errors import DataError

AUGMENT = train_transform(8, "bilinear", crop_scale=(0.2, 1.0))


def image_set(indexed, cache_gb: float = 1.0, split: str = "train") -> ImageSet:
    """Every second image of a split, labelled 100, 101, …."""
    positions = range(0, len(indexed.splits[split]), 2)
    labels = {"fine": torch.arange(len(positions)) + 100, "coarse": torch.arange(len(positions)) % 3}
    return ImageSet(indexed, split, positions, labels, Decoding(cache_gb))


def raw(image: torch.Tensor) -> torch.Tensor:
    return image


def one_pass(stream: ImageStream, seed: int = 0, size: int = 4) -> dict[str, torch.Tensor]:
    batches = list(stream.batches(size, seed))
    assert [len(batch["item"]) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def test_pixels_and_labels_are_those_of_the_items(pets):
    images = image_set(pets)
    stream = ImageStream(images, [5, 2, 9], raw, shuffle=False)
    assert len(stream) == 3
    assert stream.labels("fine").tolist() == [105, 102, 109]
    batch = one_pass(stream)
    assert batch["item"].tolist() == [5, 2, 9]
    assert (batch["fine"].tolist(), batch["coarse"].tolist()) == ([105, 102, 109], [2, 2, 0])
    for item, pixels in zip((5, 2, 9), batch["image"], strict=True):
        expected = np.asarray(Image.open(pets.file("train", 2 * item)))
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), expected)


def test_some_places_of_a_stream_are_a_stream(pets):
    stream = ImageStream(image_set(pets), [5, 2, 9, 7], raw, shuffle=True)
    some = stream.at([3, 0])
    assert one_pass(some, 1)["item"].tolist() == one_pass(some, 2)["item"].tolist() == [7, 5]
    shuffled = stream.at(range(4), shuffle=True)
    passes = [one_pass(shuffled, seed)["item"].tolist() for seed in range(5)]
    assert all(sorted(each) == [2, 5, 7, 9] for each in passes) and len(set(map(tuple, passes))) > 1


def test_grey_and_transparent_images_become_rgb(draw_set, tmp_path):
    indexed = draw_set(tmp_path, (("c", "f"),))
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(grey).save(indexed.file("train", 0))
    Image.fromarray(np.dstack([grey, grey + 1, grey + 2, grey * 0])).save(indexed.file("train", 2))
    images = image_set(indexed)
    assert np.array_equal(images.image(0).numpy(), np.stack([grey] * 3))
    assert np.array_equal(images.image(1).numpy(), np.stack([grey, grey + 1, grey + 2]))


def test_a_shuffled_pass_holds_every_image_once_and_depends_on_the_seed_alone(pets):
    stream = ImageStream(image_set(pets), range(13), AUGMENT, shuffle=True)
    first, again, other = one_pass(stream, 1), one_pass(stream, 1), one_pass(stream, 2)
    assert sorted(first["item"].tolist()) == list(range(13))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["item"].tolist() != other["item"].tolist()
    by_item = [value["image"][value["item"].argsort()] for value in (first, other)]
    assert not torch.equal(*by_item)  # the augmentation changes from pass to pass, too


def test_an_images_augmentation_does_not_depend_on_its_company(pets):
    images = image_set(pets)
    alone = one_pass(ImageStream(images, [7], AUGMENT, shuffle=False), 3)["image"][0]
    among = one_pass(ImageStream(images, range(13), AUGMENT, shuffle=True), 3)
    assert torch.equal(among["image"][among["item"].tolist().index(7)], alone)


def test_two_images_of_a_pass_are_augmented_differently(pets):
    twins = ImageSet(pets, "train", [3, 3], {"fine": torch.zeros(2, dtype=torch.long)})
    one, other = one_pass(ImageStream(twins, range(2), AUGMENT, shuffle=False))["image"]
    assert not torch.equal(one, other)


def test_global_randomness_stays_as_it_was(pets):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    one_pass(ImageStream(image_set(pets), range(13), AUGMENT, shuffle=True), 5)
    assert torch.equal(torch.rand(3), expected)


def test_workers_and_the_cache_change_no_bit(pets, monkeypatch):
    streams = [
        ImageStream(image_set(pets, cache_gb), range(13), AUGMENT, shuffle=True, workers=workers)
        for cache_gb, workers in ((1.0, 0), (0, 0), (0, 2), (1.0, 2))
    ]
    monkeypatch.setattr("data.images.WORTH", 0)
    reference, *others = [list(stream.batches(4, 9)) for stream in streams]
    for batches in others:
        assert len(batches) == len(reference) == 4
        for one, two in zip(batches, reference, strict=True):
            assert one.keys() == two.keys() == {"image", "item", "fine", "coarse"}
            assert all(torch.equal(one[name], two[name]) for name in one)


def test_images_are_decoded_once_while_they_fit(pets, monkeypatch):
    images = image_set(pets)
    decoded = []
    decode = images._decode
    monkeypatch.setattr(images, "_decode", lambda position: decoded.append(position) or decode(position))
    for seed in range(3):
        one_pass(ImageStream(images, range(13), AUGMENT, shuffle=True), seed)
    assert sorted(decoded) == list(range(0, 26, 2))
    assert images.used == 13 * 3 * 16 * 16


def test_large_passes_are_decoded_into_memory_before_workers_begin(draw_set, tmp_path, monkeypatch):
    indexed = draw_set(tmp_path)
    images = image_set(indexed)
    streams = {workers: ImageStream(images, range(13), AUGMENT, True, workers) for workers in (0, 2)}
    assert [streams[2]._workers(range(13)), len(images._cache)] == [0, 8]  # too small; eight were looked at
    monkeypatch.setattr("data.images.WORTH", 13 * 3 * 16 * 16)
    assert streams[0]._workers(range(13)) == 0 and streams[2]._workers(range(12)) == 0 and len(images._cache) == 8
    assert [streams[2]._workers(range(13)), len(images._cache)] == [2, 13]
    expected = one_pass(streams[0], 5)["image"]
    for record in indexed.splits["train"]:
        (tmp_path / record.path).unlink()
    assert torch.equal(one_pass(streams[2], 5)["image"], expected)


def test_decoding_ahead_keeps_to_the_limit_and_names_what_is_no_image(draw_set, tmp_path, caplog):
    indexed = draw_set(tmp_path)
    images = image_set(indexed, 2.5 * 3 * 16 * 16 / 2**30)
    with caplog.at_level("INFO", "lethe"):
        images.fill(range(13), 2)
        images.fill([0, 1], 2)
    assert sorted(images._cache) == [0, 1]
    there, advice = (record.getMessage() for record in caplog.records)
    assert there == "pets, train: 2 of 13 images in memory, 0 MB"
    assert advice.startswith("pets, train: 'cache_gb' leaves no room for the others; 'jpeg_side' decodes ")
    damage(indexed.file("train", 8), "text")
    with pytest.raises(DataError, match=r"train\.jsonl:9: .*not an image"):
        image_set(indexed).fill(range(13), 2)


def test_the_cache_keeps_its_limit(pets):
    two = 2 * 3 * 16 * 16
    images = image_set(pets, two / 2**30)
    for item in (4, 3, 2, 4):
        images.image(item)
    assert (images.used, sorted(images._cache)) == (two, [3, 4])
    assert images.size(range(8)) == 3 * 16 * 16
    assert ImageSet(pets, "train", [], {}, Decoding(0)).size([]) == 0


def test_a_stream_opens_no_image_but_its_own(pets):
    images = image_set(pets)
    one_pass(ImageStream(images, [9, 5], raw, shuffle=True), 0)
    assert sorted(images._cache) == [5, 9]


def test_dropped_images_make_room_and_are_decoded_anew(pets):
    one = 3 * 16 * 16
    images = image_set(pets, 2 * one / 2**30)
    before = images.image(4).clone()
    images.image(3)
    images.drop([4, 9])  # 9 was never decoded
    assert (images.used, sorted(images._cache)) == (one, [3])
    images.image(2)
    assert sorted(images._cache) == [2, 3]
    assert torch.equal(images.image(4), before)


def damage(file, kind: str) -> None:
    if kind == "missing":
        file.unlink()
    elif kind == "truncated":
        file.write_bytes(file.read_bytes()[:-300])
    elif kind == "text":
        file.write_text("no image at all")
    elif kind == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
        file.mkdir()


@pytest.mark.parametrize("kind", ["missing", "truncated", "text", "empty", "folder"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_named_with_its_line_in_one_line(draw_set, tmp_path, monkeypatch, kind, workers):
    monkeypatch.setattr("data.images.WORTH", 0)
    indexed = draw_set(tmp_path, train=6)
    damage(indexed.file("train", 20), kind)
    stream = ImageStream(image_set(indexed, 0), range(15), AUGMENT, shuffle=True, workers=workers)
    with pytest.raises(DataError) as caught:
        one_pass(stream)
    message = str(caught.value)
    expected = "does not exist" if kind == "missing" else "truncated or not an image"
    assert message.startswith(f"{tmp_path / 'index' / 'train.jsonl'}:21: ")
    assert str(indexed.file("train", 20)) in message
    assert expected in message and "\n" not in message and "Traceback" not in message


# what was computed in advance


def computed(images: ImageSet, items, value: float = 1.0) -> None:
    """Something of two numbers for each image."""
    images.keep(items, torch.tensor([[item, value] for item in items]), lambda: True)


def test_what_was_computed_comes_instead_of_pixels_in_the_same_order(pets):
    images = image_set(pets)
    before = one_pass(ImageStream(images, range(9), raw, shuffle=True, fixed=True), 3)
    computed(images, list(range(9)))
    after = one_pass(ImageStream(images, range(9), raw, shuffle=True, fixed=True), 3)
    assert all(torch.equal(before[name], after[name]) for name in ("item", "fine", "coarse"))
    assert after["image"].tolist() == [[item, 1.0] for item in after["item"].tolist()]


def test_it_comes_only_where_it_is_there_of_all_and_the_transform_is_fixed(pets):
    images = image_set(pets)
    computed(images, [0, 1, 2])
    for items, fixed, dimensions in (([2, 0], True, 2), ([2, 0], False, 4), ([2, 3], True, 4)):
        assert one_pass(ImageStream(images, items, raw, False, fixed=fixed))["image"].dim() == dimensions
    assert one_pass(ImageStream(images, [2, 0], raw, False, fixed=True).pixels([2, 1]))["image"].dim() == 4


def test_it_goes_when_it_is_dropped_or_void(pets):
    images, right = image_set(pets), [True]
    images.keep([4, 5, 6], torch.zeros(3, 7), lambda: right[0])
    assert images.used == 3 * 7 * 4
    images.drop([5])
    assert images.lacking([4, 5, 6]) == [5] and images.computed([6, 4]) is not None and images.used == 2 * 7 * 4
    right[0] = False
    assert images.lacking([4, 6]) == [4, 6] and images.computed([4]) is None and images.used == 0


def test_room_is_made_in_the_place_of_decoded_images(pets):
    images = image_set(pets)
    images.limit = 2000
    one_pass(ImageStream(images, range(9), raw, False))
    assert images.used == 2 * 16 * 16 * 3
    assert not images.make_room(2001) and images.used == 2 * 16 * 16 * 3  # nothing goes in vain
    assert images.make_room(400) and images.used == 2 * 16 * 16 * 3
    assert images.make_room(1000) and images.used == 0
    computed(images, [0])
    assert not images.make_room(2000 - 7) and images.make_room(2000 - 8)
