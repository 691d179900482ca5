"""From requests to sessions: class order, labels, streams, and requests that cannot be served."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data.manager import DataManager, class_names, class_order, class_parents
from utils.errors import DataError
from utils.requests import ForgetRequest, HybridClasses, LearnRequest

OWN_ORDER = ["beagle", "siamese", "poodle", "persian", "husky"]


def raw(image: torch.Tensor) -> torch.Tensor:
    return image


def learn(*requests) -> list[LearnRequest]:
    return [LearnRequest(classes=classes) for classes in requests]


def forget(classes, level: str = "fine", **options) -> ForgetRequest:
    return ForgetRequest(classes=classes, level=level, **options)


def manager(indexed, requests, **options) -> DataManager:
    return DataManager(indexed, requests, **{"train": raw, "test": raw, "shuffle": False, **options})


def items(stream) -> list[int]:
    """Positions in the index of the images of one pass."""
    found = [stream.images.positions[item] for batch in stream.batches(4, 0) for item in batch["item"].tolist()]
    assert len(found) == len(stream)
    return found


def labels(stream) -> list[int]:
    return stream.labels("fine").tolist()


@pytest.mark.parametrize("seed", [1993, 7])
def test_counts_follow_numpys_legacy_permutation(pets, seed):
    order = manager(pets, learn(3, 2), shuffle=True, seed=seed).order
    assert order.fine == tuple(OWN_ORDER[i] for i in np.random.RandomState(seed).permutation(5))


def test_labels_follow_the_order_in_which_classes_are_learned(pets):
    order = manager(pets, learn(["husky", "persian"], 2)).order
    assert order.fine == ("husky", "persian", "beagle", "siamese")
    assert order.coarse == ("dog", "cat")  # each with its first child
    assert order.parents == (0, 1, 0, 1)
    assert manager(pets, learn(2, ["husky"], 1)).order.fine == ("beagle", "siamese", "husky", "poodle")


def test_images_carry_the_new_labels(pets):
    session = manager(pets, learn(["husky", "persian"], 2)).sessions()[0]
    batch = next(session.stream("plain").batches(100, 0))
    names = [pets.splits["train"][position].fine for position in items(session.stream("plain"))]
    labelled = set(zip(names, batch["fine"].tolist(), batch["coarse"].tolist(), strict=True))
    assert labelled == {("persian", 1, 1), ("husky", 0, 0)}
    assert len(names) == 10


def test_what_learn_sessions_grant(pets):
    first, second = manager(pets, learn(2, 3)).sessions()
    assert (first.classes, first.seen, second.classes, second.seen) == ((0, 1), (0, 1), (2, 3, 4), (0, 1, 2, 3, 4))
    assert set(first.streams) == {"train", "plain", "test"}
    assert sorted(items(second.stream("train"))) == items(second.stream("plain")) == list(range(10, 25))
    assert items(first.stream("test")) == list(range(4))  # all seen so far, not only the new ones
    assert items(second.stream("test")) == list(range(10))
    with pytest.raises(PermissionError):
        second.stream("joint")


def test_the_past_is_granted_only_to_whom_it_is_due(pets):
    first, second = manager(pets, learn(2, 3)).sessions(grant_past=True)
    assert sorted(items(first.stream("joint"))) == list(range(10))
    assert sorted(items(second.stream("joint"))) == list(range(25))


def test_training_and_test_images_have_their_own_transforms(pets):
    transforms = {"train": lambda image: image.float() + 1000, "test": lambda image: image.float()}
    session = manager(pets, learn(5), **transforms).sessions(grant_past=True)[0]
    least = {name: next(session.stream(name).batches(100, 0))["image"].min() for name in session.streams}
    assert {name for name, value in least.items() if value >= 1000} == {"train", "joint"}


def test_training_streams_are_shuffled_and_the_others_are_not(pets):
    session = manager(pets, learn(5)).sessions()[0]
    for name, shuffled in (("train", True), ("plain", False), ("test", False)):
        batches = [next(session.stream(name).batches(100, seed))["item"].tolist() for seed in (0, 1)]
        assert (batches[0] != batches[1]) is shuffled
        assert (batches[0] != sorted(batches[0])) is shuffled


def test_excluded_classes_leave_order_labels_and_images(pets):
    cut = manager(pets, learn(3), exclude=["siamese", "persian"])
    assert (cut.order.fine, cut.order.coarse) == (("beagle", "poodle", "husky"), ("dog",))
    session = cut.sessions()[0]
    assert {pets.splits["test"][at].coarse for at in items(session.stream("test"))} == {"dog"}
    shuffled = manager(pets, learn(3), exclude=["siamese", "persian"], shuffle=True, seed=3).order.fine
    names = ["beagle", "poodle", "husky"]
    assert shuffled == tuple(names[i] for i in np.random.RandomState(3).permutation(3))


def test_classes_that_no_session_learns_are_left_out(pets):
    cut = manager(pets, learn(1, 1))
    assert cut.order.fine == ("beagle", "siamese")
    assert items(cut.sessions()[1].stream("test")) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("requests", "options", "message"),
    [
        (learn(4, 2), {}, "session 1 asks for 2 new classes, but only 1 of the 5 of 'pets' are left"),
        (learn(["husky"], 5), {}, "session 1 asks for 5 new classes, but only 4 of the 5"),
        (learn(4), {"exclude": ["husky", "poodle"]}, "only 3 of the 3"),
        (learn(["huskey"]), {}, "'huskey', but 'pets' has no such class; did you mean 'husky'"),
        (learn(["husky"], ["poodle", "husky"]), {}, "session 1 asks to learn 'husky', which is known already"),
        (learn(["husky"]), {"exclude": ["husky"]}, "'husky', but 'pets' has no such class"),
        (learn(1), {"known": ["huskey"]}, "key 'known' names 'huskey', but 'pets' has no such class; did you mean"),
        (learn(1), {"exclude": ["pudle"]}, "key 'exclude': 'pets' has no class 'pudle'; did you mean 'poodle'"),
    ],
)
def test_requests_for_classes_that_are_not_there(pets, requests, options, message):
    with pytest.raises(DataError, match=message) as caught:
        manager(pets, requests, **options)
    assert "\n" not in str(caught.value)


def test_a_class_with_too_few_images_is_named_with_its_file(draw_set, tmp_path):
    indexed = draw_set(tmp_path / "one", counts={"poodle": 1})
    with pytest.raises(DataError, match=r"train\.jsonl: class 'poodle' has 1 image.*at least 2.*\"exclude\""):
        manager(indexed, learn(5))
    assert manager(indexed, learn(4), exclude=["poodle"]).order.fine == ("beagle", "siamese", "persian", "husky")
    untested = draw_set(tmp_path / "two")
    untested.splits["test"][:] = [record for record in untested.splits["test"] if record.coarse == "dog"]
    with pytest.raises(DataError, match=r"test\.jsonl: class 'siamese' has 0 image.*\(2 such"):
        manager(untested, learn(5))


def test_a_fine_name_under_two_parents_is_named_by_line(draw_set, tmp_path):
    classes = (("dog", "husky"), ("cat", "tabby"), ("wolf", "husky"))
    indexed = draw_set(tmp_path / "train", classes)
    with pytest.raises(DataError, match=r"train\.jsonl:11: class 'husky' stands under 'wolf' here and under 'dog'"):
        manager(indexed, learn(2))
    indexed = draw_set(tmp_path / "test", classes[:2])
    indexed.splits["test"] += draw_set(tmp_path / "more", classes[2:]).splits["test"]
    with pytest.raises(DataError, match=r"test\.jsonl:5: class 'husky' stands under 'wolf'"):
        manager(indexed, learn(2))


def test_own_order_is_that_of_the_first_training_images(pets):
    assert class_names(pets) == OWN_ORDER
    assert class_names(pets, ["husky", "beagle"]) == ["siamese", "poodle", "persian"]
    assert class_parents(pets, ["persian", "husky"]) == {"persian": "cat", "husky": "dog"}
    order = class_order(["persian", "husky", "siamese"], class_parents(pets, OWN_ORDER), {})
    assert (order.fine, order.coarse, order.parents) == (("persian", "husky", "siamese"), ("cat", "dog"), (0, 1, 0))


HYBRID = HybridClasses(fine=("poodle",), coarse=("cat",))


@pytest.mark.parametrize(
    ("request_", "classes", "coarse"),
    [
        (forget(["poodle", "beagle"]), {"beagle", "poodle"}, set()),
        (forget(2), {"beagle", "siamese"}, set()),
        (forget(["cat"], "coarse"), {"siamese", "persian"}, {"cat"}),
        (forget(1, "coarse"), {"beagle", "poodle", "husky"}, {"dog"}),
        (forget(HYBRID, "hybrid"), {"poodle", "siamese", "persian"}, {"cat"}),
        (forget(HybridClasses(fine=1), "hybrid"), {"beagle"}, set()),
    ],
)
def test_forget_requests_by_level(pets, request_, classes, coarse):
    session = manager(pets, [*learn(5), request_]).sessions()[1]
    order = session.order
    assert (session.kind, session.level, session.index, session.learned) == ("forget", request_.level, 1, 1)
    assert {order.fine[label] for label in session.classes} == classes
    assert {order.coarse[label] for label in session.coarse_classes} == coarse
    assert session.classes == tuple(sorted(session.classes)) == session.gone
    assert {order.fine[label] for label, goal in session.goals.items() if goal == "coarse"} == {
        name for name in classes if order.coarse[order.parents[order.fine.index(name)]] in coarse
    }
    shown = {pets.splits["train"][position].fine for position in items(session.stream("forget"))}
    assert shown == classes
    assert set(session.streams) == {"forget", "plain", "test"}


def test_a_mixed_stream(pets):
    requests = [*learn(3), forget(1), forget(["siamese"]), *learn(2), forget(1), *learn(["siamese"])]
    requests.append(forget(["dog"], "coarse"))
    sessions = manager(pets, requests).sessions(grant_past=True)
    assert [session.classes for session in sessions] == [(0, 1, 2), (0,), (1,), (3, 4), (2,), (1,), (4,)]
    assert [session.alive for session in sessions] == [
        (0, 1, 2), (1, 2), (2,), (2, 3, 4), (3, 4), (1, 3, 4), (1, 3),
    ]  # fmt: skip
    assert [session.past for session in sessions] == [(), (), (0,), (0, 1), (0, 1), (0, 2), (0, 2)]
    assert [session.learned for session in sessions] == [0, 1, 1, 1, 2, 2, 3]
    # whoever is seen is tested, forgotten or not; training images of the forgotten are served to nobody
    assert [len(session.stream("test")) for session in sessions] == [6, 6, 6, 10, 10, 10, 10]
    trained = [set(labels(session.stream("joint"))) for session in sessions if session.kind == "learn"]
    assert trained == [{0, 1, 2}, {2, 3, 4}, {1, 3, 4}]
    assert set(labels(sessions[5].stream("train"))) == {1}
    assert sessions[6].coarse_classes == (0,)  # of the dogs only the husky is left


def test_classes_known_from_the_start_have_the_first_labels(pets):
    cut = manager(pets, [forget(["poodle"]), *learn(["husky"])])
    assert cut.order.fine == ("beagle", "siamese", "poodle", "persian", "husky")
    assert cut.known == (0, 1, 2, 3)
    first, second = cut.sessions()
    assert (first.seen, first.alive, first.past) == ((0, 1, 2, 3), (0, 1, 3), ())
    assert (second.seen, second.alive, second.past) == ((0, 1, 2, 3, 4), (0, 1, 3, 4), (2,))
    assert len(first.stream("test")) == 8 and len(second.stream("test")) == 10
    named = manager(pets, learn(2), known=["persian"])
    assert (named.order.fine, named.known) == (("persian", "beagle", "siamese"), (0,))
    assert manager(pets, learn(2)).known == ()
    assert manager(pets, learn(2), known="rest").known == (0, 1, 2)


def test_known_classes_are_shuffled_too(pets):
    cut = manager(pets, [forget(2)], shuffle=True, seed=7)
    assert cut.order.fine == tuple(OWN_ORDER[i] for i in np.random.RandomState(7).permutation(5))
    assert cut.sessions()[0].classes == (0, 1)


def test_exemplars_are_shown_as_they_are_and_the_same_in_fixed_order(pets):
    transforms = {"train": lambda image: image.float() + 1000, "test": lambda image: image.float()}
    session = manager(pets, [forget(["poodle", "husky"])], **transforms).sessions()[0]
    batches = {name: next(session.stream(name).batches(100, 0)) for name in ("forget", "plain")}
    assert all(batch["image"].max() < 1000 for batch in batches.values())
    assert items(session.stream("plain")) == [*range(10, 15), *range(20, 25)]
    shuffled = items(session.stream("forget"))
    assert sorted(shuffled) == items(session.stream("plain")) != shuffled
    assert batches["plain"]["fine"].tolist() == [2] * 5 + [4] * 5
    assert batches["plain"]["coarse"].tolist() == [0] * 10


def test_only_what_is_shown_must_be_there(draw_set, tmp_path):
    indexed = draw_set(tmp_path, counts={"persian": 1})
    indexed.file("train", 15).unlink()  # the persian's only training image, which nobody is shown
    assert len(manager(indexed, [forget(["husky"])]).sessions()[0].stream("test")) == 10
    for request in (forget(["persian"]), forget(["husky"], retain="all")):
        with pytest.raises(DataError, match=r"train\.jsonl:16: image .* does not exist"):
            manager(indexed, [request])
    with pytest.raises(DataError, match="class 'persian' has 1 image"):
        manager(indexed, learn(5))


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([*learn(5), forget(["huskey"])], "forget 'huskey', but 'pets' has no such class; did you mean 'husky'"),
        ([*learn(5), forget(["dogs"], "coarse")], "'dogs', but 'pets' has no such coarse class; did you mean 'dog'"),
        ([*learn(2), forget(3), *learn(3)], "session 1 asks to forget 3 fine classes, but only 2 are known"),
        ([*learn(2), forget(["husky"])], "'husky', which is not known by then"),
        ([forget(["husky"])] * 2, "session 1 asks to forget 'husky', which session 0 has made the model forget"),
    ],
)
def test_forget_requests_that_cannot_be_served(pets, requests, message):
    with pytest.raises(DataError, match=message):
        manager(pets, requests)


def test_one_level_sets_have_the_same_labels_on_both(draw_set, tmp_path):
    indexed = draw_set(tmp_path, (("a", "a"), ("b", "b")))
    session = manager(indexed, learn(["b"], 1)).sessions()[1]
    assert not session.order.two_levels
    batch = next(session.stream("test").batches(10, 0))
    assert torch.equal(batch["fine"], batch["coarse"])


def test_aliases_and_descriptions_come_along(draw_set, tmp_path):
    indexed = replace(draw_set(tmp_path, aliases={"husky": ["sled dog"]}), descriptions={"husky": "pulls a sled"})
    order = manager(indexed, learn(5)).order
    assert (order.aliases, order.descriptions) == ({"husky": ["sled dog"]}, {"husky": "pulls a sled"})


def test_a_class_may_be_known_by_its_name_alone(pets):
    named = replace(pets, names={"wolf": "dog", "plum": "plum"})
    (session,) = manager(named, [forget(["husky"])]).sessions()
    assert session.order.fine == (*OWN_ORDER, "wolf", "plum")  # behind those with images
    assert session.order.coarse == ("dog", "cat", "plum") and session.order.parents[5:] == (0, 2)
    assert session.seen == tuple(range(7)) and session.alive == (0, 1, 2, 3, 5, 6)
    assert set(labels(session.stream("test"))) == set(range(5))
    assert manager(named, [forget(["husky"])], exclude=["plum"]).order.fine == (*OWN_ORDER, "wolf")
    # a name that has images is a class like any other
    assert class_names(replace(pets, names={"beagle": "dog", "wolf": "dog"})) == [*OWN_ORDER, "wolf"]


def test_what_asks_for_images_of_a_mere_name_is_refused(pets):
    named = replace(pets, names={"wolf": "dog", "husky": "wolf"})
    with pytest.raises(DataError, match="class 'husky' stands under 'dog' here and under 'wolf' before"):
        manager(named, [forget(["beagle"])])
    named = replace(pets, names={"wolf": "dog"})
    with pytest.raises(DataError, match="class 'wolf' has 0 image"):
        manager(named, learn(["wolf"]))
    everything = forget(OWN_ORDER, retain="all")
    with pytest.raises(DataError, match=r"session 0 is to show images of what stays .* 'pets' has only names of it"):
        manager(named, [everything])
    assert len(manager(named, [forget(OWN_ORDER[:4], retain="all")]).sessions()[0].stream("retain")) == 5
