"""A run: build what the config names, follow its sessions, evaluate, log, checkpoint, resume."""

import json
import logging
import resource
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from convs.backbone import Preprocess
from convs.factory import build_backbone
from convs.model import Model
from convs.templates import get_templates
from data.index import IndexedSet
from data.manager import DataManager, class_names
from data.registry import find_set
from data.sessions import Session
from data.transforms import test_transform, train_transform
from models import accepted, get_model, learner_class
from models.evaluation import TOP, evaluate
from models.learner import Learner
from utils import plots, results
from utils.atomic import write_text
from utils.checkpoint import RunCheckpoint, write_tensors
from utils.config import Config, Loaded, config_hash, log_stem, resolved
from utils.environment import describe_environment
from utils.errors import CheckpointError, ConfigError, DivergenceError, LetheError, WeightsError
from utils.loop import Phase, Progress, Recipe, fit, load_params
from utils.place import Place, find_place
from utils.requests import expand_requests
from utils.seeds import derive_seed, seed_everything

log = logging.getLogger("lethe")


def run(loaded: Loaded, *, resume: bool = False, strict_device: bool = False) -> list[dict]:
    """Run an experiment once per seed.

    Args:
        loaded: the experiment, as `utils.config.load_config` read it.
        resume: go on from the last checkpoint of each seed's run, where there is one.
        strict_device: a device that is not there is an error, not a warning.

    Returns:
        One summary per seed.

    Raises:
        LetheError: something in the config, the data or the weights is not as it must be.
    """
    config = loaded.config
    device = choose_device(config.device, strict_device)
    summaries = [_run_seed(loaded, seed, device, resume) for seed in config.seed]
    if len(summaries) > 1:
        table = results.seeds_table(list(zip(config.seed, summaries, strict=True)))
        stem = Path(config.logs) / log_stem(config, "seeds")
        file = stem.with_name(f"{stem.name}_{config_hash(config)}.md")  # seeds of another config keep their table
        write_text(file, table)
        log.info("all seeds (%s)\n%s", file, table)
    return summaries


def _run_seed(loaded: Loaded, seed: int, device: torch.device, resume: bool) -> dict:
    place = find_place(loaded.config, seed, resume)
    summary = place.finished() if resume else None
    if summary is not None:
        log.info("%s: this run is finished; nothing is left to do", place.folder)
        return summary
    return Run(loaded.config, seed, device, place, loaded.unused).follow(resume)


def choose_device(wish: str, strict: bool) -> torch.device:
    """The device a config or the command line asks for.

    Args:
        wish: `auto`, `cpu`, `cuda` or `cuda:1`.
        strict: whether a missing GPU is an error; otherwise the CPU takes its place with a warning.

    Raises:
        WeightsError: there is no such GPU and `strict` is set.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wish == "auto":
        return torch.device("cuda" if count else "cpu")
    device = torch.device(wish)
    if device.type == "cpu" or (device.index or 0) < count:
        return device
    if strict:
        raise WeightsError(f"--device {wish}: this machine has {count} usable GPU(s); use --device cpu or auto")
    log.warning("device '%s' of the config is not there (%d GPUs); running on the CPU", wish, count)
    return torch.device("cpu")


def build(config: Config, seed: int, device: torch.device) -> tuple[list[Session], Learner]:
    """The sessions and the learner that a config names.

    Raises:
        LetheError: the config, the data or the weights are not as they must be.
    """
    seed_everything(seed, "build")
    method = learner_class(config.model_name)
    # the data first: what is wrong with them shows before any weights are loaded
    indexed = find_set(config.dataset, Path(config.index_root), Path(config.data_root) if config.data_root else None)
    backbone = build_backbone(config.convnet_type, config.weights, config.img_size)
    sessions = _data_manager(config, seed, indexed, backbone.preprocess).sessions(grant_past=method.sees_past)
    _check_kinds(config, method, sessions)
    # evaluation mode, as `fit` leaves it: set-up code then finds a resumed model as it found the first one
    model = Model(backbone, config.scale, get_templates(config.templates)).to(device).eval()
    options = accepted(config.model_name, config.model_dump())
    recipes = {"first": _recipe(config, 0), "later": _recipe(config, 1)}
    return sessions, get_model(config.model_name, model, **recipes, **options)


def _data_manager(config: Config, seed: int, indexed: IndexedSet, look: Preprocess) -> DataManager:
    shared = (look.size, look.mean, look.std, look.interpolation)
    return DataManager(
        indexed,
        expand_requests(config, len(class_names(indexed, config.exclude))),
        train=train_transform(*shared, config.crop_scale, config.crop_ratio, config.flip),
        test=test_transform(*shared, look.crop_pct),
        seed=seed,
        shuffle=config.shuffle,
        exclude=config.exclude,
        cache_gb=config.cache_gb,
        workers=config.workers,
    )


def _check_kinds(config: Config, method: type[Learner], sessions: list[Session]) -> None:
    for session in sessions:
        if session.kind not in method.kinds:
            raise ConfigError(
                f"key 'sessions': session {session.index} asks to {session.kind}, which learner "
                f"'{config.model_name}' cannot do; it serves: {', '.join(sorted(method.kinds))}"
            )


def _recipe(config: Config, index: int) -> Recipe:
    return Recipe(
        epochs=config.init_epochs if index == 0 else config.inc_epochs,
        lr=config.init_lr if index == 0 else config.later_lr,
        batch_size=config.batch_size,
        optimizer=config.optimizer,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        schedule=config.schedule,
        min_lr=config.min_lr,
        warmup_steps=config.warmup_steps,
    )


class Run:
    """One experiment with one seed.

    Args:
        config: the experiment.
        seed: of the class order and of all training.
        device: where the model lives.
        place: where its files go.
        unused: keys of the experiment's file that mean nothing here, for the log.

    Raises:
        LetheError: the config, the data or the weights are not as they must be; nothing has been written then.
    """

    def __init__(self, config: Config, seed: int, device: torch.device, place: Place, unused: tuple[str, ...] = ()):
        self.config, self.seed, self.device, self.place, self.unused = config, seed, device, place, unused
        self.sessions, self.learner = build(config, seed, device)
        self.checkpoint = RunCheckpoint(place.checkpoint, config_hash(config))
        self.results = results.RunResults()
        self.seconds_before, self.started = 0.0, time.monotonic()

    def follow(self, resume: bool) -> dict:
        """Carry the run out, from its last checkpoint where it is resumed, and return its summary."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        done = self._restore() if resume else 0
        with logging_to(self.place.log, append=resume):
            if not resume:
                self._start_anew()
            self._introduce(done)
            for session in self.sessions[done:]:
                with naming(session):
                    self._serve(session)
            return self._finish()

    def _start_anew(self) -> None:
        # the summary goes first: while it stands, the run counts as finished
        self.place.summary.unlink(missing_ok=True)
        self.checkpoint.clear()

    def _restore(self) -> int:
        """Load the last finished session; returns how many sessions are done."""
        saved = self.checkpoint.load_session()
        if saved is None:
            return 0
        try:
            self.learner.load_state_dict(saved.tensors)
        except (ValueError, LookupError, RuntimeError) as error:
            raise CheckpointError(
                f"{self.checkpoint.folder}: does not fit the model ({error}); start anew without --resume"
            ) from error
        self.results.sessions = [results.SessionResult.from_json(row) for row in saved.notes["results"]]
        self.seconds_before = saved.notes["seconds"]
        return len(self.results.sessions)

    def _introduce(self, done: int) -> None:
        folder = self.place.folder
        settings = resolved(self.config) | {"seed": [self.seed]}
        _write_json(folder / "config.json", settings)
        _write_json(folder / "environment.json", describe_environment(self.device))
        for key, value in settings.items():
            log.info("%s: %s", key, value)
        if self.unused:
            log.info("Keys without a use here, ignored: %s", ", ".join(self.unused))
        log.info("Running on %s", self.device)
        log.info("All params: %d", sum(p.numel() for p in self.learner.model.parameters()))
        order = self.sessions[0].order
        log.info("Class order: %s", ", ".join(order.fine))
        if done:
            log.info("Resumed after session %d of %d", done - 1, len(self.sessions))

    def _serve(self, session: Session) -> None:
        started = time.monotonic()
        names = [session.order.fine[label] for label in session.classes]
        if session.kind == "learn":
            log.info("Learning on %d-%d", session.classes[0], session.classes[-1] + 1)
        self._train(session)
        log.info("Trainable params: %d", sum(p.numel() for p in self.learner.model.parameters() if p.requires_grad))
        levels = evaluate(self.learner, session, self._groups(session))
        row = results.SessionResult(
            index=session.index,
            kind=session.kind,
            first=min(session.classes),
            last=max(session.classes),
            classes=tuple(names),
            fine=levels["fine"],
            coarse=levels.get("coarse"),
            seconds=time.monotonic() - started,
            k=min(TOP, len(session.seen)),
        )
        self.results.sessions.append(row)
        for line in results.session_lines(self.results):
            log.info(line)
        notes = {"results": [row.to_json() for row in self.results.sessions], "seconds": self._seconds()}
        self.checkpoint.save_session(self.learner.state_dict(), notes)

    def _train(self, session: Session) -> None:
        """Drive the learner's phases; each seed is a function of the place, so that a replay draws the same."""
        phases = self.learner.phases(session)
        number = 0
        while True:
            seed_everything(self.seed, session.index, number, "set-up")
            phase = next(phases, None)
            if phase is None:
                return
            self._carry_out(phase, session, number)
            number += 1

    def _carry_out(self, phase: Phase, session: Session, number: int) -> None:
        saved = self.checkpoint.load_phase(session.index, number)
        if saved and saved[1]:
            load_params(saved[0], phase.params)
            phase.module.eval()
            return

        def keep(progress: Progress) -> None:
            every = self.config.checkpoint_every
            if every and progress.epoch % every == 0 and progress.epoch < phase.recipe.epochs:
                self.checkpoint.save_phase(session.index, number, progress, finished=False)

        seed, start = derive_seed(self.seed, session.index, number), saved[0] if saved else None
        fit(phase, seed=seed, device=self.device, start=start, after_epoch=keep, task=session.index)
        end = Progress(phase.recipe.epochs, [parameter.detach() for parameter in phase.params], {})
        self.checkpoint.save_phase(session.index, number, end, finished=True)

    def _groups(self, session: Session) -> list[tuple[int, ...]]:
        return [s.classes for s in self.sessions[: session.index + 1] if s.kind == "learn"]

    def _finish(self) -> dict:
        """Write what the run leaves; the summary comes last, as the mark of a finished run."""
        for line in results.final_lines(self.results):
            log.info(line)
        summary = self.results.summary(self._seconds(), peak_mb(self.device), self.learner.tunable_ratio())
        folder = self.place.folder
        title = f"{self.config.model_name} on {self.config.dataset}, {self.config.convnet_type}, seed {self.seed}"
        for name, (tensors, notes) in self.learner.products(self.sessions[-1]).items():
            write_tensors(folder / name, tensors, notes)
        plots.curves(folder / "curves.png", self.results)
        self.checkpoint.drop_phases()
        results.write_tables(folder, self.results, summary, title, shlex.join(["python", *sys.argv]))
        log.info("Tables, figures and the checkpoint are in %s", folder)
        return summary

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started


def peak_mb(device: torch.device) -> float:
    """The most memory in use so far, MB: of the GPU where the model is on one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


@contextmanager
def naming(session: Session) -> Iterator[None]:
    """A loss that diverges inside says in which session."""
    try:
        yield
    except DivergenceError as error:
        raise DivergenceError(f"session {session.index}: {error}") from error


@contextmanager
def logging_to(file: Path, append: bool) -> Iterator[None]:
    """Everything logged inside also goes to a file of its own, in PyCIL's format.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(file, mode="a" if append else "w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror}); set 'logs' to another folder") from error
    handler.setFormatter(logging.Formatter("%(asctime)s [%(filename)s] => %(message)s"))
    log.addHandler(handler)
    try:
        yield
    except LetheError as error:
        # to the file alone: on the console the error is the last line anyway
        handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, "%s", (error,), None))
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


def _write_json(file: Path, content: dict) -> None:
    write_text(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
