"""What the tests of the learners that replay retained images share: requests, one real step, losses by hand."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from convs.model import Model, Output
from data.manager import DataManager
from data.sessions import Session
from models import get_model
from models.replay import ReplayLearner
from tests.models.requests import cut, forget, knowing, shipped
from utils.loop import Batch, Phase, Recipe

FEW = {"exemplars": 2, "retain": {"few": 1}}
# one request of each level, with some images of what stays
REPLAYS = {
    "fine": forget("Veltro Arrow", "Ostara Falcon", **FEW),
    "coarse": forget("Veltro", level="coarse", **FEW),
}
LEVELS = {"fine": ("fine",), "coarse": ("fine", "coarse")}
ONE_STEP = Recipe(epochs=1, lr=1e-3, batch_size=64, optimizer="adamw", weight_decay=0.1)


def served(indexed, level: str, backbone: str) -> tuple[Session, Model]:
    """A request of a level, and a model that knows its classes."""
    manager: DataManager = cut(indexed, REPLAYS[level])
    return manager.sessions()[0], knowing(shipped(backbone), manager)


def built(name: str, model: Model, forget: Recipe = ONE_STEP, **options) -> ReplayLearner:
    """A learner by its name."""
    return get_model(name, model, first=ONE_STEP, later=ONE_STEP, forget=forget, **options)


def copied(model: Model) -> Model:
    """The model as it is now."""
    tokenizer = getattr(model.backbone, "tokenizer", None)  # it never changes, and copying it is slow
    return copy.deepcopy(model, {id(tokenizer): tokenizer}).eval()


@dataclass(frozen=True)
class Step:
    """A step in the midst of training: what the two models said of its batches, by stream, and the loss's terms."""

    phase: Phase
    batches: dict[str, Batch]
    student: dict[str, Output]
    teacher: dict[str, Output]
    terms: dict[str, Tensor]


def one_step(learner: ReplayLearner, session: Session, size: int = 5, shake: float = 0.3) -> Step:
    """The first batch of every stream, after every weight that may move was moved a little."""
    teacher = copied(learner.model)
    torch.manual_seed(3)
    phase = next(learner.phases(session))
    dice = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in learner.part:
            parameter.add_(shake * parameter.std(correction=0) * torch.randn(parameter.shape, generator=dice))
    batches = {name: next(stream.batches(size, 7 + i)) for i, (name, stream) in enumerate(phase.streams.items())}
    with torch.no_grad():
        said = [{name: model(batch["image"]) for name, batch in batches.items()} for model in (learner.model, teacher)]
    return Step(phase, batches, *said, phase.loss(batches))


def flat_gradient(step: Step) -> Tensor:
    """The gradient of a step's loss by everything that moves."""
    slopes = torch.autograd.grad(sum(step.terms.values()), step.phase.params, allow_unused=True)
    return torch.cat([slope.flatten() for slope in slopes if slope is not None])


def figures(terms: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in terms.items()}


def log_softmax(row: list[float]) -> list[float]:
    top = max(row)
    whole = top + math.log(sum(math.exp(value - top) for value in row))
    return [value - whole for value in row]


def ce_by_hand(output: Output, batch: Batch, levels: tuple[str, ...], labels: str = "") -> float:
    """Σ over the levels of the mean of −log p of the label."""
    total = 0.0
    for level in levels:
        rows = output.logits[level].tolist()
        wanted = batch[labels + level].tolist()
        total -= sum(log_softmax(row)[label] for row, label in zip(rows, wanted, strict=True)) / len(rows)
    return total


def kd_by_hand(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """The mean over the batch of Σ_c q_c (log q_c − log p_c), q of the teacher, both of logits over T."""
    total = 0.0
    for new, old in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = (log_softmax([value / temperature for value in row]) for row in (new, old))
        total += sum(math.exp(b) * (b - a) for a, b in zip(p, q, strict=True))
    return total / len(student)
