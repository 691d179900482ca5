"""The images that forget requests grant: drawn by seed, retained ones, those of a folder from elsewhere; purging."""

import pytest
import torch
from PIL import Image

from data.exemplars import retained_count
from data.manager import DataManager
from utils.errors import DataError
from utils.requests import Few, ForgetRequest, LearnRequest, Ratio


def raw(image: torch.Tensor) -> torch.Tensor:
    return image


def forget(classes, level: str = "fine", **options) -> ForgetRequest:
    return ForgetRequest(classes=classes, level=level, **options)


def manager(indexed, requests, **options) -> DataManager:
    return DataManager(indexed, requests, **{"train": raw, "test": raw, "shuffle": False, **options})


def items(stream) -> list[int]:
    """Positions in the index of the images of one pass."""
    return [stream.images.positions[item] for batch in stream.batches(4, 0) for item in batch["item"].tolist()]


def exemplars(pets, *requests, **options) -> list[list[int]]:
    """The training images that each of some forget requests is shown."""
    return [items(session.stream("plain")) for session in manager(pets, requests, **options).sessions()]


def test_some_exemplars_of_each_class_are_drawn_by_seed_and_session(pets):
    few = forget(["poodle", "husky"], exemplars=2)
    ((one,), (again,), (other,)) = (exemplars(pets, few, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    assert [sum(start <= item < start + 5 for item in one) for start in (10, 20)] == [2, 2]
    # a class's exemplars do not depend on the company it is forgotten in
    assert set(exemplars(pets, forget(["husky"], exemplars=2), seed=1)[0]) < set(one)
    assert exemplars(pets, forget(1), few, seed=1)[1] != one
    assert exemplars(pets, forget(["husky"], exemplars=99)) == [[20, 21, 22, 23, 24]]


@pytest.mark.parametrize(
    ("retain", "each"),
    [
        ("all", 5),
        (Few(few=2), 2),
        (Few(few=9), 5),
        (Ratio(ratio=0.3), 2),
        (Ratio(ratio=0.4), 2),
        (Ratio(ratio=0.01), 1),
        (Ratio(ratio=1.0), 5),
    ],
)
def test_retained_images_are_of_the_classes_alive(pets, retain, each):
    requests = [forget(["poodle"]), forget(["dog"], "coarse", retain=retain)]
    first, second = manager(pets, requests, train=torch.Tensor.float).sessions()
    with pytest.raises(PermissionError, match="no stream 'retain', only: forget, plain, test"):
        first.stream("retain")
    (batch,) = second.stream("retain").batches(100, 0)
    assert sorted(batch["fine"].tolist()) == [1] * each + [3] * each
    assert batch["image"].dtype == torch.uint8  # not what `train` makes of it
    assert set(second.streams) == {"forget", "plain", "test", "retain", "retain_plain"}
    (plain,) = second.stream("retain_plain").batches(100, 7)
    assert plain["item"].tolist() == sorted(batch["item"].tolist())
    assert items(second.stream("retain")) == items(second.stream("retain"))
    others = [next(second.stream("retain").batches(100, seed))["item"].tolist() for seed in (0, 1)]
    assert others[0] != others[1] and sorted(others[0]) == sorted(others[1])


def test_a_share_of_seven_hundredths_of_a_hundred_is_seven():
    assert retained_count(forget(1, retain=Ratio(ratio=0.07)))(100) == 7  # as floats the product is above 7
    assert retained_count(forget(1, retain=Ratio(ratio=0.071)))(100) == 8
    assert retained_count(forget(1))(100) == 0


def photos(folder, **classes: int):
    """Grey images in one folder a class; `_` in a name is a space."""
    for name, count in classes.items():
        place = folder / name.replace("_", " ")
        place.mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (number,) * 3).save(place / f"{number}.jpg", quality=100)
    return folder


def test_exemplars_from_a_folder(draw_set, tmp_path):
    indexed = draw_set(tmp_path, aliases={"husky": ["sled dog"]})
    folder = photos(tmp_path / "elsewhere", sled_dog=2, poodle=3, siamese=4, chair=1)
    (folder / "poodle" / "old").mkdir()
    (folder / "poodle" / "2.jpg").rename(folder / "poodle" / "old" / "2.jpg")
    for at in range(25):
        indexed.file("train", at).unlink()  # the set's own training images are not asked for
    request = forget(["husky", "poodle"], exemplars=str(folder))
    (session,) = manager(indexed, [request]).sessions()
    (batch,) = session.stream("plain").batches(100, 0)
    assert (batch["fine"].tolist(), batch["coarse"].tolist()) == ([2, 2, 2, 4, 4], [0] * 5)
    assert [int(image.float().mean().round()) for image in batch["image"]] == [0, 1, 2, 0, 1]
    assert sorted(next(session.stream("forget").batches(9, 0))["fine"].tolist()) == [2, 2, 2, 4, 4]


def test_a_relative_folder_is_seen_from_where_one_stands(pets, tmp_path, monkeypatch):
    photos(tmp_path / "shots", husky=1)
    monkeypatch.chdir(tmp_path)
    (session,) = manager(pets, [forget(["husky"], exemplars="shots")]).sessions()
    monkeypatch.chdir("/")
    assert len(next(session.stream("plain").batches(9, 0))["image"]) == 1


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (None, "session 0 asks to forget: the folder of exemplars .*shots does not exist"),
        ({"husky": 1}, "exemplars .*shots: no folder is called 'poodle', so class 'poodle' has no image; known: husky"),
        ({"chair": 1}, "no folder is called 'poodle'"),
        ({"husky": 1, "poodel": 1}, "did you mean 'poodel'"),
        ({"husky": 1, "poodle": 0}, "session 0 .*poodle holds no image of class 'poodle'"),
    ],
)
def test_a_folder_without_the_classes_is_refused(pets, tmp_path, classes, message):
    if classes:
        photos(tmp_path / "shots", **classes)
    with pytest.raises(DataError, match=message) as caught:
        manager(pets, [forget(["husky", "poodle"], exemplars=str(tmp_path / "shots"))]).sessions()
    assert "\n" not in str(caught.value)


def test_a_broken_exemplar_is_named(pets, tmp_path):
    folder = photos(tmp_path / "shots", husky=1)
    (folder / "husky" / "0.jpg").write_text("no image")
    (session,) = manager(pets, [forget(["husky"], exemplars=str(folder))]).sessions()
    with pytest.raises(DataError, match=r"^exemplars .*shots: .*husky/0\.jpg is truncated or not an image"):
        list(session.stream("plain").batches(9, 0))


def decoded(stream) -> set[int]:
    """Labels of the images that a stream's set holds in memory."""
    return {stream.images.labels["fine"][item].item() for item in stream.images._cache}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_purging_drops_the_decoded_images_of_the_request_alone(pets, tmp_path, elsewhere):
    options = {"exemplars": str(photos(tmp_path / "shots", husky=2, poodle=1))} if elsewhere else {}
    taught, session = manager(pets, [LearnRequest(classes=5), forget(["husky", "poodle"], **options)]).sessions()
    for name, stream in (("plain", taught.stream("plain")), ("forget", session.stream("forget"))):
        list(stream.batches(100, 0))
        assert {2, 4} <= decoded(stream), name
    list(session.stream("test").batches(100, 0))
    session.purge()
    assert decoded(taught.stream("plain")) == {0, 1, 3}
    assert decoded(session.stream("forget")) == (set() if elsewhere else {0, 1, 3})
    assert decoded(session.stream("test")) == {0, 1, 2, 3, 4}  # test images are no exemplars
    assert taught.stream("plain").images.used == 15 * 3 * 16 * 16
