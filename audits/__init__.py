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
    "prototypes": "a few images' mean as a row: how little brings the classes back, without training?",
    "relearning": "fine-tuning, on exemplars or on retained images: after how many steps are the classes back?",
    "membership": "membership inference: which images of the classes was the model shown?",
    "prompts": "a CLIP asked otherwise: templates, paraphrases, misspellings, aliases, descriptions, retrieval",
    "representation": "CKA and common neighbours with the original: what has moved?",
}


def check_names(names: Sequence[str], where: str = "") -> None:
    """See that there are audits of such names.

    Args:
        names: of audits.
        where: they stand, for the message, such as `key 'audit': `.

    Raises:
        ConfigError: there is none of a name.
    """
    for name in names:
        if name not in AUDITS:
            raise ConfigError(f"{where}no audit '{name}'{nearest(name, AUDITS)}")


def get_audit(name: str) -> Audit:
    """An audit by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    check_names([name])
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
