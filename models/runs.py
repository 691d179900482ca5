"""A run's folder, taken up again by those who did not train it."""

from pathlib import Path

import torch

from models.build import Built, build
from utils.checkpoint import RunCheckpoint, Saved
from utils.config import Config, config_hash, load_config
from utils.errors import CheckpointError
from utils.place import Place


def reopen(folder: Path, device: torch.device, *, images: bool = True, **changes: object) -> tuple[Config, Built]:
    """A run's config, and what it names as it was before the first session.

    Args:
        folder: of the run.
        device: where the model is to live.
        images: whether images will be asked for, see `build`.
        changes: keys of the config that the model is to be built with instead; none that changes its weights.

    Raises:
        LetheError: there is no run, or its data or weights are not there any more.
    """
    config = load_config(folder / "config.json").config
    return config, build(config.model_copy(update=changes), config.seed[0], device, images=images)


def trained(folder: Path, config: Config) -> Saved:
    """What training made of a run's learner, with the rows of its sessions as notes.

    Raises:
        CheckpointError: the run is not finished, or its checkpoint is damaged.
    """
    saved = RunCheckpoint(folder / "checkpoint", config_hash(config)).load_session()
    if saved is None or Place(folder).finished() is None:
        raise CheckpointError(f"{folder}: no finished run is here; finish it with --resume first")
    return saved
