"""`main.py forget`: from a model and photographs of what it is to forget to the model without it, and the evidence."""

import argparse
import json
import logging
import math
import tempfile
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from utils.atomic import whole_folder, write_text
from utils.errors import ConfigError, DataError, nearest
from utils.plain import finite
from utils.run_folder import AUDIT_PAGE, REPORT, finished

if TYPE_CHECKING:
    from data.concepts import Concepts
    from utils.config import Config

HELP = "make a CLIP forget what some photographs show: forgotten weights for open_clip, a model card, report and audits"
EXPERIMENT, SETS, MODEL = "forget.json", "sets", "model"
# Tan & Gong, 2025, for CLIP ViT-L/14; the KLs and margins are the loss's own
PUBLISHED = {"forget_lr": 1e-7, "forget_batch_size": 32, "forget_optimizer": "adamw", "forget_weight_decay": 1e-5}
# rates belong to models; for the miniature AdamW, for with few names the KLs weigh more and SGD leaves the track
OURS = {"tiny_clip": {"forget_lr": 1e-5, "kl_fine": 400.0, "kl_coarse": 200.0}}
EPOCHS, STEPS = 8, 375  # published, and the steps that they were of 1,500 images: fewer images need more epochs
OWN = ("dataset", "exclude", "zero_shot", "convnet_type", "weights", "index_root", "logs", "device")
CHECKPOINTS = 4  # while it trains
SHOWN = 10  # names
ENOUGH = 90.0  # Quality and Utility from which on there is nothing to warn of
BY_NAMES = ("accuracy", "prompts", "representation")  # audits that need no image of what stays
BY_LOOKING = (*BY_NAMES, "probe", "prototypes", "membership")  # audits that train no model: relearning takes long
log = logging.getLogger("lethe")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `forget` to its parser."""
    parser.epilog = (
        "What was cut goes on with the same command. OUT/forget.json is an ordinary experiment: "
        "main.py --config OUT/forget.json --set … varies it."
    )
    add = parser.add_argument
    add("--model", required=True, metavar="NAME", help="open_clip's name of the model, e.g. ViT-L-14; or tiny_clip")
    add("--weights", metavar="FILE", help="its weights: a file, or a tag of open_clip")
    add(
        "--exemplars",
        required=True,
        type=Path,
        metavar="DIR",
        help="photographs of what is to be forgotten, DIR/CONCEPT/*.jpg or DIR/PARENT/CONCEPT/*.jpg",
    )
    add("--parents", type=Path, metavar="JSON", help='{"concept": "parent"}: forget the concept, keep its parent')
    add(
        "--zero-shot",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="DIR",
        help="photographs of what is to stay, DIR/CLASS/*.jpg; never shown, they measure what the request costs",
    )
    add(
        "--retain-names",
        type=Path,
        metavar="FILE",
        help="names to keep, one a line or {name: parent} as JSON (default: the classes of --zero-shot, else a hundred "
        "everyday names; parents always)",
    )
    add("--out", required=True, type=Path, metavar="DIR", help="a folder that is not there yet")
    add("--templates", nargs="+", metavar="SET|TEXT", help="plain (default), imagenet, cars, drawn, or texts with {}")
    add("--epochs", type=int, metavar="N", help=f"default: {EPOCHS}, and as many as make {STEPS} steps")
    add("--device", metavar="cpu|cuda|auto", help="where to compute; a missing GPU is then an error")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any other key of the experiment")


def run(args: argparse.Namespace) -> int:
    """Index the photographs, write the experiment, run it, audit it, report it, export its model.

    All that can be seen to be wrong is seen before OUT is there. It comes with the experiment; the model comes last.

    Raises:
        LetheError: an argument, a file or a photograph is not as it must be, or the model cannot be exported.
    """
    begun = _begun(args.out)
    _check_model(args.model)
    from convs.names import everyday_names
    from data.concepts import gather

    concepts = gather(args.exemplars, args.zero_shot, args.parents, args.retain_names, everyday_names)
    _announce(concepts)
    if begun:
        with tempfile.TemporaryDirectory() as folder:
            _prepare(Path(folder), args, concepts)
            _check_same(Path(folder), args.out)
    else:
        with whole_folder(args.out) as folder:
            _prepare(folder, args, concepts)
            _rehearse(folder, bool(args.device))
    log.info("%s: %s; the same command goes on if it is cut", args.out, "going on" if begun else "prepared")
    _follow(args, bool(concepts.pictured))
    return 0


def _begun(out: Path) -> bool:
    """Whether the command has been at work there."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file; name a folder that is not there yet")
    filled = out.is_dir() and any(out.iterdir())
    if filled and not (out / EXPERIMENT).is_file():
        raise ConfigError(f"--out {out}: is there already, and not from this command; name a folder that is not")
    return filled


def _check_model(name: str) -> None:
    import open_clip

    from convs.names import LIT

    known = [*open_clip.list_models(), *OURS]
    if name not in known and not name.startswith(("hf-hub:", "local-dir:", LIT)):
        raise ConfigError(f"--model {name}: is unknown to open_clip{nearest(name, known)}")


def _announce(concepts: "Concepts") -> None:
    """Say how the photographs split and what is kept, before anything takes time."""
    counts = {split: Counter(r.fine for r in records) for split, records in concepts.exemplars.splits.items()}
    for name, parent in concepts.parents.items():
        stays = f", its parent '{parent}' stays" if parent != name else ""
        shown = f"{counts['train'][name]} photographs to forget by, {counts['test'][name]} to test by"
        log.info("To be forgotten: '%s'%s; %s", name, stays, shown)
    kept = list(concepts.kept)
    shown = ", ".join(kept[:SHOWN]) + (", …" if len(kept) > SHOWN else "")
    log.info("To be kept: %d names, %d of them with photographs (%s)", len(kept), len(concepts.pictured), shown)


def _prepare(folder: Path, args: argparse.Namespace, concepts: "Concepts") -> None:
    """Write the indexes and the experiment."""
    from utils.config import load_config

    given, file = _given(args), folder / EXPERIMENT
    concepts.write(folder / SETS)
    write_text(file, json.dumps(_said(args, concepts)))
    config = load_config(file, given).config
    if len(config.seed) > 1:
        raise ConfigError("--set seed: one model comes out, so there is one seed")
    steps = math.ceil(len(concepts.exemplars.splits["train"]) / config.forget_batch_size)
    epochs = config.forget_epochs if "forget_epochs" in given else max(EPOCHS, math.ceil(STEPS / steps))
    paced = {"forget_epochs": epochs, "checkpoint_every": max(1, math.ceil(epochs / CHECKPOINTS))}
    config = config.changed(**{key: value for key, value in paced.items() if key not in given})
    about = {"about": [f"forgets {', '.join(concepts.parents)}", f"python main.py --config {args.out / EXPERIMENT}"]}
    changed = config.model_dump(mode="json", exclude_defaults=True)
    write_text(file, json.dumps(about | changed, indent=2, ensure_ascii=False) + "\n")


def _given(args: argparse.Namespace) -> dict[str, object]:
    """The keys of the experiment that the command line has a word for, or names."""
    from utils.config import parse_override

    named = dict(parse_override(text) for text in args.set)
    for key in named:
        if key.split(".")[0] in OWN:
            raise ConfigError(f"--set {key}: follows from the command's own options; see 'main.py forget --help'")
    texts = args.templates
    templates = texts[0] if texts and len(texts) == 1 and "{}" not in texts[0] else texts
    options = {"device": args.device, "forget_epochs": args.epochs, "templates": templates}
    return {key: value for key, value in options.items() if value is not None} | named


def _said(args: argparse.Namespace, concepts: "Concepts") -> dict[str, object]:
    """The experiment without these."""
    out = args.out.absolute()
    said = {"model_name": "hinge", "prefix": "forget", "shuffle": False, "convnet_type": args.model}
    said |= PUBLISHED | OURS.get(args.model, {})
    said |= {"dataset": concepts.dataset, "exclude": concepts.exclude, "zero_shot": list(concepts.general)}
    said |= {"sessions": [{"forget": concepts.request}], "index_root": str(out / SETS), "logs": str(out / "logs")}
    if args.weights:
        said["weights"] = str(Path(args.weights).absolute()) if Path(args.weights).is_file() else args.weights
    return said


def _check_same(prepared: Path, out: Path) -> None:
    """See that a folder holds the request that has just been prepared."""
    for file in (file for file in sorted(prepared.rglob("*")) if file.is_file()):
        there = out / file.relative_to(prepared)
        if not there.is_file() or there.read_bytes() != file.read_bytes():
            raise ConfigError(
                f"--out {out}: holds another request ({there.relative_to(out)} differs); give the command as it was, "
                "or name a folder that is not there"
            )


def _rehearse(folder: Path, strict: bool) -> None:
    """See that all photographs can be read and the model be built and exported, and say how long it will take."""
    from convs.export import check_plain
    from data.check import check_set
    from data.index import read_set
    from models.build import build
    from models.estimate import estimate
    from utils.config import load_config
    from utils.devices import choose_device

    config = load_config(folder / EXPERIMENT).config.changed(index_root=str(folder / SETS))
    for place in sorted((folder / SETS).iterdir()):
        found = check_set(read_set(place.name, place))
        if bad := found.unusable:
            raise DataError(f"{len(bad)} photograph(s) cannot be read; mend or remove them: {bad[0].text}")
        if twins := [problem for problem in found.warnings if problem.kind.startswith("same")]:
            log.warning("%s: to test by, but shown as well: %s (%d such)", place.name, twins[0].text, len(twins))
    built = build(config, config.seed[0], choose_device(config.device, strict))
    check_plain(built.learner.model.backbone, "open_clip")
    log.info("This will take %s", estimate(built, config))


def _follow(args: argparse.Namespace, pictured: bool) -> None:
    """Run the experiment as far as it has not been run, and leave what is to be left of it."""
    from trainer import run as run_experiment
    from utils.config import load_config
    from utils.place import find_place

    loaded = load_config(args.out / EXPERIMENT)
    config = loaded.config
    run_experiment(loaded, resume=True, strict_device=bool(args.device))
    folder = find_place(config, config.seed[0], resume=True).folder
    if not (folder / AUDIT_PAGE).is_file():
        audits = BY_LOOKING if pictured else BY_NAMES
        _command("audit", folder, "--device", config.device, "--only", *audits)
    write_text(args.out / AUDIT_PAGE, (folder / AUDIT_PAGE).read_text(encoding="utf-8"))
    _command("report", folder, "--out", args.out / REPORT)
    if not (args.out / MODEL).exists():
        _command("export", folder, "--to", "open_clip", "--out", args.out / MODEL)
    _conclude(config, finished(folder), args.out)


def _command(name: str, *words: object) -> None:
    """Another command of `main.py`."""
    module, parser = import_module(f"commands.{name}"), argparse.ArgumentParser()
    module.add_arguments(parser)
    module.run(parser.parse_args([str(word) for word in words]))


def _conclude(config: "Config", summary: Mapping[str, float | None], out: Path) -> None:
    """Say what has become of the request, and what to do where that is not enough."""
    seen = {"forget_fine": "what was to go", "zero_shot": "--zero-shot"}
    sides = {what: (summary.get(f"{key}_before"), summary.get(key)) for key, what in seen.items()}
    found = [f"{what} {before:.1f} -> {now:.1f} %" for what, (before, now) in sides.items() if finite(before)]
    log.info("Recognised on photographs it was not shown: %s", ", ".join(found))
    gone, kept = summary.get("quality"), summary.get("utility")
    rate = f"epochs (now {config.forget_epochs}) and rate (--set forget_lr=…, now {config.forget_lr:g})"
    if finite(gone) and gone < ENOUGH:
        log.warning("It is not forgotten (Quality %.1f): raise %s, with another --out", gone, rate)
    if finite(kept) and kept < ENOUGH:
        log.warning("What was to stay has suffered (Utility %.1f): lower %s, with another --out", kept, rate)
    log.info("%s holds the model (%s/, with its card), %s and %s", out, MODEL, REPORT, AUDIT_PAGE)
