"""`main.py audit`: what is left of the concepts in a run's model, beside the original, a control and an oracle."""

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from audits import AUDITS, carried_out
from audits.evidence import Case, collect
from audits.verdict import VERDICTS, against_oracle, verdict
from data.sessions import Session
from models.build import Built, build
from models.learner import Learner
from models.request_figures import parts
from models.runs import reopen, restore, trained
from utils.atomic import write_text
from utils.checkpoint import Saved
from utils.config import Config
from utils.devices import choose_device
from utils.errors import ConfigError
from utils.formats import Best, Grid, markdown
from utils.run_folder import AUDIT_FIGURES, AUDIT_PAGE
from utils.seeds import seed_everything

HELP = "audit the model of a run that forgot: erased, suppressed, or hidden in the head?"
ORIGINAL, CONTROL, ORACLE = "original", "head_only", "oracle"
log = logging.getLogger("lethe")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `audit` to its parser."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="the folder of a finished run")
    parser.add_argument("--only", nargs="+", choices=AUDITS, metavar="AUDIT", help=f"of: {', '.join(AUDITS)}")
    parser.add_argument("--oracle", metavar="FILE", help="weights of a model that has never seen the concepts")
    parser.add_argument("--device", default="auto", metavar="cpu|cuda|auto", help="where to compute")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    width = max(map(len, AUDITS))
    parser.epilog = "audits:\n" + "\n".join(f"  {name:{width}}  {line}" for name, line in AUDITS.items())


def run(args: argparse.Namespace) -> int:
    """Audit a run; the table goes to standard output and, with the figures, into the run's folder.

    Raises:
        ConfigError: the run's stream does not begin with a forget request, or has a learn session.
        CheckpointError: there is no finished run.
        LetheError: its data or weights are not there any more.
    """
    config, built = reopen(args.run, choose_device(args.device, strict=args.device != "auto"))
    _check(args.run, built)
    saved = trained(args.run, config)
    case = _case(built)
    found: dict[str, dict[str, float]] = {}
    original = None
    for name, learner in _models(built, config, saved, args):
        log.info("auditing %s", name)
        evidence = collect(learner, *_images(built), built.general)
        original = original or evidence
        found[name] = carried_out(args.only or list(AUDITS), evidence, case, original)
    verdicts = {} if args.only else _verdicts(found)
    table = _table(found, verdicts, config)
    write_text(args.run / AUDIT_FIGURES, json.dumps({"figures": found, "verdicts": verdicts}, indent=1) + "\n")
    write_text(args.run / AUDIT_PAGE, table)
    sys.stdout.write(table)
    return 0


def _check(folder: Path, built: Built) -> None:
    if any(session.kind != "forget" for session in built.sessions):
        raise ConfigError(
            f"{folder}: the stream has learn sessions, so the model before its requests is no longer there; audits "
            "need a stream of forget requests alone"
        )


def _case(built: Built) -> Case:
    """All that the stream asked to forget, as seen from the original."""
    last, order = built.sessions[-1], built.sessions[-1].order
    gone = tuple(label for label in last.seen if label not in last.alive)
    whole = Session(0, "forget", gone, last.seen, last.alive, order)
    split = parts(whole, built.learner.model.rows()["fine"])
    known = [order.fine[label] for label in last.seen]
    parents = tuple(order.coarse[order.parents[label]] for label in last.seen)
    return Case(gone, split.adjacent, split.remote, tuple(known), parents, order.aliases)


def _images(built: Built):
    seen = built.sessions[-1].seen
    return [built.manager.images(split, seen) for split in ("train", "test")]


def _models(built: Built, config: Config, saved: Saved, args: argparse.Namespace) -> Iterator[tuple[str, Learner]]:
    """The original and, one after another, what is compared with it; a model is spent when the next is asked for."""
    yield ORIGINAL, built.learner
    restore(built.learner, saved, built.manager.order, args.run)
    yield config.model_name, built.learner
    yield CONTROL, _served(built, config.model_copy(update={"model_name": CONTROL}))
    if args.oracle:
        update = {"model_name": ORACLE, "oracle_weights": args.oracle}
        yield ORACLE, _served(built, config.model_copy(update=update))


def _served(built: Built, config: Config) -> Learner:
    """A learner without training after all requests."""
    seed = config.seed[0]
    learner = build(config, seed, built.learner.model.device).learner
    for session in built.sessions:
        seed_everything(seed, session.index, 0, "set-up")
        for phase in learner.phases(session):
            raise AssertionError(f"'{config.model_name}' is to have no phase, it has '{phase.name}'")
    return learner


def _verdicts(found: dict[str, dict[str, float]]) -> dict[str, str]:
    oracle = found.get(ORACLE)
    if oracle:
        for figures in found.values():
            figures |= against_oracle(figures, oracle)
    return {name: verdict(figures, found[ORIGINAL], oracle) for name, figures in found.items()}


def _table(found: dict[str, dict[str, float]], verdicts: dict[str, str], config: Config) -> str:
    names = list(dict.fromkeys(name for figures in found.values() for name in figures))
    rows = [[name, *(_cell(figures, name) for figures in found.values())] for name in names]
    rows += [[Best("verdict"), *(verdicts[name] for name in found)]] if verdicts else []
    title = f"# Audits of {config.model_name} on {config.dataset}, {config.convnet_type}, seed {config.seed[0]}"
    meanings = [f"- *{word}*: {meaning}" for word, meaning in VERDICTS.items()] if verdicts else []
    return "\n".join([title, "", markdown(Grid(["", *found], rows)), *(["", *meanings] if meanings else [])]) + "\n"


def _cell(figures: dict[str, float], name: str) -> str:
    if name not in figures:
        return ""
    share = name.startswith(("cka", "neighbours", "tug")) or name.endswith("_auc")
    return f"{figures[name]:.2f}" if share else f"{figures[name]:.1f}"
