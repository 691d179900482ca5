"""How far the representation has moved, and of what: the forgotten classes, their neighbours, the rest, other data."""

from collections.abc import Iterator

from audits.evidence import Case, Evidence, Images
from utils.similarity import linear_cka, neighbour_overlap

LEAST = 2  # images


def audit(evidence: Evidence, case: Case, original: Evidence) -> Iterator[tuple[str, float]]:
    """`cka_…` and `neighbours_…` between the features of the original and of this model, 0…1, on test images."""
    for name, (now, before) in _pairs(evidence, case, original):
        if len(now.labels) >= LEAST:
            yield f"cka_{name}", linear_cka(before.features, now.features)
            yield f"neighbours_{name}", neighbour_overlap(before.features, now.features)


def _pairs(evidence: Evidence, case: Case, original: Evidence) -> Iterator[tuple[str, tuple[Images, Images]]]:
    for name, classes in {"gone": case.gone, "adjacent": case.adjacent, "remote": case.remote}.items():
        yield name, (evidence.test.of(classes), original.test.of(classes))
    for name, images in evidence.general.items():
        yield name, (images, original.general[name])
