"""Audits of a model that was asked to forget: each a small file that yields figures by name."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module

from audits.evidence import Case, Evidence
from utils.errors import ConfigError, nearest

Audit = Callable[[Evidence, Case, Evidence], Iterator[tuple[str, float]]]

# name → one line on what it asks; the audit is the function `audit` of the module of that name
AUDITS = {
    "accuracy": "what an unlearning table shows: accuracy by the classifier and by plain names",
    "probe": "linear probes and nearest neighbours: are the classes still apart in the features?",
    "relearning": "prototypes of a few images: how little brings the classes back?",
    "membership": "membership inference: which images of the classes was the model shown?",
    "prompts": "a CLIP asked otherwise: misspellings, other wordings, aliases, the parent's name, retrieval",
    "representation": "CKA and common neighbours with the original: what has moved?",
}


def get_audit(name: str) -> Audit:
    """An audit by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in AUDITS:
        raise ConfigError(f"no audit '{name}'{nearest(name, AUDITS)}")
    return import_module(f"audits.{name}").audit


def carried_out(names: Sequence[str], evidence: Evidence, case: Case, original: Evidence) -> dict[str, float]:
    """The figures of some audits.

    Args:
        names: of the audits, keys of `AUDITS`.
        evidence: the model under audit.
        case: what it was asked to forget.
        original: the model before that.
    """
    return {name: value for audit in names for name, value in get_audit(audit)(evidence, case, original)}
