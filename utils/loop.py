"""The one training loop: a learner says what is optimised (`Phase`); only `fit` steps an optimizer."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from utils.errors import CheckpointError, DivergenceError
from utils.pieces import Batch, Pieces, rows_of
from utils.processes import WHOLE, Part, mean_of_all, own_part, shown_by_the_first
from utils.seeds import derive_seed, seed_everything

log = logging.getLogger("lethe")

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("cosine", "constant")
CHECK_EVERY = 50  # steps between two looks at the losses: on a GPU every look waits for the device


class Stream(Protocol):
    """Where the steps of a phase are drawn from."""

    def __len__(self) -> int:
        """How many examples one pass holds."""

    def batches(self, size: int, seed: int, part: Part = WHOLE) -> Iterator[Batch]:
        """One pass in batches of `size` (the last may be smaller), its randomness a function of `seed`.

        Of every batch the rows of one process only, or all.
        """


@dataclass(frozen=True)
class Recipe:
    """How a phase is optimised.

    Attributes:
        epochs: passes over the phase's first stream.
        lr: the highest learning rate.
        batch_size: examples a step draws from each stream.
        optimizer: one of `OPTIMIZERS`.
        weight_decay: the optimizer's; beside the gradient for `adamw`, added to it for the others.
        momentum: of `sgd`; the others have none.
        schedule: `cosine` (per epoch, from `lr` towards `min_lr`) or `constant`.
        min_lr: what the cosine would reach after the last epoch.
        warmup_steps: steps over which the rate rises linearly to its schedule.
        eps: of Adam's denominator; None is the optimizer's own. SGD has none.
        clip_grad: the gradient of all parameters together is shortened to this norm where it is longer; None: never.
        max_loss: training stops where the loss of a step is above it; None: only where it is not finite.
    """

    epochs: int
    lr: float
    batch_size: int = 48
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: str = "cosine"
    min_lr: float = 0.0
    warmup_steps: int = 0
    eps: float | None = None
    clip_grad: float | None = None
    max_loss: float | None = None

    def __post_init__(self):
        if self.optimizer not in OPTIMIZERS or self.schedule not in SCHEDULES:
            raise ValueError(f"optimizer must be of {OPTIMIZERS} and schedule of {SCHEDULES}, got {self}")
        if self.epochs < 0 or self.batch_size < 1 or self.lr <= 0 or (self.eps is not None and self.eps <= 0):
            raise ValueError(f"epochs must be ≥ 0, batch_size ≥ 1, lr > 0 and eps > 0 or None, got {self}")

    def rate(self, epoch: int, step: int) -> float:
        """The learning rate of an epoch (from 0) at a step counted from the start of the phase (from 0)."""
        wave = (1 + math.cos(math.pi * epoch / max(1, self.epochs))) / 2 if self.schedule == "cosine" else 1.0
        return (self.min_lr + (self.lr - self.min_lr) * wave) * min(1.0, (step + 1) / max(1, self.warmup_steps))


@dataclass(frozen=True)
class Phase:
    """One stretch of training: what a learner yields and `fit` carries out.

    Attributes:
        name: shown in the log and the progress bar.
        module: put into training mode while the phase lasts.
        streams: name → stream; the first sets the length of an epoch, the others are cycled.
        loss: takes {stream name: batch} and returns named, already weighted scalars; their sum is minimised.
        params: the parameters that move; no other parameter gets a gradient.
        recipe: how they move.
        after_backward, after_step: called once a step at the moment their name says.
        before_epoch, after_epoch: called with the epoch's number, from 0; a resumed phase begins with the one to come.
        rates: a factor on the learning rate of every parameter, in the order of `params`; none: 1 for all.
        tracked: tensors beside the parameters that hooks change in place, such as running averages: they are part of
            where the phase stands.

    Raises:
        ValueError: there is no stream, or one without examples, or not a rate for every parameter.
    """

    name: str
    module: nn.Module
    streams: Mapping[str, Stream]
    loss: Callable[[dict[str, Batch]], dict[str, Tensor]]
    params: Iterable[nn.Parameter]
    recipe: Recipe
    after_backward: Callable[[], None] | None = None
    after_step: Callable[[], None] | None = None
    before_epoch: Callable[[int], None] | None = None
    after_epoch: Callable[[int], None] | None = None
    rates: Sequence[float] = ()
    tracked: Iterable[Tensor] = ()

    def __post_init__(self):
        object.__setattr__(self, "params", tuple(self.params))  # `parameters()` can be walked only once
        if len(self.rates) not in (0, len(self.params)):
            raise ValueError(f"phase '{self.name}' has {len(self.params)} parameters and {len(self.rates)} rates")
        object.__setattr__(self, "tracked", tuple(self.tracked))
        empty = [name for name, stream in self.streams.items() if not len(stream)]
        if empty or not self.streams:  # an empty stream could be cycled for ever
            raise ValueError(f"phase '{self.name}' needs streams with at least one example each; empty: {empty}")


@dataclass(frozen=True)
class Progress:
    """Where a phase stands after an epoch: all that is needed to go on from there.

    The tensors are the live ones, which training goes on to change: save them or clone them. A module's buffers
    (running averages of a batch norm, …) are not among them.

    Attributes:
        epoch: epochs that are done.
        params: the trained parameters, in the phase's order.
        optimizer: the optimizer's state, parameter position → name → tensor.
        tracked: the phase's tracked tensors, in its order.
    """

    epoch: int
    params: list[Tensor]
    optimizer: dict[int, dict[str, Tensor]]
    tracked: list[Tensor] = field(default_factory=list)


def fit(
    phase: Phase,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    start: Progress | None = None,
    after_epoch: Callable[[Progress], bool | None] | None = None,
    told: Callable[[dict[str, float]], None] | None = None,
    task: int = 0,
    accumulate: int = 1,
) -> None:
    """Carry out a phase, in place.

    Where several processes train together (`utils.processes.joined`), each computes its part of every batch, and their
    gradients are joined: the step is that of one process, as with `accumulate`.

    Args:
        phase: what to train and how.
        seed: every epoch's randomness is a function of it and of the epoch's number.
        device: where the batches go; the phase's module must be there.
        start: continue from here instead of from the beginning; the optimizer works on its tensors from then on.
        after_epoch: called after every epoch with where the phase stands; where it answers True, the phase ends there.
        told: called before that with the terms of the loss, means over the epoch.
        task: the session's number, for the log.
        accumulate: how many pieces the batches of a step are cut into, one after the other in memory. A loss that is a
            mean over examples is the same; of one that looks at a batch as a whole (a bound on its mean, a contrast
            among its names), the mean over the pieces is minimised. Where the GPU's memory does not suffice, the pieces
            become smaller for the rest of the phase, and the log says so.

    Raises:
        DivergenceError: a loss term, or a parameter after the last step, is no longer finite, or the loss is above the
            recipe's `max_loss`.
        CheckpointError: `start` belongs to other parameters.
    """
    params = list(phase.params)
    optimizer = _optimizer(phase)
    done = _restore(start, phase, optimizer) if start else 0
    lead = next(iter(phase.streams.values()))
    steps = math.ceil(len(lead) / phase.recipe.batch_size)
    total = steps * phase.recipe.epochs
    title, pieces = f"task {task} {phase.name}", Pieces(accumulate, device)
    with _training(phase), tqdm(total=total, initial=steps * done, desc=title, **shown_by_the_first()) as bar:
        for epoch in range(done, phase.recipe.epochs):
            seed_everything(seed, epoch)
            if phase.before_epoch:
                phase.before_epoch(epoch)
            batches = _joined(phase.streams, phase.recipe.batch_size, derive_seed(seed, epoch, "data"))
            means = _run_epoch(phase, params, optimizer, epoch, steps, batches, pieces, bar)
            if phase.after_epoch:
                phase.after_epoch(epoch)
            _report(phase, task, epoch, means)
            if told:
                told(means)
            if after_epoch and after_epoch(standing(phase, epoch + 1, optimizer.state_dict()["state"])):
                break


def step_seconds(phase: Phase, device: torch.device | str = "cpu", accumulate: int = 1) -> float:
    """How long a step of a phase takes: the gradients of its first batch, computed twice, the second time by the clock.

    No parameter moves; running averages inside the module do.

    Args:
        phase: what to train and how.
        device: where the batches go; the phase's module must be there.
        accumulate: how many pieces a step is cut into, see `fit`.

    Raises:
        DivergenceError: a loss term is not finite.
    """
    optimizer, pieces = _optimizer(phase), Pieces(accumulate, device)
    with _training(phase):
        batches = next(_joined(phase.streams, phase.recipe.batch_size, 0))
        for _ in range(2):
            started = time.perf_counter()
            terms = _gradients(phase, phase.params, optimizer, batches, pieces)
            _checked([torch.stack(list(terms.values()))], tuple(terms), phase, 0, 0)  # waits for the device
    return time.perf_counter() - started


@contextmanager
def _training(phase: Phase) -> Iterator[None]:
    """The module in training mode; afterwards without gradients, and checked: no loss has seen the last step."""
    phase.module.train()
    try:
        yield
    finally:
        phase.module.eval()
        for parameter in phase.params:
            parameter.grad = None
    if not all(parameter.isfinite().all() for parameter in phase.params):
        raise DivergenceError(f"the last step of phase '{phase.name}' spoiled the weights; lower the learning rate")


def _run_epoch(phase, params, optimizer, epoch, steps, batches, pieces, bar) -> dict[str, float]:
    history, names, checked = [], (), 0
    for step, whole in enumerate(batches):
        rate = phase.recipe.rate(epoch, epoch * steps + step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        terms = _step(phase, params, optimizer, whole, pieces)
        names = tuple(terms)
        history.append(torch.stack(list(terms.values())))
        bar.update()
        if len(history) - checked == CHECK_EVERY:
            bar.set_postfix(_checked(history[checked:], names, phase, epoch, checked))
            checked = len(history)
    if len(history) > checked:
        bar.set_postfix(_checked(history[checked:], names, phase, epoch, checked))
    return dict(zip(names, torch.stack(history).mean(0).tolist(), strict=True)) if history else {}


def _step(phase: Phase, params, optimizer, batches: dict[str, Batch], pieces) -> dict[str, Tensor]:
    """One step of the optimizer; the terms it saw, without their gradients."""
    seen = _joined_step(params, _gradients(phase, params, optimizer, batches, pieces), rows_of(batches))
    if phase.recipe.clip_grad is not None:
        nn.utils.clip_grad_norm_(params, phase.recipe.clip_grad)
    if phase.after_backward:
        phase.after_backward()
    optimizer.step()
    if phase.after_step:
        phase.after_step()
    return seen


def _gradients(phase: Phase, params, optimizer, batches: dict[str, Batch], pieces) -> dict[str, Tensor]:
    """The terms of a step, whose gradients are there, in as many pieces as memory asks for."""
    while (seen := _backward(phase, params, optimizer, batches, pieces)) is None:
        pieces.become_smaller(batches, phase.name)
    return seen


def _backward(phase: Phase, params, optimizer, batches: dict[str, Batch], pieces) -> dict[str, Tensor] | None:
    """The terms of a step, whose gradients are there; None where memory did not suffice for pieces of this size.

    The step is taken again from outside: while the error is handled, it holds on to what filled the memory.
    """
    seen: dict[str, Tensor] = {}
    optimizer.zero_grad(set_to_none=True)
    try:
        for share, piece in pieces.of(batches):
            terms = {name: share * value for name, value in phase.loss(piece).items()}
            torch.stack(list(terms.values())).sum().backward(inputs=params)
            seen = {name: seen.get(name, 0) + value.detach() for name, value in terms.items()}
    except torch.OutOfMemoryError:
        if pieces.count >= pieces.most(batches):
            raise
        return None
    return seen


def _joined_step(params, seen: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    """Gradients and terms of the whole batch, of which this process saw so many rows."""
    if own_part() == WHOLE:
        return seen
    there = torch.stack([torch.tensor(float(param.grad is not None)) for param in params]).to(params[0])
    slopes = [torch.zeros_like(param) if param.grad is None else param.grad for param in params]
    terms = torch.stack(list(seen.values())).to(params[0])
    there, terms, *slopes = mean_of_all([there, terms, *slopes], rows)
    for param, slope, anywhere in zip(params, slopes, there.tolist(), strict=True):
        param.grad = slope if anywhere else None  # a parameter that no loss reaches is not to decay either
    return dict(zip(seen, terms, strict=True))


def _joined(streams: Mapping[str, Stream], size: int, seed: int) -> Iterator[dict[str, Batch]]:
    """Steps of one batch from every stream; the first stream sets how many."""
    (lead, leader), *others = streams.items()
    part = own_part()
    endless = {name: _cycle(stream, size, derive_seed(seed, name), part) for name, stream in others}
    for batch in leader.batches(size, derive_seed(seed, lead), part):
        yield {lead: batch} | {name: next(it) for name, it in endless.items()}


def _cycle(stream: Stream, size: int, seed: int, part: Part) -> Iterator[Batch]:
    turn = 0
    while True:
        yield from stream.batches(size, derive_seed(seed, turn), part)
        turn += 1


def _checked(history: list[Tensor], names: tuple[str, ...], phase: Phase, epoch: int, offset: int) -> dict[str, str]:
    """The mean terms of the latest steps, to be shown, once it is seen that these went well: one wait for both."""
    terms = torch.stack(history).cpu()  # [steps, terms]
    place = f"in phase '{phase.name}', epoch {epoch + 1}, step"
    if (bad := ~terms.isfinite()).any():
        step, term = bad.nonzero()[0].tolist()
        raise DivergenceError(
            f"loss term '{names[term]}' became {terms[step, term].item()} {place} {offset + step + 1}; "
            "lower the learning rate or look at the data of that step"
        )
    if phase.recipe.max_loss is not None and (high := terms.sum(1) > phase.recipe.max_loss).any():
        step = high.nonzero()[0].item()
        raise DivergenceError(
            f"the loss became {terms[step].sum().item():.4g} {place} {offset + step + 1}, above 'max_loss' "
            f"({phase.recipe.max_loss:g}); its largest term is '{names[int(terms[step].argmax())]}'; "
            "lower the learning rate or raise the bound"
        )
    return {name: f"{value:.3f}" for name, value in zip(names, terms.mean(0).tolist(), strict=True)}


def _report(phase: Phase, task: int, epoch: int, means: dict[str, float]) -> None:
    terms = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
    loss = sum(means.values())
    log.info(
        "Task %d, Epoch %d/%d => Loss %.3f (%s: %s)", task, epoch + 1, phase.recipe.epochs, loss, phase.name, terms
    )


def _optimizer(phase: Phase) -> torch.optim.Optimizer:
    recipe, params = phase.recipe, _groups(phase)
    on_gpu = all(parameter.is_cuda for parameter in phase.params)
    shared = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": on_gpu or None}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(params, momentum=recipe.momentum, **shared)
    shared |= {} if recipe.eps is None else {"eps": recipe.eps}
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer](params, **shared)


def _groups(phase: Phase) -> list[dict]:
    """Neighbours with the same rate in a group, so that the places in the optimizer are those of `params`."""
    rated = zip(phase.params, phase.rates or [1.0] * len(phase.params), strict=True)
    return [{"params": [p for p, _ in some], "factor": rate} for rate, some in groupby(rated, key=lambda pair: pair[1])]


def standing(phase: Phase, epoch: int, optimizer: Mapping[int, dict[str, Tensor]] | None = None) -> Progress:
    """Where a phase stands after so many epochs, with its live tensors; of a finished one no optimizer is needed."""
    params = [parameter.detach() for parameter in phase.params]
    return Progress(epoch, params, dict(optimizer or {}), list(phase.tracked))


def _restore(start: Progress, phase: Phase, optimizer: torch.optim.Optimizer) -> int:
    load_progress(start, phase)
    optimizer.load_state_dict({"state": start.optimizer, "param_groups": optimizer.state_dict()["param_groups"]})
    return start.epoch


@torch.no_grad()
def load_progress(progress: Progress, phase: Phase) -> None:
    """Copy the parameters and tracked tensors of a saved phase into the live ones.

    Raises:
        CheckpointError: they differ in number or shape; nothing has been copied then.
    """
    live, saved = [*phase.params, *phase.tracked], [*progress.params, *progress.tracked]
    counts = len(phase.params) == len(progress.params)
    if not counts or [tensor.shape for tensor in live] != [tensor.shape for tensor in saved]:
        raise CheckpointError("the saved phase trained other parameters than this one; start anew without --resume")
    for tensor, value in zip(live, saved, strict=True):
        tensor.copy_(value)
