"""What audits look at: one model's view of the images of a request, the same images for every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from data.general import GeneralSet
from data.images import ImageStream
from models.learner import Learner
from utils.loop import Batch
from utils.passes import gather


@dataclass(frozen=True)
class Case:
    """What was asked for; fine labels.

    Attributes:
        gone: to be forgotten.
        adjacent: to be kept, next to something forgotten; see `models.request_figures.parts`.
        remote: to be kept, and far from it.
        names: of all labels.
        parents: of all labels, the names of their coarse classes.
        aliases: name → other names of the same class.
        descriptions: name → what its images show, in words that do not name it.
    """

    gone: tuple[int, ...]
    adjacent: tuple[int, ...]
    remote: tuple[int, ...]
    names: tuple[str, ...]
    parents: tuple[str, ...]
    aliases: Mapping[str, Sequence[str]]
    descriptions: Mapping[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> tuple[int, ...]:
        """All that was to be kept."""
        return tuple(sorted((*self.adjacent, *self.remote)))


@dataclass(frozen=True)
class Images:
    """A model's view of some images.

    Attributes:
        features: of unit length, [N, D], double precision.
        labels: fine labels, [N].
        logits: of the classifier over all classes, [N, C]; of a general set there are none.
        pictures: the images themselves, in the same order, where they may be asked for again.
    """

    features: np.ndarray
    labels: np.ndarray
    logits: np.ndarray | None = None
    pictures: ImageStream | None = None

    def of(self, classes: Sequence[int]) -> Images:
        """Those of some classes."""
        return self._chosen(np.flatnonzero(np.isin(self.labels, list(classes))))

    def accuracy(self, rows: np.ndarray | None = None) -> float:
        """In %, by the classifier or by the cosines with rows [C, D]."""
        scores = self.logits if rows is None else self.features @ rows.T
        return 100.0 * float(np.mean(scores.argmax(1) == self.labels))

    def few(self, count: int, seed: int = 0) -> Images:
        """At most so many of each class, drawn."""
        order = np.random.RandomState(seed).permutation(len(self.labels))
        drawn = [order[self.labels[order] == label][:count] for label in np.unique(self.labels)]
        return self._chosen(np.sort(np.concatenate(drawn)))

    def _chosen(self, places: np.ndarray) -> Images:
        logits = None if self.logits is None else self.logits[places]
        pictures = None if self.pictures is None else self.pictures.at(places)
        return Images(self.features[places], self.labels[places], logits, pictures)


@dataclass(frozen=True)
class Evidence:
    """A model under audit.

    Attributes:
        learner: it, and what it owns.
        train: the training images of all classes; the forgotten ones among them were shown to the unlearner.
        test: their test images.
        general: name of a general set → its test images.
    """

    learner: Learner
    train: Images
    test: Images
    general: dict[str, Images]


def collect(learner: Learner, train: ImageStream, test: ImageStream, general: Sequence[GeneralSet]) -> Evidence:
    """Encode everything once.

    Args:
        learner: the model under audit; its features are raw, its fine logits over all classes.
        train: the training images of all classes, un-augmented, in fixed order.
        test: their test images.
        general: sets that have nothing to do with the request.
    """
    sets = {item.name: seen(learner, item.stream, classify=False) for item in general}
    return Evidence(learner, seen(learner, train), seen(learner, test), sets)


def seen(learner: Learner, pictures: ImageStream, classify: bool = True) -> Images:
    """A model's view of a stream in fixed order."""

    def compute(batch: Batch) -> dict[str, torch.Tensor]:
        output = learner.predict(batch["image"])
        logits = {"logits": output.logits["fine"]} if classify else {}
        return {"features": F.normalize(output.features.double(), dim=1), "labels": batch["fine"]} | logits

    found = gather(learner.model, compute, pictures, device=learner.model.device, title="audit")
    return Images(**{name: value.numpy() for name, value in found.items()}, pictures=pictures)
