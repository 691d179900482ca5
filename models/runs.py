"""A run's folder, taken up again by those who did not train it."""

import hashlib
from pathlib import Path

import torch

from data.manager import DataManager
from data.sessions import ClassOrder
from models import LEARNERS
from models.build import Built, build
from models.learner import Learner
from utils.checkpoint import RunCheckpoint, Saved
from utils.config import Config, config_hash
from utils.errors import CheckpointError, ConfigError
from utils.run_folder import config_of

# a run's folder of decoded images is read and not written: a purge has taken out what an audit looks at again
LOOKED_AT = {"cache_dir_gb": 0.0}


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
    config = config_of(folder)
    if config.plugins and config.model_name not in LEARNERS:
        raise ConfigError(
            f"{folder}: '{config.model_name}' comes from a plugin, and no command executes one; from Python, call "
            "models.plugins.load_plugins first"
        )
    return config, build(config.model_copy(update=LOOKED_AT | changes), config.seed[0], device, images=images)


def names_of(order: ClassOrder) -> dict[str, list[str]]:
    """The names behind the numbers in a checkpoint, level by level."""
    return {"fine": list(order.fine), "coarse": list(order.coarse)}


def images_of(manager: DataManager) -> str:
    """A hash of the training images in their order, by whose numbers a learner may know some."""
    paths = "\0".join(record.path for record in manager.indexed.splits["train"])
    return hashlib.sha256(paths.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def look_of(learner: Learner) -> dict[str, object]:
    """How images look to a learner's model: a config beside a file of weights may say so, and may come or go."""
    return learner.model.backbone.preprocess.described()


def restore(learner: Learner, saved: Saved, order: ClassOrder, folder: Path, images: str | None = None) -> None:
    """Give a learner the state of a run.

    Args:
        learner: as it was before the first session.
        saved: the state; its rows belong to the names noted beside it.
        order: the names that the data set's index gives now.
        folder: where the state was found, for messages.
        images: see `images_of`, of a learner that goes on with images it has kept; None: of one that does not.

    Raises:
        CheckpointError: the index has other classes by now, or other images of which some were kept; the state does
            not fit the model, or images look otherwise to it than they did.
    """
    _check_index(saved, order, folder, images)
    try:
        learner.load_state_dict(saved.tensors)
    except (ValueError, LookupError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: does not fit the model ({error}); start anew without --resume") from error
    _check_look(saved, learner, folder)


def _check_index(saved: Saved, order: ClassOrder, folder: Path, images: str | None) -> None:
    if saved.notes["names"] != names_of(order):
        raise CheckpointError(
            f"{folder}: the data set's index has other classes than when the run was trained; prepare it as it was, or "
            "start anew without --resume"
        )
    if images is not None and saved.notes.get("images", images) != images:
        raise CheckpointError(
            f"{folder}: the data set's index has other training images than when the run kept some of them; prepare it "
            "as it was, or start anew without --resume"
        )


def _check_look(saved: Saved, learner: Learner, folder: Path) -> None:
    if "look" in saved.notes and saved.notes["look"] != (look := look_of(learner)):
        raise CheckpointError(
            f"{folder}: images looked otherwise to its model ({saved.notes['look']}) than they do now ({look}); mend "
            "the config beside the weights, or start anew without --resume"
        )


def trained(folder: Path, config: Config) -> Saved:
    """What training made of a finished run's learner, with the rows of its sessions as notes.

    Raises:
        CheckpointError: the checkpoint is not there any more, or damaged.
    """
    saved = RunCheckpoint(folder / "checkpoint", config_hash(config)).load_session()
    if saved is None:
        raise CheckpointError(f"{folder}: the checkpoint of this run is not there any more; train it again")
    return saved
