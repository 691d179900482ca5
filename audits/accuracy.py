"""What an unlearning table shows: accuracy by the classifier, and by the plain names where there is a text tower."""

from collections.abc import Iterator

from audits.evidence import Case, Evidence
from audits.names import name_rows
from convs.clip import ClipBackbone


def audit(evidence: Evidence, case: Case, original: Evidence) -> Iterator[tuple[str, float]]:
    """`forget` and `retain` by the classifier, `forget_names` by the plain names; on test images, in %.

    What stays may be known by its names alone; then there is nothing to measure it by.
    """
    gone, kept = (evidence.test.of(classes) for classes in (case.gone, case.kept))
    model = evidence.learner.model
    yield "forget", gone.accuracy()
    if len(kept.labels):
        yield "retain", kept.accuracy()
    if isinstance(model.backbone, ClipBackbone):
        yield "forget_names", gone.accuracy(name_rows(model.backbone, case.names, model.templates))
