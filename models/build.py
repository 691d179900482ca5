"""What an experiment names, made: the data, the stream of sessions, the model and its learner."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from convs.backbone import Backbone, Preprocess
from convs.factory import build_backbone
from convs.model import Model
from convs.templates import get_templates
from data.decoding import Decoding, PixelFolder
from data.general import GeneralSet, general_set
from data.index import IndexedSet
from data.manager import DataManager, class_names
from data.pairs import Pairs, read_pairs
from data.registry import find_set
from data.sessions import ClassOrder, Session
from data.transforms import Transform, test_transform, train_transform
from data.validation import held_out
from models import accepted, get_model, learner_class
from models.learner import Learner
from utils.config import Config
from utils.devices import choose_half
from utils.errors import ConfigError, WeightsError
from utils.loop import Recipe
from utils.requests import expand_requests
from utils.seeds import seed_everything

FORGET_EPS = 1e-6  # AdamW's, Tan & Gong, 2025: with learning rates of 1e-7 the steps depend on it


@dataclass(frozen=True)
class Built:
    """What a config names: the data and the stream cut from them, the learner, general sets, pairs to verify."""

    manager: DataManager
    sessions: list[Session]
    learner: Learner
    general: list[GeneralSet]
    pairs: Pairs | None


def build(config: Config, seed: int, device: torch.device, *, images: bool = True) -> Built:
    """What a config names.

    Args:
        config: the experiment.
        seed: of the class order and of fresh weights.
        device: where the model lives.
        images: whether images will be asked for. Without, no file of theirs need be there, no session is cut, and
            there are no general sets and no pairs: what is left is a model and the names of its classes.

    Raises:
        LetheError: the config, the data or the weights are not as they must be.
    """
    seed_everything(seed, "build")
    config = config if images else config.model_copy(update={"zero_shot": (), "pairs": None})
    method = learner_class(config.model_name)
    # the data first: what is wrong with them shows before any weights are loaded
    indexed = _indexed(config, config.dataset, "dataset")
    general = [_indexed(config, name, "zero_shot") for name in config.zero_shot]
    backbone = build_backbone(config.convnet_type, config.weights, config.img_size)
    _prepare(backbone, config, device)
    look = backbone.preprocess
    plain = test_transform(look.size, look.interpolation, look.crop_pct)
    decoding = _decoding(config)
    manager = _data_manager(config, seed, indexed, look, plain, decoding, images)
    granted = {"grant_past": method.sees_past, "grant_kept": method.keeps_images}
    sessions = manager.sessions(**granted) if images else []
    _check_kinds(config, method, sessions)
    # evaluation mode, as `fit` leaves it: set-up code then finds a resumed model as it found the first one
    model = Model(backbone, config.scale, get_templates(config.templates)).to(device).eval()
    _recall(model, manager.order, len(manager.known))
    if any(session.kind == "learn" for session in sessions):
        model.check_growth("fine")
    sets = [general_set(item, plain, decoding, config.workers) for item in general]
    _check_general(model, sets)
    pairs = read_pairs(Path(config.pairs), plain, decoding, config.workers) if config.pairs else None
    options = accepted(config.model_name, config.model_dump() | _recipes(config))
    learner = get_model(config.model_name, model, **options)
    for session in sessions:
        learner.check(session)
    return Built(manager, sessions, learner, sets, pairs)


def _prepare(backbone: Backbone, config: Config, device: torch.device) -> None:
    """How the towers compute, whatever they are asked.

    Raises:
        ConfigError: they have fewer blocks than are to be tuned.
    """
    if config.tune_blocks and config.tune_blocks > (count := len(backbone.blocks)):
        raise ConfigError(f"key 'tune_blocks': '{config.convnet_type}' has {count} blocks, not {config.tune_blocks}")
    backbone.tune_blocks = config.tune_blocks
    backbone.half = choose_half(config.precision, device)
    if config.grad_checkpointing:
        backbone.checkpoint_activations()
    if config.compile:
        backbone.compile()


def _indexed(config: Config, name: str, key: str) -> IndexedSet:
    moved = Path(config.data_root) if config.data_root and name == config.dataset else None
    found = find_set(name, Path(config.index_root), moved, key=key, outside=config.outside_root)
    return held_out(found, config.validation) if config.validation else found


def _decoding(config: Config) -> Decoding:
    folder = PixelFolder(Path(config.cache_dir), config.cache_dir_gb) if config.cache_dir else None
    return Decoding(config.cache_gb, folder, config.jpeg_side)


def _recall(model: Model, order: ClassOrder, known: int) -> None:
    """Give the model the rows of the classes it knows from its pre-training, the first labels of the stream."""
    model.recall("fine", order.fine[:known])
    if order.two_levels:
        model.recall("coarse", order.coarse[: len(order.coarse_of(range(known)))])


def _check_general(model: Model, sets: list[GeneralSet]) -> None:
    """Names that the backbone cannot be asked for show before anything is trained."""
    for item in sets:
        try:
            model.check_known("fine", item.names)
        except WeightsError as error:
            raise WeightsError(f"key 'zero_shot': '{item.name}' cannot be measured; {error}") from error


def _data_manager(
    config: Config, seed: int, indexed: IndexedSet, look: Preprocess, plain: Transform, decoding: Decoding, images: bool
) -> DataManager:
    shared = (look.size, look.interpolation)
    return DataManager(
        indexed,
        expand_requests(config, len(class_names(indexed, config.exclude))),
        train=train_transform(*shared, config.crop_scale, config.crop_ratio, config.flip),
        test=plain,
        seed=seed,
        shuffle=config.shuffle,
        exclude=config.exclude,
        decoding=decoding,
        workers=config.workers,
        known=config.known,
        images=images,
    )


def _check_kinds(config: Config, method: type[Learner], sessions: list[Session]) -> None:
    for session in sessions:
        if session.kind not in method.kinds:
            raise ConfigError(
                f"key 'sessions': session {session.index} asks to {session.kind}, which learner "
                f"'{config.model_name}' cannot do; it serves: {', '.join(sorted(method.kinds))}"
            )


def _recipes(config: Config) -> dict[str, Recipe]:
    """How the first session, the later ones and forget requests are trained."""
    first = Recipe(
        epochs=config.init_epochs,
        lr=config.init_lr,
        batch_size=config.batch_size,
        optimizer=config.optimizer,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        schedule=config.schedule,
        min_lr=config.min_lr,
        warmup_steps=config.warmup_steps,
        clip_grad=config.clip_grad,
        max_loss=config.max_loss,
    )
    forget = replace(
        first,
        epochs=config.forget_epochs,
        lr=config.forget_lr,
        batch_size=config.forget_batch_size,
        optimizer=config.forget_optimizer,
        weight_decay=config.forget_weight_decay,
        min_lr=config.forget_min_lr,
        warmup_steps=config.forget_warmup_steps,
        eps=FORGET_EPS,
    )
    return {"first": first, "later": replace(first, epochs=config.inc_epochs, lr=config.later_lr), "forget": forget}
