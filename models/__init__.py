"""The factory: from `model_name` to a learner; and `load_run`, from a run's folder to its trained model."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import ConfigError, nearest

if TYPE_CHECKING:
    from models.inference import LoadedRun

# name → (module, class, one line); modules are imported when asked for, so that listing is instant.
LEARNERS: dict[str, tuple[str, str, str]] = {
    "adapter": (
        "models.knowledge_tracing",
        "KnowledgeTracingLearner",
        "SSIAT to learn, knowledge tracing to forget: shared parallel adapters, prototypes, alignment",
    ),
    "finetune": ("models.finetune", "FinetuneLearner", "all weights on the new classes only: the lower bound"),
    "retrain": (
        "models.retrain",
        "RetrainLearner",
        "all weights anew: on everything seen so far (joint upper bound), or on what is to stay",
    ),
    "simplecil": ("models.simplecil", "SimpleCilLearner", "frozen backbone, class means as cosine rows"),
    "aper_finetune": ("models.aper", "AperFinetuneLearner", "tuned in the first session, beside the original; means"),
    "aper_adapter": ("models.aper", "AperAdapterLearner", "the same by adapters"),
    "ranpac": (
        "models.ranpac",
        "RanPacLearner",
        "adapters in the first session; ridge regression on a random projection",
    ),
    "ease": ("models.ease", "EaseLearner", "adapters a session, class means in all their spaces, seen or guessed"),
    "slca": ("models.slca", "SlcaLearner", "a slow backbone under fast rows, aligned on drawn features"),
    "l2p": (
        "models.l2p",
        "L2PLearner",
        "frozen backbone, a pool of prompts; an image takes those with the nearest keys",
    ),
    "dualprompt": (
        "models.dualprompt",
        "DualPromptLearner",
        "frozen backbone, prefixes of all sessions and of each, found by its key",
    ),
    "coda_prompt": (
        "models.coda_prompt",
        "CodaPromptLearner",
        "frozen backbone, prefixes summed of components by attention",
    ),
    "mos": ("models.mos", "MosLearner", "adapters a session, merged while they learn, found by what they say"),
    "replay": (
        "models.rehearsal",
        "RehearsalLearner",
        "all weights, on the new images and a few kept ones",
    ),
    "icarl": ("models.icarl", "ICarlLearner", "the same with distillation; the nearest mean of the kept images"),
    "pretrain": (
        "models.pretrain",
        "PretrainLearner",
        "makes a backbone: contrastive, supervised, or locked-image tuning",
    ),
    "ga": ("models.unlearner", "GradientAscentLearner", "unlearning: gradient ascent"),
    "gdiff": ("models.unlearner", "GradientDifferenceLearner", "unlearning: gradient difference"),
    "kl": ("models.unlearner", "KLAscentLearner", "unlearning: gradient ascent + KL to the original"),
    "npo": ("models.unlearner", "NPOLearner", "unlearning: negative preference + KL to the original"),
    "hinge": ("models.unlearner", "HingeLearner", "unlearning: hinge (NHL) + KL to the original"),
    "me": ("models.unlearner", "MaximumEntropyLearner", "unlearning: maximum entropy + CE on what stays"),
    "relabeling": ("models.relabel", "RelabelingLearner", "unlearning: wrong names for the exemplars"),
    "salun": ("models.relabel", "SalUnLearner", "unlearning: relabeling of the salient weights alone"),
    "task_vector": ("models.task_vector", "TaskVectorLearner", "unlearning: fine-tune, then step the other way"),
    "l2": ("models.quadratic", "L2Learner", "new names, or wrong ones to forget; no weight far from where it was"),
    "ewc": ("models.quadratic", "EWCLearner", "the same, weighed by Fisher information"),
    "mas": ("models.quadratic", "MASLearner", "the same, weighed by what the logits depend on"),
    "oracle": ("models.oracle", "OracleLearner", "unlearning: swap in a model that has never seen the concepts"),
    "lwf": ("models.lwf", "LwFLearner", "new names, or wrong ones to forget; distillation on what stays"),
    "der": ("models.der", "DERLearner", "continual forgetting: wrong names, embeddings of what stays matched"),
    "der_pp": ("models.der", "DERPlusLearner", "continual forgetting: DER + CE on what stays"),
    "fdr": ("models.fdr", "FDRLearner", "continual forgetting: wrong names, logits of what stays matched"),
    "lirf": ("models.lirf", "LIRFLearner", "continual forgetting: the lower half unlearns and looks elsewhere"),
    "scrub": ("models.scrub", "SCRUBLearner", "continual forgetting: away from the teacher, and back on what stays"),
    "scrub_s": ("models.scrub", "SCRUBSLearner", "continual forgetting: SCRUB held to a running average of itself"),
    "gs_lora": ("models.gs_lora", "GSLoRALearner", "continual forgetting: group-sparse LoRA"),
    "gs_lora_pp": ("models.gs_lora", "GSLoRAPlusLearner", "continual forgetting: GS-LoRA++, away from prototypes"),
    "head_only": (
        "models.head_only",
        "HeadOnlyLearner",
        "control: hides classes in the classifier, erases nothing",
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


def load_run(folder: str | Path, device: str = "auto") -> LoadedRun:
    """The trained model of a run, ready to be asked: `names, probabilities = load_run(folder).predict("photo.jpg")`.

    Args:
        folder: of a finished run, the one that holds `config.json`.
        device: "auto", "cpu", "cuda" or "cuda:1".

    Raises:
        LetheError: there is no finished run, or the index of its data set (not its images) or its weights are gone.
    """
    from models.inference import load

    return load(Path(folder), device)


def accepted(model_name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that a learner's constructor takes, also through the `**options` it hands on."""
    known = _keywords(learner_class(model_name))
    return {name: value for name, value in options.items() if name in known}


def _keywords(learner: type) -> set[str]:
    known = set()
    for owner in (owner for owner in learner.__mro__ if "__init__" in vars(owner)):
        parameters = inspect.signature(owner.__init__).parameters
        known |= set(parameters)
        if not any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
            break
    return known
