"""`--smoke`: any experiment turned into a dry run of seconds, offline, on embedded miniatures.

Data and weights are replaced, epochs and streams shortened; learner, losses and every other setting stay, so that what
breaks in a smoke run would have broken in the real one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from utils.requests import ForgetRequest, HybridClasses, LearnRequest, Request, expand
from utils.schema import Config

DATASET = "toymini"
CLASSES = 12  # fine classes of the miniature, 4 makes of 3 models
BLOCKS = 4  # of the miniature backbones
SESSIONS = 4  # as many as are kept
TASKS = 2  # the same of requests that are all alike: the second has the first behind it


def smoke(config: Config, is_clip: Callable[[str], bool]) -> Config:
    """The dry run of an experiment.

    Args:
        config: the experiment.
        is_clip: tells from `convnet_type` whether the miniature must be an image–text model.
    """
    return config.changed(
        dataset=DATASET,
        data_root=None,
        exclude=(),
        weights="random" if config.weights == "random" else None,
        oracle_weights="random" if config.oracle_weights else None,  # an untrained model has seen nothing, either
        convnet_type=_miniature(config, is_clip),
        img_size=None,
        init_epochs=min(config.init_epochs, 2),
        inc_epochs=min(config.inc_epochs, 1),
        ca_epochs=min(config.ca_epochs, 1),
        forget_epochs=min(config.forget_epochs, 1),
        forget_batch_size=min(config.forget_batch_size, 16),
        known="rest" if isinstance(config.known, tuple) else config.known,
        zero_shot=(DATASET,) if config.zero_shot else (),
        pairs=None,
        ca_samples=min(config.ca_samples, 16),
        batch_size=min(config.batch_size, 16),
        warmup_steps=min(config.warmup_steps, 1),
        forget_warmup_steps=min(config.forget_warmup_steps, 1),
        rp_size=min(config.rp_size, 500),
        prompt_param=(min(config.prompt_param[0], 100), *config.prompt_param[1:]),
        g_prompt_layer_idx=_there(config.g_prompt_layer_idx),
        e_prompt_layer_idx=_there(config.e_prompt_layer_idx),
        checkpoint_every=1,
        workers=0,
        seed=config.seed[:1],
        logs=str(PurePath(config.logs, "smoke")),
        **_short_stream(config),
    )


def _there(blocks: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Those of some blocks that the miniatures have."""
    return blocks and tuple(block for block in blocks if block < BLOCKS)


def _miniature(config: Config, is_clip: Callable[[str], bool]) -> str:
    if config.model_name == "pretrain" and config.convnet_type.startswith("tiny_"):
        return config.convnet_type
    return "tiny_clip" if is_clip(config.convnet_type) else "tiny_vit"


def _short_stream(config: Config) -> dict[str, Any]:
    if config.sessions is not None:
        return {"sessions": _short_sessions(expand(config.sessions))}
    if config.num_tasks is not None:
        stream = {"num_tasks": min(config.num_tasks, TASKS), "num_of_first_cls": None, "per_forget_cls": 1}
        return stream | {"open_cls_num": min(config.open_cls_num, 1)}
    if config.increment is None:
        return {"init_cls": CLASSES}
    if config.model_name == "pretrain" and config.init_cls == config.increment:
        return {"init_cls": CLASSES, "increment": CLASSES}
    first, later = (4, 4) if config.init_cls == config.increment else (4, 3)
    if config.init_cls < config.increment:
        first, later = later, first
    return {"init_cls": first, "increment": later}


def _short_sessions(requests: list[Request]) -> list[dict[str, Any]]:
    """The first sessions in their order, among them one of each kind that the stream has."""
    kept = requests[:SESSIONS]
    for later in requests[SESSIONS:]:
        if not any(type(request) is type(later) for request in kept):
            kept = [*kept[:-1], later]
    learns = sum(isinstance(request, LearnRequest) for request in kept)
    return [
        _small_learn(request, learns, not place) if isinstance(request, LearnRequest) else _small_forget(request)
        for place, request in enumerate(kept)
    ]


def _small_learn(request: LearnRequest, learns: int, is_first: bool) -> dict[str, Any]:
    asked = request.classes if isinstance(request.classes, int) else len(request.classes)
    return {"learn": max(2 if is_first else 1, min(asked, CLASSES // learns))}


def _small_forget(request: ForgetRequest) -> dict[str, Any]:
    classes: Any = 1
    if isinstance(request.classes, HybridClasses):
        classes = {level: 1 for level, named in request.classes if named is not None}
    # exemplars from a folder belong to the data that is replaced
    exemplars = None if isinstance(request.exemplars, str) else request.model_dump(mode="json")["exemplars"]
    small = {"classes": classes, "exemplars": exemplars, "missing": min(request.missing, 1)}
    return {"forget": {**request.model_dump(mode="json"), **small}}
