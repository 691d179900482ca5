"""What the tests of unlearning share: streams of requests over the miniature, and models that know its classes."""

import copy
from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor

from convs.clip import ClipBackbone
from convs.factory import build_backbone
from convs.model import Model
from data.index import IndexedSet
from data.manager import DataManager
from data.sessions import Session
from data.transforms import test_transform, train_transform
from models.learner import Learner
from models.unlearn_losses import UnlearnLoss, View
from utils.loop import Phase, fit
from utils.requests import ForgetRequest, HybridClasses, LearnRequest
from utils.seeds import seed_everything

# two makes of three models, two of one; the labels of the names if all are known from the start
ABSENT = ("Brandle Anchor", "Brandle Otter", "Corvane Raven", "Corvane Orchard")
NAMES = (
    "Veltro Arrow",
    "Veltro Harbor",
    "Veltro Comet",
    "Ostara Meadow",
    "Ostara Falcon",
    "Ostara Canyon",
    "Brandle Summit",
    "Corvane Bolt",
)
ARROW, HARBOR, COMET, MEADOW, FALCON, CANYON, SUMMIT, BOLT = range(8)
VELTRO, OSTARA, BRANDLE, CORVANE = range(4)


def learn(*names: str) -> LearnRequest:
    return LearnRequest(classes=names)


def forget(*names: str, level: str = "fine", **options) -> ForgetRequest:
    return ForgetRequest(classes=names, level=level, **options)


def hybrid(fine: tuple[str, ...], coarse: tuple[str, ...], **options) -> ForgetRequest:
    return ForgetRequest(classes=HybridClasses(fine=fine, coarse=coarse), level="hybrid", **options)


# one request of each level
REQUESTS = {
    "fine": forget("Veltro Arrow", "Ostara Falcon"),
    "coarse": forget("Veltro", level="coarse"),
    "hybrid": hybrid(("Ostara Falcon", "Brandle Summit"), ("Veltro",)),
}


def cut(indexed: IndexedSet, *requests, exclude=ABSENT, **options) -> DataManager:
    """The miniature in sessions, un-shuffled; images of 64 pixels."""
    look = (64, "bilinear")
    transforms = {"train": train_transform(*look, crop_scale=(0.3, 1.0)), "test": test_transform(*look, 1.0)}
    return DataManager(indexed, requests, shuffle=False, exclude=exclude, **transforms, **options)


def knowing(model: Model, manager: DataManager) -> Model:
    """The model with the rows of the classes known from the start."""
    model.recall("fine", manager.order.fine[: len(manager.known)])
    model.recall("coarse", manager.order.coarse[: len(manager.order.coarse_of(manager.known))])
    return model.eval()


def shipped(name: str) -> Model:
    """A model that has learned the drawn world."""
    model = _loaded(name)
    tokenizer = getattr(model.backbone, "tokenizer", None)  # it never changes, and copying it is slow
    return copy.deepcopy(model, {id(tokenizer): tokenizer})


@cache
def _loaded(name: str) -> Model:
    return Model(build_backbone(name), templates=("a photo of a {}.", "{}"))


def frozen_copy(model: Model) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def differing(model: Model, before: Mapping[str, Tensor]) -> set[str]:
    """The parameters and buffers that are not, bit for bit, what they were."""
    after = model.state_dict()
    return {name for name in after if name not in before or not torch.equal(after[name], before[name])}


Look = Callable[[Phase], None]


def step_through(
    learner: Learner, session: Session, before: Look | None = None, after: Look | None = None
) -> list[str]:
    """Take a learner through a session, looking at each phase before and after it is carried out."""
    names, phases = [], learner.phases(session)
    while True:
        seed_everything("test", session.index, len(names))
        phase: Phase | None = next(phases, None)
        if phase is None:
            return names
        if before:
            before(phase)
        fit(phase, seed=session.index)
        if after:
            after(phase)
        names.append(phase.name)


@torch.no_grad()
def encoded(learner: Learner, session: Session, stream: str = "plain") -> Tensor:
    """Raw features of a session's stream, [N, D]."""
    learner.model.eval()
    return torch.cat([learner.model.backbone(b["image"]) for b in session.stream(stream).batches(7, 0)])


@torch.no_grad()
def top1(learner: Learner, session: Session, level: str = "fine") -> tuple[float, float]:
    """The share of test images recognised: of the classes to forget, and of those to keep."""
    learner.model.eval()
    hits, fine = [], []
    for batch in session.stream("test").batches(64, 0):
        hits.append(learner.predict(batch["image"]).logits[level].argmax(1) == batch[level])
        fine.append(batch["fine"])
    hits, fine = torch.cat(hits), torch.cat(fine)
    gone = torch.isin(fine, torch.tensor(session.classes))
    return hits[gone].float().mean().item(), hits[~gone].float().mean().item()


def text_rows(model: Model, names: Mapping[str, tuple[str, ...]], template: str | None = None) -> dict[str, Tensor]:
    """Text features of names, name by name: of one template, or averaged over the model's; [C, D] a level."""
    assert isinstance(model.backbone, ClipBackbone)

    @torch.no_grad()
    def one(name: str) -> Tensor:
        texts = [each.replace("{}", name) for each in ([template] if template else model.templates)]
        rows = [row / row.norm() for row in model.backbone.encode_text(texts)]
        whole = sum(rows) / len(rows)
        return whole / whole.norm()

    return {level: torch.stack([one(name) for name in some]) for level, some in names.items()}


def by_hand(
    rule: UnlearnLoss, session: Session, logits: Mapping[str, Tensor], original: Mapping[str, Tensor], batch
) -> dict[str, float]:
    """A rule's terms, exemplar by exemplar: the levels above the named ones are kept."""
    total = {"forget": 0.0, "keep": 0.0}
    whole = {label for label in session.classes if session.order.parents[label] in session.coarse_classes}
    for i, label in enumerate(batch["fine"].tolist()):
        views = {}
        for level, values in logits.items():
            wrong = batch.get(f"wrong.{level}")
            wrong = None if wrong is None else wrong[i : i + 1]
            views[level] = View(values[i : i + 1], original[level][i : i + 1], batch[level][i : i + 1], wrong)
        gone = views if label in whole else {"fine": views["fine"]}
        kept = {level: view for level, view in views.items() if level not in gone}
        for name, value in rule(gone, kept).items():
            total[name] += value.item() / len(batch["fine"])
    return total
