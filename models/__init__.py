"""The factory: from `model_name` to a learner."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from utils.errors import ConfigError, nearest

# name → (module, class, one line); modules are imported when asked for, so that listing is instant.
LEARNERS: dict[str, tuple[str, str, str]] = {
    "adapter": (
        "models.adapter",
        "AdapterLearner",
        "SSIAT: shared parallel adapters, prototypes, classifier alignment",
    ),
    "finetune": ("models.finetune", "FinetuneLearner", "all weights on the new classes only: the lower bound"),
    "retrain": ("models.retrain", "RetrainLearner", "all weights on everything seen so far: the joint upper bound"),
    "simplecil": ("models.simplecil", "SimpleCilLearner", "frozen backbone, class means as cosine rows"),
    "pretrain": (
        "models.pretrain",
        "PretrainLearner",
        "makes a backbone: contrastive, supervised, or locked-image tuning",
    ),
}


def learner_class(model_name: str) -> type:
    """The class behind a `model_name`.

    Raises:
        ConfigError: unknown name; the nearest known ones are named.
    """
    if model_name not in LEARNERS:
        raise ConfigError(f"key 'model_name': no learner '{model_name}'{nearest(model_name, LEARNERS)}")
    module, name, _ = LEARNERS[model_name]
    return getattr(importlib.import_module(module), name)


def get_model(model_name: str, model: Any, **options: Any) -> Any:
    """A learner over a model.

    Args:
        model_name: a key of `LEARNERS`.
        model: a `convs.model.Model`.
        options: keyword arguments of the learner.
    """
    return learner_class(model_name)(model, **options)


def accepted(model_name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that a learner's constructor takes."""
    known = inspect.signature(learner_class(model_name)).parameters
    return {name: value for name, value in options.items() if name in known}
