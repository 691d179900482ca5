"""Finished runs under audit: their models beside the original, a control and an oracle."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from audits import carried_out, check_names
from audits.evidence import Case, Evidence, collect
from audits.verdict import Figures, against_oracle, can_judge, verdict
from convs.names import is_clip
from data.general import GeneralSet
from data.images import ImageStream
from data.index import SPLITS
from data.sessions import Session
from models.build import Built, build
from models.learner import Learner
from models.request_figures import parts
from models.runs import LOOKED_AT, reopen, restore, trained
from utils.atomic import write_text
from utils.comparison import task
from utils.config import Config
from utils.errors import ConfigError
from utils.plain import dumps, plain
from utils.requests import LearnRequest, expand
from utils.run_folder import AUDIT_FIGURES, AUDIT_PAGE
from utils.seeds import seed_everything

ORIGINAL, CONTROL, ORACLE = "original", "head_only", "oracle"
# beside the task and the seed: the keys that the original, the control and the oracle are made by
MODEL = ("convnet_type", "weights", "img_size", "scale", "templates", "precision")
IMAGES = ("index_root", "data_root", "outside_root", "zero_shot")
log = logging.getLogger("lethe")


@dataclass(frozen=True)
class AuditedRun:
    """What the audits of a run found.

    Attributes:
        folder: of the run.
        config: its experiment, with its one seed.
        setting: equal for runs whose references are the same, up to the seed.
        figures: model → figures: the original, the run's own by the learner's name, the control and, where there are
            weights for it, the oracle. Of runs that share a reference it is the same object.
        verdicts: model → a word; empty where the audits that it needs were not asked for.
    """

    folder: Path
    config: Config
    setting: tuple
    figures: Mapping[str, Figures]
    verdicts: Mapping[str, str]


@dataclass(frozen=True)
class _References:
    """What a run's model is compared with; the images are asked for once, by whichever model comes first."""

    case: Case
    train: ImageStream
    test: ImageStream
    general: list[GeneralSet]
    original: Evidence
    figures: dict[str, dict[str, float]]


class Auditor:
    """Carries out audits of runs; what several of them are compared with is looked at once.

    Args:
        names: of the audits, keys of `audits.AUDITS`.
        device: where to compute.
        oracle: weights of a model that has never seen the concepts; None: those of a run's `oracle_weights`, if any.

    Raises:
        ConfigError: an audit is unknown.
    """

    def __init__(self, names: Sequence[str], device: torch.device, oracle: str | None = None):
        check_names(names)
        self.names, self.device, self.oracle = tuple(names), device, oracle
        self._known: dict[tuple, _References] = {}

    def audit(self, folder: Path) -> AuditedRun:
        """Audit a run.

        Raises:
            ConfigError: its stream has a learn session, or leaves no class.
            CheckpointError: there is no finished run.
            LetheError: its data or weights are not there any more.
        """
        config, built = reopen(folder, self.device, images=False)
        check_stream(config, str(folder))
        saved = trained(folder, config)
        oracle = self.oracle or config.oracle_weights
        references = self._references(config, oracle)
        log.info("auditing %s of %s", config.model_name, folder)
        restore(built.learner, saved, built.manager.order, folder)
        own = self._figures(built.learner, references)
        own |= against_oracle(own, references.figures[ORACLE]) if oracle else {}
        figures = {ORIGINAL: references.figures[ORIGINAL], config.model_name: own}
        figures |= {name: found for name, found in references.figures.items() if name not in figures}
        return AuditedRun(folder, config, (*_setting(config), oracle), figures, _verdicts(figures, references.figures))

    def _figures(self, learner: Learner, references: _References) -> dict[str, float]:
        evidence = collect(learner, references.train, references.test, references.general)
        return carried_out(self.names, evidence, references.case, references.original)

    def _references(self, config: Config, oracle: str | None) -> _References:
        key = (*_setting(config), oracle, config.seed if _drawn(config, oracle) else None)
        if key not in self._known:
            self._known[key] = self._looked_at(config, oracle)
        return self._known[key]

    def _looked_at(self, config: Config, oracle: str | None) -> _References:
        """The references, one after another: a model is spent when the next has taken its place."""
        built = _instead(config, self.device, model_name=CONTROL)
        found = self._original(built)
        log.info("auditing the control (%s)", CONTROL)
        found.figures[CONTROL] = self._figures(_served(built, config.seed[0]), found)
        if oracle:
            log.info("auditing the oracle (%s)", oracle)
            other = _instead(config, self.device, model_name=ORACLE, oracle_weights=oracle)
            found.figures[ORACLE] = self._figures(_served(other, config.seed[0]), found)
            for figures in found.figures.values():
                figures |= against_oracle(figures, found.figures[ORACLE])
        return found

    def _original(self, built: Built) -> _References:
        """The references as far as the original is one; the others are compared with it, on the same images."""
        log.info("auditing the %s", ORIGINAL)
        case, seen = _case(built), built.sessions[-1].seen
        train, test = (built.manager.images(split, seen) for split in SPLITS)
        original = collect(built.learner, train, test, built.general)
        figures = {ORIGINAL: carried_out(self.names, original, case, original)}
        return _References(case, train, test, built.general, original, figures)


def check_stream(config: Config, where: str) -> None:
    """See that audits can serve the stream of a config.

    Args:
        config: the experiment.
        where: it stands, for the message.

    Raises:
        ConfigError: it has learn sessions.
    """
    if config.init_cls is not None or any(isinstance(asked, LearnRequest) for asked in expand(config.sessions or ())):
        raise ConfigError(
            f"{where}: the stream has learn sessions, so the model before its requests is no longer there; audits need "
            "a stream of forget requests alone"
        )


def leave(found: AuditedRun, names: Sequence[str], table: str) -> None:
    """Write what was found into the run's folder: the page, and the figures; unknown or infinite ones are null.

    Where the figures of these audits and of more are there, they stay; else what is found replaces them.
    """
    if set(names) < _audits_in(found.folder):
        log.info("%s holds more audits and stays as it is", found.folder / AUDIT_FIGURES)
        return
    content = {"audits": list(names), "figures": found.figures, "verdicts": found.verdicts}
    write_text(found.folder / AUDIT_FIGURES, dumps(plain(content), indent=1) + "\n")
    write_text(found.folder / AUDIT_PAGE, table)


def has_audits(folder: Path, names: Sequence[str]) -> bool:
    """Whether a run's folder holds the figures of such audits; of none it always does."""
    return set(names) <= _audits_in(folder)


def _audits_in(folder: Path) -> set[str]:
    """Those whose figures are there; of a file that cannot be read, none."""
    try:
        return set(json.loads((folder / AUDIT_FIGURES).read_text(encoding="utf-8"))["audits"])
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _setting(config: Config) -> tuple:
    return task(config), *(getattr(config, key) for key in (*MODEL, *IMAGES))


def _drawn(config: Config, oracle: str | None) -> bool:
    """Whether the seed has a say in the references: by the order of the classes, by random weights, or by the random
    rows that an oracle without a text tower has for what it does not know."""
    rows = oracle is not None and not is_clip(config.convnet_type)
    return config.shuffle or "random" in (config.weights, oracle) or rows


def _instead(config: Config, device: torch.device, **changes: str) -> Built:
    """What the config names, with another learner."""
    return build(config.model_copy(update=LOOKED_AT | changes), config.seed[0], device)


def _served(built: Built, seed: int) -> Learner:
    """A learner without training after all requests."""
    for session in built.sessions:
        seed_everything(seed, session.index, 0, "set-up")
        for phase in built.learner.phases(session):
            raise AssertionError(f"a reference is to have no phase, it has '{phase.name}'")
    return built.learner


def _case(built: Built) -> Case:
    """All that the stream asked to forget, as seen from the original."""
    last, order = built.sessions[-1], built.sessions[-1].order
    if not last.alive:
        raise ConfigError("the stream leaves no class, and audits compare with what was to be kept")
    whole = Session(0, "forget", last.gone, last.seen, last.alive, order)
    split = parts(whole, built.learner.model.rows()["fine"])
    known = tuple(order.fine[label] for label in last.seen)
    parents = tuple(order.coarse[order.parents[label]] for label in last.seen)
    return Case(last.gone, split.adjacent, split.remote, known, parents, order.aliases, order.descriptions)


def _verdicts(figures: Mapping[str, Figures], references: Mapping[str, Figures]) -> dict[str, str]:
    if not can_judge(references[ORIGINAL]):
        return {}
    return {name: verdict(own, references[ORIGINAL], references.get(ORACLE)) for name, own in figures.items()}
