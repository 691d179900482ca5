"""The exemplars of a forget request, each with what the original model said of it."""

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from convs.model import LEVELS, Model
from data.sessions import Session
from models.unlearn_losses import LOSSES, UnlearnLoss, View, wrong_labels
from models.wording import Rows
from utils.errors import ConfigError
from utils.loop import Batch


@torch.no_grad()
def original_fields(model: Model, features: Tensor, rows: Rows, source: str) -> dict[str, Tensor]:
    """The original's logits.

    Args:
        model: gives the scale.
        features: raw, as the original sees the examples, [N, D].
        rows: level → [C, D].
        source: prefix of the fields.

    Returns:
        `{source}.{level}`: [N, C], on the CPU.
    """
    logits = model.logits(features.to(model.device), rows)
    return {f"{source}.{level}": values.cpu() for level, values in logits.items()}


def request_fields(
    session: Session, labels: Mapping[str, Tensor], counts: Mapping[str, int], generator: torch.Generator
) -> dict[str, Tensor]:
    """Each example's labels, its goal, and a wrong label by level.

    Args:
        session: the request.
        labels: level → true labels, [N].
        counts: level → how many classes compete there.
        generator: draws the wrong labels, on the CPU.

    Returns:
        The labels, `goal` (a place in `LEVELS`) and `wrong.{level}` where there is a wrong label, all [N].
    """
    wrong = {f"wrong.{k}": wrong_labels(labels[k], count, generator) for k, count in counts.items() if count > 1}
    goals = {label: LEVELS.index(goal) for label, goal in session.goals.items()}
    return {**labels, **wrong, "goal": torch.tensor([goals[label] for label in labels["fine"].tolist()])}


def exemplar_fields(model: Model, session: Session, features: Tensor, sources: Mapping[str, Rows]) -> dict[str, Tensor]:
    """All that the loss of a request needs beside the images, once for the session, in the order of `plain`.

    Args:
        model: the original.
        session: the request.
        features: of the exemplars, un-augmented, [N, D].
        sources: prefix → rows that the original is asked by.
    """
    plain = session.stream("plain")
    counts = {level: len(rows) for level, rows in model.rows().items()}
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    fields = request_fields(session, {level: plain.labels(level) for level in LEVELS}, counts, generator)
    for source, rows in sources.items():
        fields |= original_fields(model, features, rows, source)
    return fields


def request_terms(
    rule: UnlearnLoss, session: Session, logits: Mapping[str, Tensor], batch: Batch, source: str
) -> dict[str, Tensor]:
    """A rule's terms over a batch of exemplars, each of which is to be forgotten at the level of its own concept.

    Goal `fine` forgets the fine level and keeps the coarse one, goal `coarse` forgets both. A hybrid batch is the mean
    over its exemplars (the published code takes the coarse loss for all of them).

    Args:
        rule: what is minimised.
        session: the request.
        logits: of the model being trained, {level: [B, C]}.
        batch: with the fields of `exemplar_fields`.
        source: prefix of the original's logits.

    Source: Tan & Gong, Knowledge-Tracing Unlearning, 2025, section 3; goals mixed exemplar by exemplar: ours.
    """
    zero = next(iter(logits.values())).new_zeros(())
    total = {"forget": zero, "keep": zero}  # a hybrid batch may lack what only one of the goals has
    for goal, chosen in _by_goal(session, batch["goal"]):
        views = {level: _view(values, batch, source, level, chosen) for level, values in logits.items()}
        forgotten = {level: view for level, view in views.items() if goal == "coarse" or level == "fine"}
        kept = {level: view for level, view in views.items() if level not in forgotten}
        count = len(views["fine"].labels)
        if count:
            for name, value in rule(forgotten, kept).items():
                total[name] = total[name] + count / len(batch["goal"]) * value
    return total


def check_rivals(rule: UnlearnLoss, session: Session, levels: Collection[str]) -> None:
    """See that a loss can serve a session, before anything is trained.

    Args:
        rule: the loss.
        session: any; one that learns asks for nothing.
        levels: the levels of names that the classifier will have rows for.

    Raises:
        ConfigError: it must take the exemplars for another class, and there is only one.
    """
    known = {"fine": session.seen, "coarse": session.order.coarse_of(session.seen)}
    for goal in sorted(set(session.goals.values())):
        level = goal if goal in levels else "fine"
        if rule.needs_rival and len(known[level]) < 2:
            only = getattr(session.order, level)[0]
            others = ", ".join(name for name, loss in LOSSES.items() if not loss.needs_rival)
            raise ConfigError(
                f"key 'sessions': session {session.index} asks to forget '{only}', the only {level} class known by "
                f"then, and loss '{type(rule).__name__.lower()}' needs another one to take its exemplars for; "
                f"have one learned before, or choose one of: {others}"
            )


def _by_goal(session: Session, codes: Tensor) -> Iterator[tuple[str, slice | Tensor]]:
    """Which rows of a batch have which goal; all of them where the request has one."""
    goals = sorted(set(session.goals.values()))
    for goal in goals:
        yield goal, slice(None) if len(goals) == 1 else codes == LEVELS.index(goal)


def _view(logits: Tensor, batch: Batch, source: str, level: str, chosen: slice | Tensor) -> View:
    wrong = batch.get(f"wrong.{level}")
    wrong = None if wrong is None else wrong[chosen]
    return View(logits[chosen], batch[f"{source}.{level}"][chosen], batch[level][chosen], wrong)
