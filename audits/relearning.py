"""How much training brings the forgotten classes back?"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audits.evidence import Case, Evidence, Images, seen
from models.learner import Learner, remap
from models.tuning import tower, unfrozen
from utils.loop import Batch, Phase, Progress, Recipe, fit
from utils.streams import LimitedStream

SHARES = {"50": 0.5, "90": 0.9}  # of the original's accuracy
FEW = 5  # exemplars a class
STEPS, EVERY = 60, 4  # the most steps that are taken; after so many the test images are asked
RECIPE = Recipe(STEPS // EVERY, lr=1e-4, batch_size=32, optimizer="adamw", schedule="constant")
FASTER = 100.0  # the rows' rate as a multiple of the tower's
SEED = 0


def audit(evidence: Evidence, case: Case, original: Evidence) -> Iterator[tuple[str, float]]:
    """Steps of fine-tuning until the accuracy on the test images of the forgotten classes is again 50 or 90 % of the
    original's: `relearn_exemplars_50`, `…_90` from five training images of each of them, `relearn_retained_50`, `…_90`
    from training images of the retained classes alone. Beside each `…_images`: how many were shown up to there, a
    repeated one counted again. 0: nothing had gone; infinite: not within 60 steps.

    The image tower and the classifier's rows move by cross-entropy. With retained images only their columns compete:
    no image speaks for or against a forgotten row, and what comes back is what the features brought. The model is left
    as it was.

    Source: the re-learn time of Golatkar et al., Eternal Sunshine of the Spotless Net, CVPR 2020, counted in steps;
    retained images, and both shares, are ours.
    """
    before = original.test.of(case.gone).accuracy()
    shown = {
        "exemplars": (evidence.train.of(case.gone).few(FEW), tuple(range(len(case.names)))),
        "retained": (evidence.train.of(case.kept), case.kept),
    }
    for source, (images, candidates) in shown.items():
        size = min(RECIPE.batch_size, len(images.labels))
        with borrowed(evidence.learner.model):
            phase = _phase(source, evidence.learner, images, candidates, size)
            curve = _curve(evidence.learner, phase, evidence.test.of(case.gone), max(SHARES.values()) * before)
        for name, share in SHARES.items():
            steps = EVERY * next((turn for turn, value in enumerate(curve) if value >= share * before), math.inf)
            yield f"relearn_{source}_{name}", steps
            yield f"relearn_{source}_{name}_images", steps * size


def _phase(source: str, learner: Learner, images: Images, candidates: Sequence[int], size: int) -> Phase:
    """Fine-tuning of the image tower and, faster, of the rows; an epoch is the steps between two looks."""
    model, rows = learner.model, list(learner.model.head("fine").rows)
    parts = [tower(model), rows]
    rates = [rate for part, rate in zip(parts, (1.0, FASTER), strict=True) for _ in part]
    lesson = LimitedStream(images.pictures.at(range(len(images.labels)), shuffle=True), EVERY * size)

    def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
        batch = batches[source]
        logits = learner.predict(batch["image"]).logits["fine"]
        return {"ce": F.cross_entropy(logits[:, candidates], remap(batch["fine"], candidates))}

    recipe = replace(RECIPE, batch_size=size)
    return Phase(f"relearn {source}", model, {source: lesson}, loss, unfrozen(model, parts), recipe, rates=rates)


def _curve(learner: Learner, phase: Phase, asked: Images, enough: float) -> list[float]:
    """The accuracy on some images before training and at every look, the last where it is enough."""
    curve = [asked.accuracy()]

    def look(_: Progress) -> bool:
        curve.append(seen(learner, asked.pictures).accuracy())
        return curve[-1] >= enough

    if curve[0] < enough:
        fit(phase, seed=SEED, device=learner.model.device, after_epoch=look)
    return curve


@contextmanager
def borrowed(module: nn.Module) -> Iterator[None]:
    """A module to try things on: afterwards its tensors, and which of them may move, are as they were."""
    tensors = [*module.parameters(), *module.buffers()]
    kept = [(tensor, tensor.detach().clone(), tensor.requires_grad) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value, moves in kept:
                tensor.copy_(value)
                tensor.requires_grad_(moves)
