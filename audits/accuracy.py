"""What an unlearning table shows: accuracy by the classifier, and by the plain names where there is a text tower."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from audits.evidence import Case, Evidence, Images
from convs.clip import ClipBackbone


def audit(evidence: Evidence, case: Case, original: Evidence) -> Iterator[tuple[str, float]]:
    """`forget` and `retain` by the classifier, `forget_names` by the plain names; on test images, in %."""
    yield "forget", _hits(evidence.test.of(case.gone))
    yield "retain", _hits(evidence.test.of(case.kept))
    model = evidence.learner.model
    if isinstance(model.backbone, ClipBackbone):
        yield "forget_names", _named(evidence.test.of(case.gone), _plain_rows(model, case))


def _hits(images: Images) -> float:
    return 100.0 * float(np.mean(images.logits.argmax(1) == images.labels))


def _named(images: Images, rows: np.ndarray) -> float:
    return 100.0 * float(np.mean((images.features @ rows.T).argmax(1) == images.labels))


@torch.no_grad()
def _plain_rows(model, case: Case) -> np.ndarray:
    return F.normalize(model.known_rows("fine", case.names).double(), dim=1).cpu().numpy()
