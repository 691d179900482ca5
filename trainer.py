"""A run: follow the sessions of what a config names, evaluate, log, checkpoint, resume."""

import json
import logging
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from data.sessions import Session
from models.album import Album
from models.build import build
from models.evaluation import TOP, Scores, evaluate
from models.prefix import compute_prefix
from models.request_figures import Examined, Judge, examine
from models.runs import images_of, look_of, names_of, restore
from models.verification import similarities
from utils import group_plots, plots, request_plots, results, tables
from utils.album import album_name, album_text
from utils.atomic import write_text
from utils.checkpoint import RunCheckpoint, write_tensors
from utils.config import Config, Loaded, config_hash, log_stem, resolved
from utils.continual import task_figures
from utils.devices import choose_device, peak_mb
from utils.environment import describe_environment
from utils.errors import DivergenceError
from utils.lock import locked, tidy
from utils.logs import logging_to
from utils.loop import Phase, Progress, fit, load_progress, standing
from utils.place import Place, find_place
from utils.processes import by_the_first, first, joined
from utils.run_folder import CONFIG
from utils.seeds import derive_seed, seed_everything
from utils.tracker import Tracker, get_tracker, of_epoch, of_session
from utils.verification import roc, verification

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
    with joined(choose_device(config.device, strict_device)) as device:
        summaries = [_run_seed(loaded, seed, find_place(config, seed, resume), device, resume) for seed in config.seed]
        if len(summaries) > 1:
            write_seeds(config, summaries)
    return summaries


def run_at(loaded: Loaded, place: Place, *, strict_device: bool = False) -> dict:
    """Run an experiment with its one seed in a place that was found for it, or go on with the run that is there.

    Args:
        loaded: the experiment.
        place: as `utils.place.find_place` gave it.
        strict_device: a device that is not there is an error, not a warning.

    Returns:
        The summary.

    Raises:
        LetheError: see `run`.
    """
    (seed,) = loaded.config.seed
    with joined(choose_device(loaded.config.device, strict_device)) as device:
        return _run_seed(loaded, seed, place, device, place.begun)


@by_the_first
def write_seeds(config: Config, summaries: list[dict]) -> None:
    """The table of all seeds of an experiment, from a summary each."""
    table = tables.seeds_table(list(zip(config.seed, summaries, strict=True)))
    stem = Path(config.logs) / log_stem(config, "seeds")
    file = stem.with_name(f"{stem.name}_{config_hash(config)}.md")  # seeds of another config keep their table
    write_text(file, table)
    log.info("all seeds (%s)\n%s", file, table)


def _run_seed(loaded: Loaded, seed: int, place: Place, device: torch.device, resume: bool) -> dict:
    summary = place.finished() if resume else None
    if summary is not None:
        by_the_first(tidy)(place.lock)
        log.info("%s: this run is finished; nothing is left to do", place.folder)
        return summary
    return Run(loaded.config, seed, device, place, loaded.unused).follow(resume)


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
        tracker = get_tracker(config.tracker, place.tracker, Path(config.logs))  # every process sees that it is there
        self.tracker = tracker if first() else Tracker()
        self.told = 0  # epochs and sessions so far: the tracker's steps
        built = build(config, seed, device)
        self.sessions, self.learner, self.general = built.sessions, built.learner, built.general
        self.pairs = built.pairs
        self.images = images_of(built.manager) if built.learner.keeps_images else None
        self.checkpoint = RunCheckpoint(place.checkpoint, config_hash(config))
        self.results = results.RunResults()
        self.examined: Examined | None = None  # what the model of the last session answered
        self.seconds_before, self.started = 0.0, time.monotonic()

    def follow(self, resume: bool) -> dict:
        """Carry the run out, from its last checkpoint where it is resumed, and return its summary.

        Raises:
            BusyError: another process is at work on it.
            LetheError: something else is not as it must be.
        """
        with locked(self.place.lock) if first() else nullcontext():
            return self._follow(resume)

    def _follow(self, resume: bool) -> dict:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        done = self._restore() if resume else 0
        with logging_to(self.place.log, append=resume) if first() else nullcontext():
            if resume:
                self._go_on(done)
            else:
                self._start_anew()
            self._introduce(done)
            with self._tracked(resume):
                for session in self.sessions[done:]:
                    with naming(session):
                        self._serve(session)
            return self._finish()

    @contextmanager
    def _tracked(self, resumed: bool) -> Iterator[None]:
        name = log_stem(self.config, self.seed).as_posix()
        self.tracker.start(name, resolved(self.config) | {"seed": self.seed}, resumed)
        try:
            yield
        finally:
            self.tracker.end()

    def _tell(self, session: Session, values: dict[str, float]) -> None:
        self.told += 1
        self.tracker.log(self.told, {"session": session.index} | values)

    def _start_anew(self) -> None:
        self.place.clear()
        self.checkpoint.clear()

    def _restore(self) -> int:
        """Load the last finished session; returns how many sessions are done."""
        saved = self.checkpoint.load_session()
        if saved is None:
            return 0
        restore(self.learner, saved, self.sessions[0].order, self.checkpoint.folder, self.images)
        self.results.sessions = [results.SessionResult.from_json(row) for row in saved.notes["results"]]
        self.seconds_before, self.told = saved.notes["seconds"], saved.notes.get("told", 0)
        return len(self.results.sessions)

    def _go_on(self, done: int) -> None:
        """Finish what a run that was cut right after a session had still to do."""
        if self.checkpoint.damage:
            log.warning("%s; going on from the one before it", self.checkpoint.damage)
        self.checkpoint.drop_phases(before=done)
        if done and self.sessions[done - 1].kind == "forget":
            self._purge(self.sessions[done - 1])

    def _introduce(self, done: int) -> None:
        folder = self.place.folder
        settings = resolved(self.config) | {"seed": [self.seed]}
        _write_json(folder / CONFIG, settings)
        _write_json(folder / "environment.json", describe_environment(self.device))
        for key, value in settings.items():
            log.info("%s: %s", key, value)
        if self.unused:
            log.info("Keys without a use here, ignored: %s", ", ".join(self.unused))
        log.info("Running on %s in %s", self.device, "bf16" if self.learner.model.backbone.half else "fp32")
        log.info("All params: %d", sum(p.numel() for p in self.learner.model.parameters()))
        order = self.sessions[0].order
        log.info("Class order: %s", ", ".join(order.fine))
        if done:
            log.info("Resumed after session %d of %d", done - 1, len(self.sessions))

    def _serve(self, session: Session) -> None:
        started = time.monotonic()
        self._announce(session)
        compute_prefix(self.learner.model, session, self.general)
        judge = self._judge(session) if session.kind == "forget" else None
        album = self._keep_history(session) if judge and self.config.keep_history else None
        self._train(session)
        log.info("Trainable params: %d", sum(p.numel() for p in self.learner.model.parameters() if p.requires_grad))
        self.examined = self._examine(session)
        request = judge.verdict(self.examined) if judge else None
        self.results.sessions.append(self._row(session, self.examined.scores, request, time.monotonic() - started))
        if album:
            text = album_text(album.exemplars())
            by_the_first(write_text)(self.place.history / album_name(session.index), text)
        self._close(session)

    def _close(self, session: Session) -> None:
        """Say what a session came to, and keep it; what a purge removes goes after that."""
        for line in results.session_lines(self.results):
            log.info(line)
        self._tell(session, of_session(self.results.sessions[-1]))
        rows = [row.to_json() for row in self.results.sessions]
        notes = {"results": rows, "seconds": self._seconds(), "told": self.told, "names": names_of(session.order)}
        notes |= {"look": look_of(self.learner)} | ({"images": self.images} if self.images else {})
        self.checkpoint.save_session(self.learner.state_dict(), notes)
        if session.kind == "forget":
            self._purge(session)

    def _judge(self, session: Session) -> Judge:
        """Of a request, whose original is the model that the last session left, or found again after a resume."""
        before = self.examined or examine(self.learner, session, self.general)
        return Judge(session, self.learner.model.rows()["fine"], before, self.general)

    def _examine(self, session: Session) -> Examined:
        """The general sets are asked where a request is judged by them, now or next."""
        ahead = self.sessions[session.index : session.index + 2]
        return examine(self.learner, session, self.general if any(s.kind == "forget" for s in ahead) else ())

    def _announce(self, session: Session) -> None:
        if session.kind == "learn":
            log.info("Learning on %d-%d", session.classes[0], session.classes[-1] + 1)
            before = self.sessions[session.index - 1].seen if session.index else ()
            if again := [session.order.fine[label] for label in session.classes if label in before]:
                log.info("Learning again: %s", ", ".join(again))
            return
        named = [session.order.coarse[label] for label in session.coarse_classes]
        named += [session.order.fine[label] for label, goal in session.goals.items() if goal == "fine"]
        log.info("Forgetting (%s): %s", session.level, ", ".join(named))

    def _keep_history(self, session: Session) -> Album | None:
        kept = self.place.history / f"before_{session.index}.safetensors"
        by_the_first(write_tensors)(kept, self.learner.state_dict(), {"session": session.index})
        log.info("keep_history: the model as it was before this request, with all it knew, stays in %s", kept)
        return Album(self.learner, session) if len(session.stream("plain")) else None

    def _row(
        self, session: Session, scores: Scores, request: results.RequestResult | None, seconds: float
    ) -> results.SessionResult:
        levels = evaluate(scores, session, self._groups(session))
        learnt = session.kind == "learn"
        return results.SessionResult(
            index=session.index,
            kind=session.kind,
            first=min(session.classes) if learnt else len(session.seen),
            last=max(session.classes) if learnt else len(session.seen),
            classes=tuple(session.order.fine[label] for label in session.classes),
            fine=levels["fine"],
            coarse=levels.get("coarse"),
            seconds=seconds,
            k=min(TOP, len(session.seen)),
            extra=self.learner.figures(session) | self._task_figures(request),
            request=request,
        )

    def _task_figures(self, request: results.RequestResult | None) -> dict[str, float]:
        return task_figures([*(row.request for row in self.results.forgets), request]) if request else {}

    def _purge(self, session: Session) -> None:
        """What still held the forgotten classes goes, now that the checkpoint without them stands.

        That checkpoint has been read back, for there is no earlier one from now on; the phases with their optimizers
        went before, and the learner dropped its statistics. Of "before" the numbers remain.
        """
        if self.config.keep_history:
            log.info("keep_history: nothing is purged")
            return
        self.checkpoint.drop_earlier()
        session.purge()
        self.place.drop_history()  # of a time when the run was to keep it
        log.info("Purged: statistics, earlier checkpoints, optimizer states and cached images of what was forgotten")

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
        self.told += saved[0].epoch if saved else 0
        if saved and saved[1]:
            load_progress(saved[0], phase)
            phase.module.eval()
            return

        def keep(progress: Progress) -> None:
            every = self.config.checkpoint_every
            if every and progress.epoch % every == 0 and progress.epoch < phase.recipe.epochs:
                self.checkpoint.save_phase(session.index, number, progress, finished=False)

        def tell(terms: dict[str, float]) -> None:
            self._tell(session, of_epoch(phase.name, terms))

        seed, start = derive_seed(self.seed, session.index, number), saved[0] if saved else None
        shared = {"device": self.device, "task": session.index, "accumulate": self.config.accumulate}
        fit(phase, seed=seed, start=start, after_epoch=keep, told=tell, **shared)
        self.checkpoint.save_phase(session.index, number, standing(phase, phase.recipe.epochs), finished=True)

    def _groups(self, session: Session) -> list[tuple[int, ...]]:
        """The classes of each learn session so far, those that are alive."""
        learnt = [s.classes for s in self.sessions[: session.index + 1] if s.kind == "learn"]
        return [tuple(label for label in classes if label in session.alive) for classes in learnt]

    def _finish(self) -> dict:
        """Write what the run leaves; the summary comes last, as the mark of a finished run."""
        for line in results.final_lines(self.results):
            log.info(line)
        folder = self.place.folder
        verified = self._verify() if self.pairs else {}
        summary = self.results.summary(self._seconds(), peak_mb(self.device), self.learner.tunable_ratio()) | verified
        self._leave(folder)
        self.checkpoint.drop_phases()
        self.checkpoint.drop_earlier()
        self._leave_tables(folder, summary)
        log.info("Tables, figures and the checkpoint are in %s", folder)
        return summary

    @by_the_first
    def _leave(self, folder: Path) -> None:
        for name, write in self.learner.products(self.sessions[-1]).items():
            write(folder / name)
        self._draw(folder)

    @by_the_first
    def _leave_tables(self, folder: Path, summary: dict) -> None:
        title = f"{self.config.model_name} on {self.config.dataset}, {self.config.convnet_type}, seed {self.seed}"
        tables.write_tables(folder, self.results, summary, title, shlex.join(["python", *sys.argv]))

    def _draw(self, folder: Path) -> None:
        plots.curves(folder / "curves.png", self.results)
        if self.results.forgets:
            request_plots.requests(folder / "requests.png", self.results)
        if any(group_plots.norms(row) for row in self.results.sessions):
            group_plots.heat_map(folder / "groups.png", self.results)

    def _verify(self) -> dict[str, float]:
        """The last model's verification of the pairs, with its curve."""
        scores = similarities(self.learner, self.pairs)
        figures = verification(scores, self.pairs.same)
        log.info("Verification: %s", ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
        rates = roc(scores, self.pairs.same)
        by_the_first(plots.roc)(self.place.folder / "roc.png", *rates, figures["verification_auc"])
        return figures

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started


@contextmanager
def naming(session: Session) -> Iterator[None]:
    """A loss that diverges inside says in which session."""
    try:
        yield
    except DivergenceError as error:
        raise DivergenceError(f"session {session.index}: {error}") from error


@by_the_first
def _write_json(file: Path, content: dict) -> None:
    write_text(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
