"""`utils.requests`: the session grammar and the requests of a run."""

import json
from collections import Counter
from pathlib import Path

import pytest

from data.builders.dog_breeds import breeds
from data.world import world_classes
from tests.support import ROOT
from utils.config import Config, load_config
from utils.errors import ConfigError
from utils.requests import ForgetRequest, HybridClasses, LearnRequest, expand_requests

NAMES = {"dataset": "toymini", "model_name": "adapter", "convnet_type": "tiny_vit"}


def requests(sessions, total=100):
    return expand_requests(Config(**NAMES, sessions=sessions), total)


def counts(init_cls, increment, total):
    config = Config(**NAMES, init_cls=init_cls, increment=increment)
    return [request.classes for request in expand_requests(config, total)]


@pytest.fixture
def refusal(tmp_path):
    """Loads an experiment with the given sessions and returns the one line that refuses it."""

    def refusal(sessions):
        (tmp_path / "x.json").write_text(json.dumps({**NAMES, "sessions": sessions}), encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load_config(tmp_path / "x.json")
        assert "x.json:1: 'sessions" in str(caught.value)
        return str(caught.value)

    return refusal


@pytest.mark.parametrize(
    ("init_cls", "increment", "total", "expected"),
    [
        (20, 20, 100, [20] * 5),
        (50, 10, 100, [50, 10, 10, 10, 10, 10]),
        (10, 20, 100, [10, 20, 20, 20, 20, 10]),
        (4, 5, 12, [4, 5, 3]),
        (12, 5, 12, [12]),
        (12, None, 12, [12]),
        (11, 5, 12, [11, 1]),
        (1, 1, 3, [1, 1, 1]),
    ],
)
def test_increments_as_pycil_cuts_them(init_cls, increment, total, expected):
    assert counts(init_cls, increment, total) == expected


def test_increments_that_do_not_fit():
    with pytest.raises(ConfigError, match="'init_cls' is 13, but 'toymini' has 12 classes"):
        counts(13, 1, 12)
    with pytest.raises(ConfigError, match=r"'increment' is missing.*leaves 2"):
        counts(10, None, 12)


def test_learn_forms():
    assert requests([{"learn": 20}, {"learn": ["Audi A7", "é"]}]) == [
        LearnRequest(classes=20),
        LearnRequest(classes=("Audi A7", "é")),
    ]
    assert requests([{"learn": 5, "repeat": 3}]) == [LearnRequest(classes=5)] * 3


def test_forget_forms():
    hybrid = ForgetRequest(classes=HybridClasses(fine=("a",), coarse=("b",)), level="hybrid")
    named = {"fine": ["a"], "coarse": ["b"]}
    assert requests([{"forget": named}, {"forget": {"classes": named}}]) == [hybrid, hybrid]
    assert requests([{"forget": {"classes": named, "level": "hybrid"}}]) == [hybrid]
    assert requests([{"forget": 20}, {"forget": ["a"]}, {"forget": 2, "repeat": 2}]) == [
        ForgetRequest(classes=20),
        ForgetRequest(classes=("a",)),
        *[ForgetRequest(classes=2)] * 2,
    ]


def test_forget_defaults_and_options():
    (request,) = requests([{"forget": ["a"]}])
    assert (request.level, request.retain, request.exemplars) == ("fine", "none", None)
    spec = {"classes": 2, "level": "coarse", "retain": {"few": 4}, "exemplars": 5}
    (request,) = requests([{"forget": spec}])
    assert (request.level, request.retain.few, request.exemplars) == ("coarse", 4, 5)
    (request,) = requests([{"forget": {**spec, "retain": {"ratio": 0.1}, "exemplars": "shots/"}}])
    assert (request.retain.ratio, request.exemplars) == (0.1, "shots/")
    assert requests([{"forget": {**spec, "retain": "all"}}])[0].retain == "all"


def test_requests_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        requests([{"forget": 1}])[0].level = "coarse"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (3, 'expected {"learn": …} or {"forget": …}'),
        ({"lern": 3}, 'expected {"learn": …} or {"forget": …}'),
        ({"learn": 3, "forget": 2}, "one of the two"),
        ({"learn": 0}, "must be at least 1"),
        ({"learn": 2.5}, "expected a whole number or a list"),
        ({"learn": True}, "expected a whole number or a list"),
        ({"learn": []}, "list of at least 1"),
        ({"learn": ["a", 3]}, "'sessions.0.learn.1' = 3: expected text"),
        ({"learn": ["a", "a"]}, "'a' is listed twice"),
        ({"learn": ["a"], "repeat": 2}, '"repeat" goes with a count'),
        ({"forget": ["a"], "repeat": 2}, '"repeat" goes with a count'),
        ({"learn": 1, "repeat": 0}, "'sessions.0.repeat' = 0"),
        ({"learn": 1, "repeat": 10**9}, "must be at most 10000"),
        ({"learn": 1, "repeated": 2}, "unknown key 'repeated'; did you mean 'repeat'?"),
        ({"forget": {"level": "fine"}}, "'classes' is missing"),
        ({"forget": {"classes": ["a"], "level": "fin"}}, '"fine", "coarse" or "hybrid"'),
        ({"forget": {"classes": ["a"], "level": "hybrid"}}, 'level "hybrid" goes with'),
        ({"forget": {"classes": {"fine": ["a"]}, "level": "fine"}}, 'level "hybrid" goes with'),
        ({"forget": {"classes": {}}}, "names classes under"),
        ({"forget": {"classes": 2, "retain": {"fev": 3}}}, "did you mean 'few'"),
        ({"forget": {"classes": 2, "retain": {"ratio": 2}}}, "must be at most 1"),
        ({"forget": {"classes": 2, "retain": "some"}}, '"none" or "all"'),
        ({"forget": {"classes": 2, "exemplars": 0}}, "must be at least 1"),
        ({"learn": "Audi A7"}, 'write a single class as ["Audi A7"]'),
    ],
)
def test_mistakes_name_the_place(refusal, entry, says):
    assert says in refusal([entry])


def test_more_classes_than_exist():
    with pytest.raises(ConfigError, match="session 2 asks to learn 5 classes, 15 in all, but 'toymini' has 12"):
        requests([{"learn": 5, "repeat": 3}], total=12)
    with pytest.raises(ConfigError, match="session 0 asks to forget 13"):
        requests([{"forget": 13}], total=12)
    assert len(requests([{"learn": 12}, {"forget": 3}], total=12)) == 2


def test_named_sets_from_files(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/dogs.json").write_text('{"easy": ["beagle", "whippet"], "odd": [3]}', encoding="utf-8-sig")
    (tmp_path / "lists/cars.txt").write_text("Audi A7\n\n Lexus RX \n", encoding="utf-8-sig")
    sessions = [{"learn": "lists/cars.txt"}, {"forget": {"classes": {"fine": "lists/dogs.json#easy"}}}]
    (tmp_path / "base.json").write_text(json.dumps({**NAMES, "sessions": sessions}), encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/x.json").write_text('{"base": "../base.json"}', encoding="utf-8")
    config = load_config(tmp_path / "sub/x.json").config
    assert config.sessions[0].learn == ("Audi A7", "Lexus RX")
    assert config.sessions[1].forget.classes.fine == ("beagle", "whippet")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("dogs.json#easi", "did you mean 'easy'"),
        ("dogs.json", "holds no set ''"),
        ("dogs.json#odd", "not a list of class names"),
        ("none.txt", "is none; write a single class as"),
    ],
)
def test_named_set_mistakes(refusal, tmp_path, reference, says):
    (tmp_path / "dogs.json").write_text('{"easy": ["beagle"], "odd": [3]}', encoding="utf-8-sig")
    assert says in refusal([{"forget": reference}])


def test_classes_known_before_the_stream(tmp_path):
    def known(value):
        (tmp_path / "x.json").write_text(json.dumps({**NAMES, "sessions": [{"forget": 1}], "known": value}))
        return load_config(tmp_path / "x.json").config.known

    assert Config(**NAMES, init_cls=1).known == "auto"
    assert (known("rest"), known("none"), known(["Audi A7", "é"])) == ("rest", "none", ("Audi A7", "é"))
    for value, says in (
        ("all", 'expected "auto", "none" or "rest" or a list'),
        ([], "list of at least 1"),
        (["a", "a"], "'a' is listed twice"),
        (3, "'known' = 3: expected"),
    ):
        with pytest.raises(ConfigError) as caught:
            known(value)
        assert says in str(caught.value)


def test_general_sets_are_names():
    assert Config(**NAMES, init_cls=1).zero_shot == ()
    assert Config(**NAMES, init_cls=1, zero_shot=["toyfruits", "food101"]).zero_shot == ("toyfruits", "food101")
    with pytest.raises(ValueError, match="listed twice"):
        Config(**NAMES, init_cls=1, zero_shot=["toyfruits", "toyfruits"])


def test_shipped_requests_are_named_as_the_builders_name_them(tmp_path):
    file = Path(__file__).parents[2] / "exps" / "requests.json"
    (tmp_path / "requests.json").write_bytes(file.read_bytes())
    names = {name for name in json.loads(file.read_text(encoding="utf-8")) if name != "about"}
    classes = {}
    for name in names:
        raw = {**NAMES, "sessions": [{"forget": f"requests.json#{name}"}]}
        (tmp_path / "x.json").write_text(json.dumps(raw), encoding="utf-8")
        classes[name] = load_config(tmp_path / "x.json").config.sessions[0].forget.classes
    assert {name: len(found) for name, found in classes.items()} == {
        "cars": 9,
        "dogs_easy": 11,
        "dogs_medium": 10,
        "dogs_difficult": 10,
        "toycars": 8,
    }
    dogs = {breed for _, breed, _ in breeds().values()}
    assert {*classes["dogs_easy"], *classes["dogs_medium"], *classes["dogs_difficult"]} < dogs
    makes = {fine: make for make, fine in world_classes("toycars")}
    asked = Counter(makes[fine] for fine in classes["toycars"])
    assert set(asked.values()) == {2} and len(asked) == len(set(makes.values())) / 2  # four makes stay whole: remote


def test_the_oracle_never_sees_what_the_toy_request_names():
    oracle = json.loads((ROOT / "exps" / "pretrain_tiny_clip_oracle.json").read_text(encoding="utf-8"))
    names = json.loads((ROOT / "exps" / "requests.json").read_text(encoding="utf-8"))
    assert oracle["exclude"] == names["toycars"]


# the published stream of tasks


def tasks(**keys):
    names = {"dataset": "d", "model_name": "m", "convnet_type": "c"}
    return expand_requests(Config(**names, **keys), 100)


def test_tasks_take_classes_from_the_end_and_show_a_share():
    first, *others = tasks(num_tasks=4, num_of_first_cls=70, per_forget_cls=20, data_ratio=0.1, open_cls_num=5)
    assert first.classes == 30 and [each.classes for each in others] == [20] * 3
    for each in (first, *others):
        assert each.take == "last" and each.missing == 5 and each.level == "fine"
        assert each.exemplars.ratio == each.retain.ratio == 0.1


def test_tasks_show_a_few_images_or_all():
    (few,) = tasks(num_tasks=1, per_forget_cls=20, few_shot_num=4)
    assert (few.classes, few.exemplars, few.retain.few) == (20, 4, 4)
    (whole,) = tasks(num_tasks=1, per_forget_cls=20)
    assert (whole.exemplars, whole.retain, whole.missing) == (None, "all", 0)


@pytest.mark.parametrize(
    "keys",
    [
        {"num_tasks": 5, "per_forget_cls": 20},
        {"num_tasks": 10**12, "per_forget_cls": 1},  # too many to be counted one by one
        {"num_tasks": 1, "per_forget_cls": 20, "num_of_first_cls": 100},
        {"num_tasks": 2, "per_forget_cls": 1, "num_of_first_cls": 1},
    ],
)
def test_tasks_leave_some_classes_and_take_some(keys):
    with pytest.raises(ConfigError, match="some must stay"):
        tasks(**keys)


def test_missing_classes_go_with_retained_images():
    with pytest.raises(ValueError, match="without them every class kept is missing"):
        ForgetRequest(classes=1, missing=2)
