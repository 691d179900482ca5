"""How few images bring the forgotten classes back where nothing is trained?"""

from collections.abc import Iterator

import numpy as np

from audits.evidence import Case, Evidence, Images

COUNTS = (1, 5, 20)  # images a class
DRAWS = 5


def audit(evidence: Evidence, case: Case, original: Evidence) -> Iterator[tuple[str, float]]:
    """`prototype_N`: accuracy in % on the test images of the forgotten classes when each gets the mean of N of its
    training images for a row, beside the means of the retained classes; average of five draws. Nothing is trained.

    Source: ours; prototypes as in Snell et al., NeurIPS 2017.
    """
    asked = evidence.test.of(case.gone)
    kept = _means(evidence.train.of(case.kept))
    for count in COUNTS:
        drawn = [_means(evidence.train.of(case.gone).few(count, seed)) for seed in range(DRAWS)]
        yield f"prototype_{count}", float(np.mean([_accuracy(kept | own, asked) for own in drawn]))


def _means(images: Images) -> dict[int, np.ndarray]:
    return {int(label): images.features[images.labels == label].mean(0) for label in np.unique(images.labels)}


def _accuracy(prototypes: dict[int, np.ndarray], asked: Images) -> float:
    rows = np.stack(list(prototypes.values()))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = np.array(list(prototypes))[(asked.features @ rows.T).argmax(1)]
    return 100.0 * float(np.mean(found == asked.labels))
