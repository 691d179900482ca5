"""`utils.config` and `utils.schema`: published files run, every mistake is one line, hashes and paths."""

import json
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from utils.config import (
    UNUSED_KEYS,
    Config,
    config_hash,
    json_schema,
    load_config,
    log_stem,
    parse_override,
    resolved,
    stream_hash,
)
from utils.errors import ConfigError
from utils.published import ALIASES, SHORTHANDS

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = {"dataset": "toymini", "model_name": "adapter", "convnet_type": "tiny_vit", "init_cls": 4, "increment": 4}
STREAM = {key: MINIMAL[key] for key in ("dataset", "model_name", "convnet_type")} | {"sessions": [{"learn": 4}]}

# the keys and values that LAMDA-PILOT's files for its adapter, EASE and fine-tuning learners carry
PILOT_ADAPTER = """{"prefix": "reproduce", "dataset": "cifar224", "memory_size": 0, "memory_per_class": 0,
"fixed_memory": false, "shuffle": true, "init_cls": 10, "increment": 10, "model_name": "aper_adapter",
"backbone_type": "pretrained_vit_b16_224_adapter", "device": ["0"], "seed": [1993], "tuned_epoch": 20,
"init_lr": 0.01, "batch_size": 48, "weight_decay": 0.0005, "min_lr": 0, "ffn_num": 64, "optimizer": "sgd",
"vpt_type": "shallow", "prompt_token_num": 5}"""
PILOT_FINETUNE = """{"prefix": "reproduce", "dataset": "cifar224", "memory_size": 0, "memory_per_class": 0,
"fixed_memory": false, "shuffle": true, "init_cls": 10, "increment": 10, "model_name": "finetune",
"convnet_type": "vit_base_patch16_224", "device": ["0"], "seed": [1993], "init_epoch": 20, "init_lr": 1e-3,
"init_milestones": [60, 120, 170], "init_lr_decay": 0.1, "init_weight_decay": 0.0005, "epochs": 15, "lrate": 2e-3,
"milestones": [40, 70], "lrate_decay": 0.1, "batch_size": 128, "weight_decay": 2e-4}"""
PYCIL = """{"prefix": "reproduce", "dataset": "cifar100", "memory_size": 2000, "memory_per_class": 20,
"fixed_memory": false, "shuffle": true, "init_cls": 50, "increment": 10, "model_name": "Finetune",
"convnet_type": "resnet32", "device": ["0", "1", "2", "3"], "seed": [1993], "wb-project": "some-project"}"""
# what its files for learners with prompts, and for MOS, say beside that
PILOT_PROMPTS = {
    "l2p": """"tuned_epoch": 5, "init_lr": 0.001875, "scheduler": "constant", "size": 10, "length": 5, "top_k": 5,
"batchwise_prompt": true, "pull_constraint": true, "pull_constraint_coeff": 0.1, "get_original_backbone": true""",
    "dualprompt": """"tuned_epoch": 5, "use_g_prompt": true, "g_prompt_length": 5, "g_prompt_layer_idx": [0, 1],
"e_prompt_layer_idx": [2, 3, 4], "size": 10, "length": 5, "top_k": 1, "same_key_value": false""",
    "coda_prompt": """"tuned_epoch": 20, "prompt_param": [100, 8.0, 0.0]""",
    "mos": """"tuned_epoch": 20, "reg": 0.1, "adapter_momentum": 0.2, "ensemble": true, "crct_epochs": 30, "ca_lr":
0.005, "ffn_num": 16""",
}
SSIAT = """{"prefix": " ", "dataset": "imageneta", "shuffle": true, "ssca": true, "ca": true, "init_cls": 20,
"increment": 20, "model_name": "adapter", "convnet_type": "pretrained_vit_b16_224_in21k_adapter", "device": ["0"],
"seed": [1993, 1996, 1997], "init_epochs":20, "inc_epochs":10, "ca_epochs":5, "init_lr":0.01, "batch_size":48,
"weight_decay":0.0005, "min_lr":0, "ffn_num":64, "optimizer":"sgd", "vpt_type":"shallow", "prompt_token_num":5,
"scale":20.0, "margin":0.3}"""


@pytest.fixture
def write(tmp_path):
    """Writes an experiment (an object, or text as it is) and returns its path."""

    def write(content, name="x.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1), encoding="utf-8")
        return path

    return write


def minimal(**keys):
    return Config(**{**MINIMAL, **keys})


def refused(path, overrides=None):
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message and "pydantic" not in message
    return message


def test_defaults_are_ssiats_settings(write):
    config = load_config(write(MINIMAL)).config
    published = json.loads(SSIAT)
    for key in ("ssca", "ca", "init_epochs", "inc_epochs", "ca_epochs", "init_lr", "batch_size", "weight_decay"):
        assert getattr(config, key) == published[key]
    assert (config.ffn_num, config.scale, config.min_lr, config.optimizer) == (64, 20.0, 0.0, "sgd")
    assert (config.sigma, config.ridge, config.ca_samples, config.momentum) == (4.0, 1e-3, 256, 0.9)
    assert (config.adapter_scale, config.adapter_dropout, config.margin, config.crop_scale) == (
        0.1,
        0.1,
        0.0,
        (0.05, 1),
    )
    assert config.later_lr == 0.01 and config.changed(inc_lr=0.2).later_lr == 0.2


def test_defaults_of_a_forget_session_are_those_of_the_dogs():
    config = minimal()
    assert (config.forget_epochs, config.forget_lr, config.forget_batch_size) == (8, 1e-7, 32)
    assert (config.forget_optimizer, config.forget_weight_decay, config.unlearn_loss) == ("adamw", 1e-5, "hinge")
    assert (config.kl_fine, config.kl_coarse) == (None, None)  # each loss has its own
    assert (config.npo_beta, config.margin_fine, config.margin_coarse) == (0.5, 2.0, 2.0)
    assert (config.negation_scale, config.negation_coarse, config.salun_share) == (1.5, 0.05, 0.1)
    assert (config.tune, config.lora_rank, config.lora_alpha, config.keep_history) == ("all", 8, 1.0, False)
    given = minimal(unlearn_loss=" NPO ", tune="LoRA", kl_fine=0, kl_coarse=5)
    assert (given.unlearn_loss, given.tune, given.kl_fine, given.kl_coarse) == ("npo", "lora", 0, 5)


def test_published_ssiat_file(write):
    loaded = load_config(write(SSIAT))
    assert loaded.unused == ("prompt_token_num", "vpt_type")
    assert loaded.config.seed == (1993, 1996, 1997) and loaded.config.device == "cuda"
    assert loaded.config.margin == 0.3 and loaded.config.prefix == " "
    expected = "adapter/imageneta/0/20/ _1996_pretrained_vit_b16_224_in21k_adapter"
    assert log_stem(loaded.config, 1996) == PurePosixPath(expected)


def test_published_pilot_adapter_file(write):
    config = load_config(write(PILOT_ADAPTER)).config
    assert config.convnet_type == "pretrained_vit_b16_224_adapter"
    assert (config.init_epochs, config.inc_epochs) == (20, 20)  # PILOT's one number for every phase


def published(write, name: str):
    start = f'{{"dataset": "cifar224", "init_cls": 10, "increment": 10, "model_name": "{name}", '
    return load_config(write(f'{start}"backbone_type": "vit_base_patch16_224_{name}", {PILOT_PROMPTS[name]}}}'))


def test_published_pilot_prompt_files(write):
    l2p, dual, coda = (published(write, name) for name in ("l2p", "dualprompt", "coda_prompt"))
    assert (l2p.config.prompt_pool_size, l2p.config.prompt_length, l2p.config.prompt_top_k) == (10, 5, 5)
    assert (l2p.config.pull_constraint_coeff, l2p.config.schedule) == (0.1, "constant")
    assert l2p.unused == ("batchwise_prompt", "get_original_backbone", "pull_constraint")
    assert (dual.config.g_prompt_length, dual.config.prompt_length) == (5, 5)
    assert (dual.config.g_prompt_layer_idx, dual.config.e_prompt_layer_idx) == ((0, 1), (2, 3, 4))
    assert dual.unused == ("same_key_value", "use_g_prompt")
    assert coda.config.prompt_param == (100, 8, 0.0) and isinstance(coda.config.prompt_param[1], int)
    assert not coda.unused and coda.config.convnet_type == "vit_base_patch16_224_coda_prompt"


def test_published_pilot_mos_file(write):
    loaded = published(write, "mos")
    assert (loaded.config.adapter_momentum, loaded.config.ca_epochs, loaded.config.ffn_num) == (0.2, 30, 16)
    assert loaded.unused == ("ca_lr", "ensemble", "reg")


def test_pilots_alpha_is_divided_as_there(write):
    config = load_config(write({**MINIMAL, "model_name": "ease", "alpha": 0.2})).config
    assert (config.subspace_weight, config.published_subspace_weight) == (0.2, True)
    config = load_config(write({**MINIMAL, "alpha": 0.2, "published_subspace_weight": False})).config
    assert (config.subspace_weight, config.published_subspace_weight) == (0.2, False)
    assert not load_config(write({**MINIMAL, "subspace_weight": 0.2})).config.published_subspace_weight


def test_half_a_token_is_refused(write):
    told = refused(write({**MINIMAL, "prompt_param": [100, 7.5, 0.1]}))
    assert "'prompt_param.1' = 7.5" in told


def test_published_pilot_finetune_file(write):
    loaded = load_config(write(PILOT_FINETUNE))
    config = loaded.config
    assert (config.init_epochs, config.inc_epochs, config.init_lr, config.inc_lr) == (20, 15, 1e-3, 2e-3)
    assert loaded.unused == ("init_lr_decay", "init_milestones", "init_weight_decay", "lrate_decay", "milestones")


def test_published_pycil_file(write):
    loaded = load_config(write(PYCIL))
    assert loaded.unused == ("wb-project",)
    assert loaded.config.model_name == "finetune" and loaded.config.device == "cuda"
    assert log_stem(loaded.config, 1993) == PurePosixPath("finetune/cifar100/50/10/reproduce_1993_resnet32")


def test_pilots_constant_and_step_schedules(write):
    assert load_config(write({**MINIMAL, "scheduler": "constant"})).config.schedule == "constant"
    step = load_config(write({**MINIMAL, "scheduler": "steplr"}))
    assert step.config.schedule == "cosine" and step.unused == ("scheduler",)


def test_alone_epochs_and_lrate_count_for_all_sessions(write):
    config = load_config(write({**MINIMAL, "epochs": 7, "lrate": 0.3})).config
    assert (config.init_epochs, config.inc_epochs, config.init_lr, config.later_lr) == (7, 7, 0.3, 0.3)


@pytest.mark.parametrize("name", ["cifar224", "cub", "imagenetr", "imageneta"])
def test_shipped_ssiat_experiments(name):
    config = load_config(ROOT / f"exps/adapter_{name}.json").config
    assert (config.dataset, config.init_cls, config.increment, config.seed) == (name, 20, 20, (1993, 1996, 1997))
    assert (config.init_epochs, config.inc_epochs, config.ca_epochs, config.batch_size) == (20, 10, 5, 48)
    assert config.margin == (0.3 if name == "imageneta" else 0.0)
    assert config.shuffle == (name != "cub") and ("in21k" in config.convnet_type) == (name != "cub")


@pytest.mark.parametrize(
    ("given_device", "device"),
    [(["0"], "cuda"), (["0", "1"], "cuda"), (["2"], "cuda:2"), (0, "cuda"), ("cuda:1", "cuda:1"), ([-1], "cpu")],
)
def test_device_forms(given_device, device):
    assert minimal(device=given_device).device == device


def test_unknown_key_names_file_line_and_nearest(write):
    message = refused(write('{\n "dataset": "a",\n "batch_sise": 3}'))
    assert message.endswith("x.json:3: unknown key 'batch_sise'; did you mean 'batch_size' or 'forget_batch_size'?")
    assert "did you mean 'sessions'" in refused(write({**MINIMAL, "session": []}))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("batch_size", "48", "expected a whole number"),
        ("batch_size", True, "expected a whole number"),
        ("batch_size", 0, "must be at least 1"),
        ("init_epochs", -1, "must be at least 0"),
        ("init_lr", 0, "must be above 0"),
        ("init_lr", float("nan"), "expected a finite number"),
        ("init_lr", [0.1], "expected a number"),
        ("adapter_dropout", 1, "must be below 1"),
        ("ssca", "yes", "expected true or false"),
        ("dataset", "", "must not be empty"),
        ("dataset", 3, "expected text"),
        ("dataset", None, "expected text"),
        ("model_name", 3, "expected text"),
        ("optimizer", "rmsprop", 'expected "sgd", "adam" or "adamw"'),
        ("sigma", "wide", 'expected "auto" or a number'),
        ("sigma", -1, "must be above 0"),
        ("seed", [], "at least 1"),
        ("seed", [1, 1], "'1' is listed twice"),
        ("seed", -5, "must be at least 0"),
        ("seed", [2**32], "must be below"),
        ("device", "gpu", "GPU numbers"),
        ("device", [], "GPU numbers"),
        ("device", True, "GPU numbers"),
        ("crop_scale", [0.1], "too short"),
        ("crop_scale", [0.1, 0.2, 0.3], "at most 2"),
        ("templates", ["a photo"], "holds {} once"),
        ("exclude", "Audi A7", "expected a list"),
        ("exclude", ["a", "a"], "'a' is listed twice"),
        ("logs", "a\0b", "no file name"),
        ("prefix", "\ud800", "no file name"),
        ("unlearn_loss", "hindge", "expected"),
        ("tune", "head", 'expected "all", "image", "text", "adapter" or "lora"'),
        ("kl_fine", -1, "must be at least 0"),
        ("npo_beta", 0, "must be above 0"),
        ("salun_share", 1.5, "must be at most 1"),
        ("lora_rank", 0, "must be at least 1"),
        ("forget_lr", 0.0, "must be above 0"),
        ("keep_history", "no", "expected true or false"),
    ],
)
def test_wrong_value_names_file_line_key_and_wish(write, key, value, says):
    message = refused(write({**MINIMAL, key: value}))
    line = [*MINIMAL, *([] if key in MINIMAL else [key])].index(key) + 2
    assert f"x.json:{line}: '{key}" in message and says in message


def test_missing_key(write):
    for key in ("dataset", "model_name", "convnet_type"):
        message = refused(write({name: MINIMAL[name] for name in MINIMAL if name != key}))
        assert "x.json: key " in message and f"'{key}' is missing" in message


def test_no_such_file_names_its_neighbours(write, tmp_path):
    write(MINIMAL, "adapter_cub.json")
    assert "no such experiment file; did you mean 'adapter_cub.json'?" in refused(tmp_path / "adapter_cup.json")
    assert "no such experiment file" in refused(tmp_path / "nowhere" / "x.json")
    assert "cannot be read" in refused(tmp_path)


def test_not_json_names_line_and_column(write):
    assert "x.json:2: not JSON" in refused(write('{"dataset": "a",\n oops}'))
    assert "column 2" in refused(write('{"dataset": "a",\n oops}'))
    assert "x.json:1: not JSON" in refused(write(""))
    assert "expected one JSON object" in refused(write("[1]"))
    assert "nested too deeply" in refused(write("[" * 200_000))
    assert "not readable as JSON" in refused(write('{"dataset": ' + "1" * 5000 + "}"))


def test_not_text(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00{")
    assert "not readable as JSON" in refused(tmp_path / "x.json")


def test_key_twice(write):
    assert "x.json:3: key 'dataset' stands there twice" in refused(write('{"dataset": "a",\n"b": 1,\n"dataset": "c"}'))


def test_alias_and_name_must_agree(write):
    assert load_config(write({**MINIMAL, "backbone_type": "tiny_vit"})).config.convnet_type == "tiny_vit"
    assert "'backbone_type' means 'convnet_type'" in refused(write({**MINIMAL, "backbone_type": "tiny_clip"}))


def test_streams_exclude_each_other(write):
    assert "'sessions' and 'init_cls' both describe the stream" in refused(write({**STREAM, "init_cls": 2}))
    assert "'sessions' and 'num_tasks' both" in refused(write({**STREAM, "num_tasks": 2, "per_forget_cls": 1}))
    assert "'num_tasks' and 'init_cls' both" in refused(write({**TASKS, "init_cls": 2}))
    assert "no sessions" in refused(write({key: STREAM[key] for key in STREAM if key != "sessions"}))
    assert "no sessions" in refused(write({**STREAM, "sessions": None, "increment": 2}))


TASKS = {**MINIMAL, "init_cls": None, "increment": None, "num_tasks": 4, "per_forget_cls": 20}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"per_forget_cls": None}, "'num_tasks' needs 'per_forget_cls'"),
        ({"data_ratio": 0.1, "few_shot_num": 4}, "'data_ratio' and 'few_shot_num' both"),
        ({"num_tasks": None, "per_forget_cls": None, "init_cls": 2, "data_ratio": 0.1}, "'data_ratio' goes with"),
    ],
)
def test_published_tasks_must_be_whole(write, changes, told):
    assert told in refused(write({**TASKS, **changes}))


def test_a_stream_given_anew_replaces_one_of_another_form(write):
    write({**TASKS, "data_ratio": 0.1}, "tasks.json")
    assert load_config(write({"base": "tasks.json", **STREAM})).config.num_tasks is None
    write(STREAM, "stream.json")
    config = load_config(write({"base": "stream.json", "num_tasks": 2, "per_forget_cls": 1})).config
    assert config.sessions is None and config.num_tasks == 2
    fewer = load_config(write({"base": "tasks.json", "num_tasks": 2})).config  # the same form: the rest stays
    assert (fewer.num_tasks, fewer.per_forget_cls, fewer.data_ratio) == (2, 20, 0.1)


def test_base_is_relative_recursive_and_shallow(write, tmp_path):
    (tmp_path / "sub").mkdir()
    write({**MINIMAL, "margin": 0.1, "crop_scale": [0.2, 0.9], "vpt_type": "deep"}, "top.json")
    write({"base": "../top.json", "margin": 0.2, "scale": 9}, "sub/middle.json")
    loaded = load_config(write({"base": "sub/middle.json", "scale": 8, "crop_scale": [0.5, 0.6]}))
    assert (loaded.config.margin, loaded.config.scale, loaded.config.crop_scale) == (0.2, 8.0, (0.5, 0.6))
    assert loaded.unused == ("vpt_type",)


def test_base_mistakes(write):
    write({"base": "x.json"}, "y.json")
    assert "circle" in refused(write({"base": "y.json", **MINIMAL}))
    assert "circle" in refused(write({"base": "x.json"}))
    assert "x.json:2: 'base' = 3" in refused(write({"base": 3}))
    assert "no such experiment file" in refused(write({"base": "none.json"}))
    for odd in ("\ud800", "a\0b", "x" * 5000, ".."):
        refused(write({"base": odd}))
    write({**MINIMAL, "margin": "big"}, "z.json")
    assert "z.json:7: 'margin'" in refused(write({"base": "z.json"}))  # the file that says it, not the one asked for


def test_a_stream_in_the_upper_file_replaces_either_form(write):
    write(MINIMAL, "increments.json")
    write(STREAM, "stream.json")
    assert load_config(write({"base": "increments.json", "sessions": [{"learn": 2}]})).config.init_cls is None
    assert load_config(write({"base": "stream.json", "init_cls": 2})).config.sessions is None


def test_shorthand_of_the_upper_file_wins(write):
    write({**MINIMAL, "init_epochs": 50, "inc_epochs": 40}, "base.json")
    config = load_config(write({"base": "base.json", "tuned_epoch": 3})).config
    assert (config.init_epochs, config.inc_epochs) == (3, 3)
    config = load_config(write({**MINIMAL, "tuned_epoch": 3, "inc_epochs": 4})).config
    assert (config.init_epochs, config.inc_epochs) == (3, 4)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("margin=0.3", "margin", 0.3),
        ("seed=[1, 2]", "seed", [1, 2]),
        ("dataset=cub", "dataset", "cub"),
        ("weights=null", "weights", None),
        ("prefix=a=b", "prefix", "a=b"),
        ("prefix=", "prefix", ""),
        ("a.b={", "a.b", "{"),
    ],
)
def test_parse_override(text, key, value):
    assert parse_override(text) == (key, value)


@pytest.mark.parametrize("text", ["margin", "=3", " =3", 'a={"b":1,"b":2}'])
def test_parse_override_refuses(text):
    with pytest.raises(ConfigError):
        parse_override(text)


def test_overrides_win_and_are_named(write):
    path = write({**STREAM, "tuned_epoch": 9})
    loaded = load_config(path, {"init_epochs": 1, "sessions.0.learn": 6, "backbone_type": "tiny_clip"})
    config = loaded.config
    assert (config.init_epochs, config.inc_epochs, config.convnet_type) == (1, 9, "tiny_clip")
    assert config.sessions[0].learn == 6
    assert refused(path, {"margin": "x"}).startswith("--set margin: 'margin' = \"x\"")
    assert "unknown key 'marjin'; did you mean 'margin'" in refused(path, {"marjin": 1})
    assert "can only stand in a file" in refused(path, {"base": "y.json"})
    assert "no entry '3' in a list of 1" in refused(path, {"sessions.3.learn": 6})
    assert "has no part" in refused(path, {"dataset.x": 6})


def test_resolved_reads_back_as_the_same(write):
    sessions = [{"learn": ["é"]}, {"forget": {"fine": ["x"], "coarse": 2}}, {"learn": 2, "repeat": 3}]
    for content in (SSIAT, {**STREAM, "sessions": sessions, "templates": ["a {}"], "about": ["b"]}):
        config = load_config(write(content)).config
        assert load_config(write(resolved(config), "again.json")).config == config


def test_config_hash_follows_the_results_only():
    config = minimal()
    assert len(config_hash(config)) == 8 and int(config_hash(config), 16) >= 0
    for key, value in {
        "logs": "x",
        "workers": 0,
        "cache_gb": 1,
        "cache_dir": "x",
        "cache_dir_gb": 1,
        "device": "cpu",
        "prefix": "p",
        "seed": 3,
        "keep_history": True,
    }.items():
        assert config_hash(config.changed(**{key: value})) == config_hash(config)
    for key, value in {"margin": 0.1, "jpeg_side": 224, "dataset": "cub", "init_cls": 5, "ca": False}.items():
        assert config_hash(config.changed(**{key: value})) != config_hash(config)
    assert config_hash(config.changed(scale=20)) == config_hash(config)


def test_hashes_do_not_move():
    # runs in users' folders are found by these
    assert config_hash(minimal()) == "4092b37b"
    assert stream_hash(Config(**STREAM)) == "cb50f215"


def test_stream_hash_sees_the_stream_only():
    def streamed(sessions, **keys):
        return stream_hash(Config(**{**STREAM, "sessions": sessions, **keys}))

    assert streamed([{"learn": 2, "repeat": 2}], margin=0.5) == streamed([{"learn": 2}, {"learn": 2}])
    assert streamed([{"forget": ["a"]}]) == streamed([{"forget": {"classes": ["a"], "level": "fine"}}])
    assert streamed([{"forget": 2}]) != streamed([{"learn": 2}])


def test_log_stem():
    assert log_stem(minimal(prefix="p"), 3) == PurePosixPath("adapter/toymini/0/4/p_3_tiny_vit")
    assert log_stem(minimal(init_cls=6), 3) == PurePosixPath("adapter/toymini/6/4/_3_tiny_vit")
    assert log_stem(minimal(increment=None), 3) == PurePosixPath("adapter/toymini/0/4/_3_tiny_vit")
    stream = Config(**STREAM)
    assert log_stem(stream, 1) == PurePosixPath(f"adapter/toymini/sessions/{stream_hash(stream)}/_1_tiny_vit")


def test_log_stem_stays_in_its_folder():
    stem = log_stem(minimal(dataset="..", convnet_type="hf-hub:a/b\\c", prefix="../../x\n"), 3)
    assert stem == PurePosixPath("adapter/--/0/4/..-..-x-_3_hf-hub:a-b-c")
    stem = log_stem(minimal(prefix="é" * 300), 3)
    assert len(stem.name.encode()) <= 200 and stem != log_stem(minimal(prefix="é" * 301), 3)


def test_schema_file_is_current():
    shipped = json.loads((ROOT / "exps/schema.json").read_text(encoding="utf-8"))
    assert shipped == json_schema(), "write_schema(Path('exps/schema.json')) brings it up to date"


def test_schema_names_every_key_with_a_line():
    properties = json_schema()["properties"]
    assert {*Config.model_fields, *ALIASES, *SHORTHANDS, *UNUSED_KEYS, "base"} <= set(properties)
    for key, field in Config.model_fields.items():
        assert field.description and "\n" not in field.description, key


def test_unused_keys_have_no_use():
    assert not UNUSED_KEYS & {*Config.model_fields, *ALIASES, *SHORTHANDS}


def test_import_is_light():
    code = (
        "import sys, utils.config; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'timm', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
