"""What a JSON experiment may say: every key with its type, its range, its default and one line on what it does.

Names and meanings are those of PyCIL, LAMDA-PILOT and SSIAT where these have the key; the defaults are SSIAT's
(CVPR 2024, section 4.1). A further key is one further line of `Config`.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator

from utils.published import ALIASES, SHORTHANDS, UNUSED_KEYS
from utils.requests import Entry, Name, Names, distinct, expand

# changing one of these leaves the figures of a run as they are
NO_EFFECT = {
    "about",
    "prefix",
    "plugins",
    "seed",
    "device",
    "workers",
    "cache_gb",
    "cache_dir",
    "cache_dir_gb",
    "data_root",
    "outside_root",
    "logs",
    "checkpoint_every",
    "keep_history",
    "tracker",
    "grad_checkpointing",
    "audit",
}

Count = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
NotNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Above0 = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Below1 = Annotated[float, Field(strict=True, ge=0, lt=1)]
UpTo1 = Annotated[float, Field(strict=True, ge=0, le=1)]
Auto = Literal["auto"]


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, int) else value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _device(value: Any) -> Any:
    """PILOT's list of GPU numbers as the one device it starts on; -1 is the CPU there."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    if isinstance(first, bool) or not re.fullmatch(r"-1|\d{1,3}|auto|cpu|cuda(:\d{1,3})?", str(first).strip().lower()):
        raise ValueError('expected "auto", "cpu", "cuda", "cuda:1" or a list of GPU numbers such as ["0"]')
    name = str(first).strip().lower()
    return {"-1": "cpu", "0": "cuda"}.get(name, f"cuda:{name}" if name.isdigit() else name)


def _template(value: str) -> str:
    if value.count("{}") != 1:
        raise ValueError("a template holds {} once, where the class name goes")
    return value


Whole = Annotated[Positive, BeforeValidator(_whole)]  # PILOT's files write 8.0
Template = Annotated[str, AfterValidator(_template)]
Level0to1 = Annotated[float, Field(strict=True, gt=0, le=1)]


class Config(BaseModel):
    """One experiment, complete and checked; a run depends on nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    about: str | tuple[str, ...] = Field(
        "", description="what the experiment is, its command, run time and score; for readers only"
    )
    prefix: str = Field("", description="first part of the log's name")
    dataset: Name = Field(description="name of the data set, see `main.py --list`")
    model_name: Annotated[Name, BeforeValidator(_lower)] = Field(
        description="name of the learner, see `main.py --list`"
    )
    convnet_type: Name = Field(description="backbone: one of ours, a PILOT name, any timm ViT or any open_clip model")
    plugins: Annotated[tuple[Name, ...], AfterValidator(distinct)] = Field(
        (), description="Python files with learners of your own, relative to this file; they are executed"
    )
    plugins_digest: str = Field(
        "", description="eight digits of what the plugins hold, filled in when they are read: other code, other runs"
    )
    weights: Name | None = Field(
        None, description='null: the backbone\'s own weights; "random"; or a local weights file'
    )
    img_size: Positive | None = Field(None, description="image side in pixels; null: the backbone's own")
    shuffle: StrictBool = Field(True, description="class order shuffled by the seed, or the data set's own order")
    init_cls: Positive | Literal["all"] | None = Field(
        None, description="classes of the first session; all: one session"
    )
    increment: Positive | None = Field(None, description="classes of every later session")
    sessions: Annotated[tuple[Entry, ...], Field(min_length=1)] | None = Field(
        None, description="stream of learn and forget requests, instead of `init_cls` and `increment`"
    )
    num_tasks: Positive | None = Field(
        None, description="GS-LoRA's stream: so many forget requests in a row, each from the end of the class order"
    )
    num_of_first_cls: Positive | None = Field(
        None, description="with `num_tasks`: classes left after the first request; null: all but `per_forget_cls`"
    )
    per_forget_cls: Positive | None = Field(None, description="with `num_tasks`: classes of every request")
    data_ratio: Level0to1 | None = Field(
        None, description="with `num_tasks`: share of each class's images that a request shows; null: all"
    )
    few_shot_num: Positive | None = Field(
        None, description="with `num_tasks`: images of each class that a request shows, instead of a share"
    )
    open_cls_num: Count = Field(
        0, description="with `num_tasks`: classes to keep, the first in class order, that no request shows"
    )
    known: Literal["auto", "none", "rest"] | Names = Field(
        "auto",
        description="classes known before the stream: none, rest (all that no session teaches), a list, or auto: rest "
        "where the stream starts with a forget request, else none",
    )
    validation: Below1 = Field(
        0.0, description="share of the training images to test on instead of the test images, for choosing settings"
    )
    zero_shot: Annotated[tuple[Name, ...], AfterValidator(distinct)] = Field(
        (), description="data sets on which zero-shot accuracy is measured before and after each forget request"
    )
    device: Annotated[str, BeforeValidator(_device)] = Field(
        "auto",
        description="auto, cpu, cuda, cuda:1 or PILOT's list of GPU numbers; falls back to the CPU",
        json_schema_extra={"type": ["string", "integer", "array"]},
    )
    precision: Annotated[Literal["auto", "fp32", "bf16"], BeforeValidator(_lower)] = Field(
        "auto", description="what the towers compute in; auto: bf16 where the hardware multiplies it faster, else fp32"
    )
    clip_grad: Above0 | None = Field(None, description="longest gradient of a step; null: any")
    max_loss: Above0 | None = Field(None, description="training stops where a step's loss is above it; null: never")
    accumulate: Positive = Field(
        1, description="pieces that the batches of a step go through memory in; the step stays one"
    )
    grad_checkpointing: StrictBool = Field(
        False, description="less memory, more time: what happens inside a block is computed again for its gradients"
    )
    compile: StrictBool = Field(False, description="the image tower compiled by torch; the first steps take minutes")
    seed: Annotated[tuple[Seed, ...], Field(min_length=1), BeforeValidator(_listed), AfterValidator(distinct)] = Field(
        (1993,), description="one run for each seed", json_schema_extra={"type": ["integer", "array"]}
    )
    memory_size: Count = Field(0, description="stored images of past classes in all, for learners that replay")
    memory_per_class: Count = Field(0, description="stored images per past class where `fixed_memory` is set")
    fixed_memory: StrictBool = Field(False, description="the memory is counted per class, not in all")
    batch_size: Positive = Field(48, description="images of one step")
    init_lr: Above0 = Field(0.01, description="learning rate of the first session")
    inc_lr: Above0 | None = Field(None, description="learning rate of later sessions; null: `init_lr`")
    init_epochs: Count = Field(20, description="epochs of the first session")
    inc_epochs: Count = Field(10, description="epochs of every later session")
    weight_decay: NotNegative = Field(5e-4, description="weight decay")
    momentum: Below1 = Field(0.9, description="momentum of SGD")
    min_lr: NotNegative = Field(0.0, description="learning rate at the end of the cosine")
    optimizer: Annotated[Literal["sgd", "adam", "adamw"], BeforeValidator(_lower)] = Field(
        "sgd", description="optimizer"
    )
    schedule: Annotated[Literal["cosine", "constant"], BeforeValidator(_lower)] = Field(
        "cosine", description="course of the learning rate over a phase"
    )
    warmup_steps: Count = Field(0, description="steps of linear warm-up at the start of a phase")
    ffn_num: Positive = Field(64, description="bottleneck width of the adapters")
    adapter_scale: Above0 = Field(0.1, description="factor on an adapter's output")
    adapter_dropout: Below1 = Field(0.1, description="dropout inside the adapters")
    adapter_towers: Literal["image", "both"] = Field("image", description="of a CLIP, which towers have adapters")
    tune_blocks: Positive | None = Field(
        None,
        description="adapters and LoRA sit in so many of the last blocks, what lies below is computed once; null: all",
    )
    rp_size: Positive = Field(10_000, description="ranpac: width M of the random projection")
    scale: Above0 = Field(20.0, description="scale s of the cosine logits")
    margin: UpTo1 = Field(0.0, description="CosFace margin m; pretrain: that of its margin_head, 0: the head's own")
    ssca: StrictBool = Field(True, description="semantic shift correction of stored prototypes")
    ca: StrictBool = Field(True, description="classifier alignment by Gaussian samples")
    ca_epochs: Count = Field(5, description="epochs of classifier alignment")
    ca_samples: Positive = Field(256, description="features drawn per class and alignment epoch")
    prompt_pool_size: Positive = Field(10, description="l2p: prompts M of the pool")
    prompt_top_k: Positive = Field(5, description="l2p: prompts N that an image takes from the pool")
    prompt_length: Positive | None = Field(
        None, description="tokens of a prompt of l2p's pool or of dualprompt's E-Prompts; null: 5 and 20"
    )
    pull_constraint_coeff: NotNegative = Field(
        0.5, description="l2p, dualprompt: weight λ of how far queries are from the keys of their prompts"
    )
    g_prompt_length: Positive = Field(5, description="dualprompt: tokens of the G-Prompt, which all sessions share")
    g_prompt_layer_idx: tuple[Count, ...] | None = Field(
        None, description="dualprompt: blocks with the G-Prompt, from 0; null: 0 and 1"
    )
    e_prompt_layer_idx: tuple[Count, ...] | None = Field(
        None,
        description="dualprompt, coda_prompt: blocks with E-Prompts or components, from 0; null: 2 to 4, and 0 to 4, "
        "where the backbone has them",
    )
    prompt_param: tuple[Positive, Whole, NotNegative] = Field(
        (100, 8, 0.1),
        description="coda_prompt: components of all sessions together, tokens of each, weight of their orthogonality",
    )
    adapter_momentum: UpTo1 = Field(
        0.1, description="mos: how far a step takes adapters to the mean of those of earlier sessions"
    )
    subspace_weight: NotNegative = Field(0.1, description="ease: weight α of the spaces of other sessions")
    published_subspace_weight: StrictBool = Field(
        False, description="ease: α is divided by the number of other sessions, as in PILOT's code"
    )
    ca_with_logit_norm: NotNegative | None = Field(
        0.1, description="slca: temperature of logits of unit length in the alignment; null or 0: logits as they are"
    )
    bcb_lr_scale: Level0to1 = Field(0.01, description="slca: the backbone's learning rate as a share of the rows'")
    sigma: Auto | Above0 = Field(
        4.0, description="width of the shift's kernel; auto: median distance of a feature to its class mean"
    )
    ridge: Auto | NotNegative = Field(
        1e-3, description="added to a covariance's diagonal; auto: 1e-3 of the mean feature variance"
    )
    coarse_weight: NotNegative = Field(0.0, description="weight of the loss on coarse labels")
    crop_scale: tuple[Level0to1, Level0to1] = Field(
        (0.05, 1.0), description="share of the image's area that a training crop keeps, least and most"
    )
    crop_ratio: tuple[Above0, Above0] = Field(
        (0.75, 4 / 3), description="width over height of a training crop, least and most"
    )
    flip: StrictBool = Field(True, description="random horizontal flips in training")
    workers: Count = Field(2, description="processes that decode and transform images; small passes do without")
    cache_gb: NotNegative = Field(
        4.0,
        description="memory limit, of each split, of decoded images or of what frozen blocks make of them, in GB",
    )
    cache_dir: Name | None = Field(None, description="folder of decoded images, for all runs and processes; null: none")
    cache_dir_gb: NotNegative = Field(
        64.0, description="limit of `cache_dir`, in GB: a run writes no more than it leaves when the run begins"
    )
    jpeg_side: Positive | None = Field(
        None, description="JPEGs are decoded at 1/2, 1/4 or 1/8, no side shorter than so many pixels; null: whole"
    )
    data_root: Name | None = Field(None, description="folder that image paths start from; null: as the index says")
    outside_root: StrictBool = Field(False, description="image paths of an index may lead out of its root")
    index_root: Name = Field("data/sets", description="folder of the data sets' indexes")
    logs: Name = Field("logs", description="folder for logs and results")
    exclude: Annotated[tuple[Name, ...], AfterValidator(distinct)] = Field(
        (), description="class names left out of training and test"
    )
    templates: Name | Annotated[tuple[Template, ...], Field(min_length=1), AfterValidator(distinct)] = Field(
        "plain", description="name of a set of text templates, or a list of templates that hold {}"
    )
    tune: Annotated[Literal["all", "image", "text", "adapter", "lora"], BeforeValidator(_lower)] = Field(
        "all", description="what moves: all, one tower, or what is added to it; pretrain: all, or text (locked-image)"
    )
    lora_rank: Positive = Field(8, description="rank of LoRA")
    lora_alpha: Above0 = Field(1.0, description="LoRA adds lora_alpha / lora_rank times its product to a weight")
    forget_epochs: Count = Field(8, description="epochs of a forget session")
    forget_lr: Above0 = Field(1e-7, description="learning rate of a forget session")
    forget_batch_size: Positive = Field(32, description="exemplars of one step of a forget session")
    forget_optimizer: Annotated[Literal["sgd", "adam", "adamw"], BeforeValidator(_lower)] = Field(
        "adamw", description="optimizer of a forget session"
    )
    forget_weight_decay: NotNegative = Field(1e-5, description="weight decay of a forget session")
    forget_min_lr: NotNegative = Field(0.0, description="learning rate of a forget session at the end of the cosine")
    forget_warmup_steps: Count = Field(0, description="steps of linear warm-up at the start of a forget session")
    reg_weight: NotNegative | None = Field(
        None, description="weight of what holds a learner to its teacher or its old weights; null: the method's own"
    )
    retain_weight: NotNegative | None = Field(
        None, description="weight of the cross-entropy on retained images; null: the method's own"
    )
    online: StrictBool = Field(False, description="l2, ewc, mas: one running penalty instead of one more a task")
    retrain_from: Literal["scratch", "pretrained"] = Field(
        "scratch", description="retrain: the weights that a forget session starts from"
    )
    oracle_weights: Name | None = Field(
        None,
        description="oracle, and audits: weights, as in `weights`, of a model that has never seen what it is to forget",
    )
    lora_pos: Literal["ffn", "attention"] = Field("ffn", description="where LoRA sits: both FFN layers, or qkv")
    lora_files: StrictBool = Field(False, description="gs_lora: save every task's LoRA in peft's format")
    group_type: Literal["block", "lora", "matrix"] = Field(
        "block", description="gs_lora: what one group of the lasso is"
    )
    group_alpha: NotNegative = Field(1e-4, description="gs_lora: weight α of the group lasso")
    group_alpha_epoch: Count = Field(0, description="gs_lora: the epoch, from 0, at which the lasso sets in")
    group_lasso: Literal["penalty", "proximal"] = Field(
        "penalty", description="gs_lora: the lasso as a loss term, or as a step that makes exact zeros"
    )
    bnd: NotNegative = Field(105.0, description="gs_lora: bound BND on the cross-entropy of what is forgotten")
    bnd_pro: NotNegative = Field(18.0, description="gs_lora_pp: the same bound on the distance to prototypes")
    cl_beta_list: Annotated[tuple[NotNegative, ...], Field(min_length=1)] = Field(
        (0.2,), description="gs_lora: weight β of forgetting, one a request or one for all"
    )
    cl_prof_list: Annotated[tuple[NotNegative, ...], Field(min_length=1)] = Field(
        (0.01,), description="gs_lora_pp: weight λ_f of leaving the prototypes, one a request or one for all"
    )
    prototypes: Literal["original", "published"] = Field(
        "original", description="gs_lora_pp: prototypes by the original model, or by the one before the request"
    )
    ema: Below1 = Field(0.0, description="gs_lora_pp: decay of the running average of the weights; 0: none")
    ema_from: Count = Field(0, description="gs_lora_pp: the epoch, from 0, after which the average begins")
    unlearn_loss: Annotated[
        Literal["ga", "gdiff", "kl", "npo", "hinge", "relabeling", "me"], BeforeValidator(_lower)
    ] = Field("hinge", description="loss of a forget session, for learners that take any")
    kl_fine: NotNegative | None = Field(
        None, description="weight of the KL to the original on fine logits; null: the loss's own"
    )
    kl_coarse: NotNegative | None = Field(None, description="the same on coarse logits")
    feature_weight: NotNegative = Field(
        0.0, description="adapter: weight of how far a forget session moves the exemplars' features"
    )
    name_weight: NotNegative = Field(
        10.0, description="adapter, adapter_towers both: weight of how far a forget session moves the names to keep"
    )
    npo_beta: Above0 = Field(0.5, description="inverse temperature β of NPO")
    margin_fine: NotNegative = Field(
        2.0, description="hinge: by how much another class must lead the forgotten one, in units of the logits"
    )
    margin_coarse: NotNegative = Field(2.0, description="the same on coarse logits")
    negation_scale: NotNegative = Field(1.5, description="task_vector: how many times the task vector is subtracted")
    negation_coarse: NotNegative = Field(
        0.05, description="task_vector: weight of the kept coarse labels, with negative sign"
    )
    salun_share: Level0to1 = Field(0.1, description="salun: share of the weights, the most salient ones, that may move")
    margin_head: Annotated[Literal["softmax", "cosface", "arcface", "sface"], BeforeValidator(_lower)] = Field(
        "softmax", description="pretrain: loss over the cosines of a backbone without text tower"
    )
    pairs: Name | None = Field(
        None, description="csv of image pairs (first,second,same; paths from its folder) to verify at the end"
    )
    audit: Annotated[tuple[Name, ...], AfterValidator(distinct)] = Field(
        (),
        description="audits that a run of forget requests ends with, see `main.py audit --help`; `oracle_weights` are "
        "the oracle beside it",
    )
    keep_history: StrictBool = Field(
        False,
        description="keep what a forget session would purge: statistics, older checkpoints, cached exemplars; and a "
        "few exemplars as pictures for the report",
    )
    tracker: Annotated[Literal["tensorboard", "wandb", "swanlab", "trackio"], BeforeValidator(_lower)] | None = Field(
        None, description="experiment tracker that is told every epoch's loss terms and every session's figures"
    )
    checkpoint_every: Count = Field(
        5, description="epochs between checkpoints within a session; 0: only after sessions"
    )

    @model_validator(mode="after")
    def _one_stream(self) -> Config:
        streams = {"sessions": self.sessions, "num_tasks": self.num_tasks}
        streams |= {"init_cls": self.init_cls} if self.init_cls is not None else {"increment": self.increment}
        given = [key for key, value in streams.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]!r} and {given[1]!r} both describe the stream; give the one or the other")
        if not given or given == ["increment"]:
            raise ValueError("no sessions: give 'init_cls' and 'increment', 'sessions', or 'num_tasks'")
        if self.init_cls == "all" and self.increment is not None:
            raise ValueError("'init_cls' is \"all\", which leaves nothing for 'increment'; give the one or the other")
        return self

    @model_validator(mode="after")
    def _tasks_complete(self) -> Config:
        beside = ("num_of_first_cls", "per_forget_cls", "data_ratio", "few_shot_num", "open_cls_num")
        given = [key for key in beside if getattr(self, key)]
        if self.num_tasks is None and given:
            raise ValueError(f"{given[0]!r} goes with 'num_tasks'; a stream of 'sessions' says it in its requests")
        if self.num_tasks is not None and self.per_forget_cls is None:
            raise ValueError("'num_tasks' needs 'per_forget_cls', the number of classes that a request takes")
        if self.data_ratio and self.few_shot_num:
            raise ValueError("'data_ratio' and 'few_shot_num' both say what a request shows; give the one or the other")
        return self

    @model_validator(mode="after")
    def _crop_in_order(self) -> Config:
        for key in ("crop_scale", "crop_ratio"):
            least, most = getattr(self, key)
            if least > most:
                raise ValueError(f"'{key}' is [least, most]; the first is above the second")
        return self

    @property
    def later_lr(self) -> float:
        """The learning rate of every session but the first."""
        return self.init_lr if self.inc_lr is None else self.inc_lr

    def changed(self, **values: Any) -> Config:
        """The same experiment with other values for some keys, checked again."""
        return Config.model_validate({**resolved(self), **values})


def resolved(config: Config) -> dict[str, Any]:
    """The experiment as a JSON object with every default written out; `load_config` reads it back as the same."""
    return config.model_dump(mode="json")


def config_hash(config: Config) -> str:
    """Eight hex digits over the keys that change a run's figures.

    Keys at their default do not count, so that a hash outlives versions that add keys.
    """
    return _digest(config.model_dump(mode="json", exclude_defaults=True, exclude=NO_EFFECT))


def stream_hash(config: Config) -> str:
    """Eight hex digits over the requests of `sessions`; the same stream, however abbreviated, has the same ones."""
    requests = expand(config.sessions or ())
    return _digest([[type(request).__name__, request.model_dump(mode="json")] for request in requests])


def log_stem(config: Config, seed: int) -> PurePath:
    """Where a run's log stands below `logs`, without its ending: PyCIL's path.

    With `sessions` the two folders of `init_cls` and `increment` are `sessions` and the stream's hash, with `num_tasks`
    they are `tasks` and their number and size.
    """
    if config.sessions is not None:
        stream = ("sessions", stream_hash(config))
    elif config.num_tasks is not None:
        stream = ("tasks", f"{config.num_tasks}x{config.per_forget_cls}")
    else:
        increment = config.increment or config.init_cls
        stream = (str(0 if config.init_cls == increment else config.init_cls), str(increment))
    name = f"{config.prefix}_{seed}_{config.convnet_type}"
    return PurePath(_safe(config.model_name), _safe(config.dataset), *stream, _safe(name))


def json_schema() -> dict[str, Any]:
    """The JSON schema of an experiment file, for editors: every key, its aliases and the published keys not used."""
    schema = Config.model_json_schema()
    schema.pop("required")  # a base file may give them
    schema["title"] = "Lethe experiment"
    named_set = {"type": "string", "description": "file.json#set or file.txt, relative to the experiment"}
    for owner, key in (
        ("Learn", "learn"),
        ("ForgetRequest", "classes"),
        ("HybridClasses", "fine"),
        ("HybridClasses", "coarse"),
    ):
        schema["$defs"][owner]["properties"][key]["anyOf"].append(named_set)
    classes = schema["$defs"]["ForgetRequest"]["properties"]["classes"]["anyOf"]
    schema["$defs"]["Forget"]["properties"]["forget"] = {"anyOf": [*classes, {"$ref": "#/$defs/ForgetRequest"}]}
    schema["properties"] = {**_notes(), **schema["properties"]}
    return schema


def _notes() -> dict[str, Any]:
    notes: dict[str, Any] = {
        "$schema": {"type": "string"},
        "base": {"type": "string", "description": "file to inherit from, relative to this one"},
    }
    notes |= {key: {"description": f"PILOT's name of `{other}`"} for key, other in ALIASES.items()}
    notes |= {
        key: {"description": f"stands for {' and '.join(others)} where absent"} for key, others in SHORTHANDS.items()
    }
    return notes | {key: {"description": "published key without use here"} for key in sorted(UNUSED_KEYS)}


def write_schema(path: Path) -> None:
    """Write the JSON schema of an experiment file."""
    path.write_text(json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:8]


def _safe(name: str) -> str:
    """A file name that cannot leave its folder; a long one keeps its start and a hash of the whole."""
    name = re.sub(r"[\x00-\x1f\x7f/\\]", "-", name)
    if len(name.encode("utf-8")) > 200:
        name = f"{name.encode('utf-8')[:190].decode('utf-8', 'ignore')}-{_digest(name)}"
    return "-" * len(name) if name in (".", "..") else name
