"""Can the forgotten classes still be told apart in the features? Linear probes and nearest neighbours say."""

from collections.abc import Iterator

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from audits.evidence import Case, Evidence, Images

FEW = 5  # images a class
NEIGHBOURS = 10
C = 100.0  # inverse weight of the penalty, for features of unit length


def audit(evidence: Evidence, case: Case, original: Evidence) -> Iterator[tuple[str, float]]:
    """Accuracy on the test images of the forgotten classes, every class a candidate, in %.

    `probe_full` and `knn_full` learn from all training images, `probe_few` and `knn_few` from five a class.

    Source: the usual test of representations; of unlearned ones in Golatkar et al., Forgetting Outside the Box, ECCV
    2020.
    """
    asked = evidence.test.of(case.gone)
    for name, images in {"full": evidence.train, "few": evidence.train.few(FEW)}.items():
        yield f"probe_{name}", _accuracy(LogisticRegression(C=C, max_iter=1000), images, asked)
        near = KNeighborsClassifier(min(NEIGHBOURS, len(images.labels)), metric="cosine", weights="distance")
        yield f"knn_{name}", _accuracy(near, images, asked)


def _accuracy(classifier, images: Images, asked: Images) -> float:
    found = classifier.fit(images.features, images.labels).predict(asked.features)
    return 100.0 * float(np.mean(found == asked.labels))
