"""`utils.smoke`: any experiment becomes a dry run on twelve embedded classes."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convs.names import is_clip
from utils.config import Config, load_config
from utils.requests import ForgetRequest, LearnRequest, expand_requests
from utils.smoke import CLASSES
from utils.smoke import smoke as dry_run

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"dataset": "cub", "model_name": "adapter", "convnet_type": "pretrained_vit_b16_224"}


def smoke(config, is_clip=is_clip):
    return dry_run(config, is_clip)


def stream(sessions):
    return [request.model_dump() for request in expand_requests(smoke(Config(**NAMES, sessions=sessions)), CLASSES)]


def test_a_published_experiment():
    config = load_config(ROOT / "exps/adapter_imageneta.json").config
    dry = smoke(config)
    assert (dry.dataset, dry.convnet_type, dry.seed, dry.logs) == ("toymini", "tiny_vit", (1993,), "logs/smoke")
    assert (dry.init_epochs, dry.inc_epochs, dry.ca_epochs, dry.ca_samples, dry.batch_size) == (2, 1, 1, 16, 16)
    assert (dry.workers, dry.checkpoint_every, dry.init_cls, dry.increment) == (0, 1, 4, 4)
    assert (dry.margin, dry.model_name, dry.ssca, dry.init_lr) == (0.3, "adapter", True, 0.01)
    assert smoke(dry.changed(logs="logs")) == dry


def test_data_and_weights_are_replaced():
    keys = {"data_root": "/photos", "exclude": ["a"], "weights": "vit.safetensors", "img_size": 384}
    dry = smoke(Config(**NAMES, init_cls=20, increment=20, **keys))
    assert (dry.data_root, dry.exclude, dry.weights, dry.img_size) == (None, (), None, None)
    assert smoke(Config(**NAMES, init_cls=20, weights="random")).weights == "random"
    oracles = [smoke(Config(**NAMES, init_cls=20, oracle_weights=given)).oracle_weights for given in (None, "a.pth")]
    assert oracles == [None, "random"]


def test_switched_off_stays_off():
    dry = smoke(Config(**NAMES, init_cls=9, init_epochs=0, inc_epochs=0, ca_epochs=0, warmup_steps=0, batch_size=4))
    assert (dry.init_epochs, dry.inc_epochs, dry.ca_epochs, dry.warmup_steps, dry.batch_size) == (0, 0, 0, 0, 4)


def test_prompts_fit_the_miniature():
    dry = smoke(
        Config(**NAMES, init_cls=9, g_prompt_layer_idx=[0, 11], e_prompt_layer_idx=[4], prompt_param=[400, 6, 0])
    )
    assert (dry.g_prompt_layer_idx, dry.e_prompt_layer_idx, dry.prompt_param) == ((0,), (), (100, 6, 0.0))
    dry = smoke(Config(**NAMES, init_cls=9))
    assert (dry.g_prompt_layer_idx, dry.e_prompt_layer_idx, dry.prompt_param) == (None, None, (100, 8, 0.1))


@pytest.mark.parametrize(
    ("given", "expected"),
    [((20, 20), (4, 4)), ((50, 10), (4, 3)), ((10, 20), (3, 4)), ((98, None), (12, None)), ((1, 1), (4, 4))],
)
def test_increments(given, expected):
    dry = smoke(Config(**NAMES, init_cls=given[0], increment=given[1]))
    assert (dry.init_cls, dry.increment) == expected


def test_pretraining_keeps_its_model_and_learns_all_at_once():
    config = Config(
        dataset="toyworld", model_name="pretrain", convnet_type="tiny_clip_oracle", init_cls=48, increment=48
    )
    dry = smoke(config)
    assert (dry.model_name, dry.convnet_type, len(expand_requests(dry, CLASSES))) == ("pretrain", "tiny_clip_oracle", 1)


def test_the_miniature_is_of_the_same_kind():
    config = Config(**NAMES, init_cls=9)
    assert smoke(config, lambda name: name == "cub_clip").convnet_type == "tiny_vit"
    assert smoke(config, lambda name: name == config.convnet_type).convnet_type == "tiny_clip"


def test_streams_shrink():
    assert [entry["classes"] for entry in stream([{"learn": 20, "repeat": 3}])] == [4, 4, 4]
    assert [entry["classes"] for entry in stream([{"learn": 1}, {"learn": ["a", "b"]}])] == [2, 2]
    assert len(stream([{"learn": 1, "repeat": 60}])) == 4


def test_forget_requests_keep_level_and_grant():
    spec = {"classes": ["a", "b"], "level": "coarse", "retain": {"few": 3}, "exemplars": 150}
    _, forget = stream([{"learn": 60}, {"forget": spec}])
    kept = {"retain": {"few": 3}, "exemplars": 150, "take": "first", "missing": 0}
    assert forget == {"classes": 1, "level": "coarse", **kept}
    shares = {"classes": 9, "exemplars": {"ratio": 0.1}, "retain": {"ratio": 0.1}, "take": "last", "missing": 5}
    assert stream([{"forget": shares}])[0] == {**shares, "level": "fine", "classes": 1, "missing": 1}
    (hybrid,) = stream([{"forget": {"classes": {"fine": ["a", "b"], "coarse": ["c"]}, "exemplars": "photos"}}])
    assert hybrid["classes"] == {"fine": 1, "coarse": 1} and hybrid["exemplars"] is None


def test_tasks_stay_tasks_of_one_class():
    dry = smoke(Config(**NAMES, num_tasks=9, num_of_first_cls=60, per_forget_cls=20, data_ratio=0.1, open_cls_num=5))
    requests = expand_requests(dry, CLASSES)
    assert [(each.classes, each.take, each.missing) for each in requests] == [(1, "last", 1)] * 2
    assert all(each.exemplars.ratio == each.retain.ratio == 0.1 for each in requests)


def test_a_late_kind_is_not_lost():
    kinds = expand_requests(smoke(Config(**NAMES, sessions=[{"learn": 5, "repeat": 6}, {"forget": 2}])), CLASSES)
    assert [type(request) for request in kinds] == [LearnRequest] * 3 + [ForgetRequest]


COUNTS = st.integers(1, 500)
ENTRIES = st.fixed_dictionaries({"learn": COUNTS | st.just(["a", "b"])}) | st.fixed_dictionaries(
    {"forget": COUNTS | st.just(["c"]) | st.just({"fine": ["a"], "coarse": ["b", "c"]})}
)


@settings(max_examples=200, deadline=None)
@given(sessions=st.lists(ENTRIES, min_size=1, max_size=9))
def test_any_stream_fits_the_miniature(sessions):
    dry = smoke(Config(**NAMES, sessions=sessions))
    requests = expand_requests(dry, CLASSES)
    assert len(requests) == min(len(sessions), 4)
    assert sum(request.classes for request in requests if isinstance(request, LearnRequest)) <= CLASSES


@settings(max_examples=200, deadline=None)
@given(init_cls=COUNTS, increment=st.none() | COUNTS)
def test_any_increments_fit_the_miniature(init_cls, increment):
    dry = smoke(Config(**NAMES, init_cls=init_cls, increment=increment))
    assert len(expand_requests(dry, CLASSES)) <= 4
    assert (dry.init_cls == dry.increment) == (init_cls == increment)
