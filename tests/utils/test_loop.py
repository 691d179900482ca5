"""`utils.loop`: the schedule and SGD by hand, who moves, hooks, divergence, resume."""

import logging
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.support import Terminal
from tests.utils.points import Point, ordered
from utils.checkpoint import RunCheckpoint
from utils.errors import CheckpointError, DivergenceError, LetheError
from utils.loop import CHECK_EVERY, Phase, Progress, Recipe, fit, load_progress, standing, step_seconds
from utils.streams import TensorStream


def phase_of(module, loss, recipe, streams=None, params=None, **hooks):
    params = module.parameters() if params is None else params
    return Phase("test", module, streams or {"train": ordered(3)}, loss, params, recipe, **hooks)


@pytest.fixture
def lines():
    """What the loop logs."""
    log, found = logging.getLogger("lethe"), []
    handler, level = logging.Handler(), log.level
    handler.emit = lambda record: found.append(record.getMessage())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield found
    log.removeHandler(handler)
    log.setLevel(level)


# the learning rate


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.4), (1, 0.1 + 0.3 * 0.75), (1.5, 0.25), (2, 0.1 + 0.3 * 0.25), (3, 0.1)]
)
def test_cosine_rate_by_hand(epoch, rate):
    # (1 + cos(π·e/3)) / 2 = 1, 3/4, 1/2, 1/4, 0
    assert Recipe(epochs=3, lr=0.4, min_lr=0.1).rate(epoch, step=1000) == pytest.approx(rate)


def test_cosine_rate_is_torchs_schedule():
    recipe = Recipe(epochs=7, lr=0.3, min_lr=0.01)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7, eta_min=0.01)
    for epoch in range(7):
        assert recipe.rate(epoch, 0) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        schedule.step()


def test_constant_rate_and_warmup():
    constant = Recipe(epochs=5, lr=0.2, schedule="constant")
    assert [constant.rate(epoch, 10) for epoch in (0, 2, 4)] == [0.2, 0.2, 0.2]
    warm = Recipe(epochs=5, lr=0.2, schedule="constant", warmup_steps=4)
    assert [warm.rate(0, step) for step in range(6)] == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])
    both = Recipe(epochs=2, lr=0.2, warmup_steps=10)  # epoch 1 of 2: half the rate, six tenths of it
    assert both.rate(1, 5) == pytest.approx(0.2 * 0.5 * 0.6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": "lion"},
        {"schedule": "step"},
        {"epochs": -1},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": -1.0},
        {"eps": 0.0},
    ],
)
def test_recipe_refuses(wrong):
    with pytest.raises(ValueError):
        Recipe(**{"epochs": 1, "lr": 0.1, **wrong})


@pytest.mark.parametrize("streams", [{}, {"train": ordered(3), "forget": ordered(0)}, {"train": ordered(0)}])
def test_phase_refuses_streams_without_examples(streams):
    with pytest.raises(ValueError, match="at least one example"):
        Phase("test", nn.Identity(), streams, lambda batches: {}, [], Recipe(epochs=1, lr=0.1))


# the steps


def test_three_steps_of_sgd_by_hand():
    point, lr, decay, momentum = Point(2.0, -1.0), 0.1, 0.05, 0.9
    curvature, target = [3.0, 0.5], [0.5, 4.0]

    def loss(batches):
        return {"quadratic": (torch.tensor(curvature) / 2 * (point.w - torch.tensor(target)) ** 2).sum()}

    recipe = Recipe(epochs=1, lr=lr, batch_size=1, weight_decay=decay, momentum=momentum)
    fit(phase_of(point, loss, recipe), seed=0)
    expected = []
    for w, bend, goal in zip([2.0, -1.0], curvature, target, strict=True):
        speed = 0.0
        for _ in range(3):
            speed = momentum * speed + bend * (w - goal) + decay * w
            w -= lr * speed
        expected.append(w)
    assert point.w.tolist() == pytest.approx(expected, rel=1e-12)


def test_rate_falls_per_epoch_and_rises_per_step():
    point, seen = Point(0.0), []
    recipe = Recipe(epochs=2, lr=0.8, batch_size=1, momentum=0.0, warmup_steps=4)

    def after_step():
        seen.append(point.w.item())

    fit(phase_of(point, lambda batches: {"slope": -point.w.sum()}, recipe, after_step=after_step), seed=0)
    rates = [after - before for before, after in zip([0.0, *seen], seen, strict=False)]
    # warm-up 1/4, 2/4, 3/4, then full; epoch 1 of 2 halves the rate
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.4, 0.4, 0.4])


def test_first_step_of_adam_and_adamw_by_hand():
    for name, expected in [("adam", 2.0 - 0.1), ("adamw", 2.0 * (1 - 0.1 * 0.5) - 0.1)]:
        point = Point(2.0)  # a first Adam step is lr·sign(g); AdamW shrinks the weight apart from it
        recipe = Recipe(epochs=1, lr=0.1, batch_size=3, optimizer=name, weight_decay=0.5)
        fit(phase_of(point, lambda batches, point=point: {"slope": 3 * point.w.sum()}, recipe), seed=0)
        assert point.w.item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("eps", [None, 1e-8, 0.5])
def test_eps_of_adam(name, eps):
    point = Point(2.0)  # a first step is lr·g/(|g| + eps), whose default is 1e-8
    recipe = Recipe(epochs=1, lr=0.1, batch_size=3, optimizer=name, eps=eps)
    fit(phase_of(point, lambda batches: {"slope": 3e-4 * point.w.sum()}, recipe), seed=0)
    moved = 0.1 * 3e-4 / (3e-4 + (1e-8 if eps is None else eps))
    assert 2.0 - point.w.item() == pytest.approx(moved, rel=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_many_steps_are_those_of_torchs_plain_optimizer(name):
    point, plain = Point(2.0, -1.0, 0.3), Point(2.0, -1.0, 0.3)
    options = {"lr": 0.05, "weight_decay": 0.1} | ({"momentum": 0.9} if name == "sgd" else {})
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    optimizer = kind(plain.parameters(), foreach=False, fused=False, **options)
    recipe = Recipe(epochs=4, batch_size=1, optimizer=name, schedule="constant", **options)
    fit(phase_of(point, lambda batches: {"loss": (point.w**3).sum()}, recipe), seed=0)
    for _ in range(4 * 3):
        optimizer.zero_grad()
        (plain.w**3).sum().backward()
        optimizer.step()
    torch.testing.assert_close(point.w, plain.w, rtol=1e-13, atol=0)
    assert not torch.equal(plain.w, Point(2.0, -1.0, 0.3).w)


def test_sgd_has_no_eps():
    ends = []
    for eps in (None, 0.5):
        point = Point(2.0)
        fit(phase_of(point, lambda batches, p=point: {"slope": p.w.sum()}, Recipe(epochs=1, lr=0.1, eps=eps)), seed=0)
        ends.append(point.w.item())
    assert ends[0] == ends[1]


def test_the_sum_of_the_terms_is_minimised_and_each_is_logged(lines):
    point = Point(1.0)
    recipe = Recipe(epochs=2, lr=0.1, batch_size=2, momentum=0.0, schedule="constant")

    def loss(batches):  # slopes 2 and 3 with opposite signs; the mean of x is 0.5, then 2
        return {"up": -2 * point.w.sum(), "down": 3 * point.w.sum(), "batch": batches["train"]["x"].mean()}

    fit(phase_of(point, loss, recipe), seed=0, task=4)
    assert point.w.item() == pytest.approx(1.0 - 4 * 0.1)
    # the weights of epoch 1 are 1.0 and 0.9: means −1.9, 2.85, 1.25
    assert lines[0] == "Task 4, Epoch 1/2 => Loss 2.200 (test: up -1.900, down 2.850, batch 1.250)"
    assert lines[1].startswith("Task 4, Epoch 2/2 => Loss 2.0") and len(lines) == 2


def test_only_the_given_parameters_get_gradients_or_move():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 1))
    unused = nn.Parameter(torch.ones(2))
    before = [parameter.detach().clone() for parameter in net.parameters()]
    recipe = Recipe(epochs=2, lr=0.1, weight_decay=0.1)
    moved = [*net[1].parameters(), unused]
    grads = []

    def after_backward():
        grads.append([parameter.grad is not None for parameter in net.parameters()])

    loss = {"sum": lambda: net(torch.ones(5, 3)).square().sum()}
    phase = phase_of(
        net, lambda b: {k: f() for k, f in loss.items()}, recipe, params=iter(moved), after_backward=after_backward
    )
    fit(phase, seed=0)
    changed = [not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True)]
    assert changed == [False, False, True, True, False, False]
    assert grads == [changed] * 2 and unused.grad is None and unused.tolist() == [1, 1]


def test_hooks_come_after_backward_and_after_the_step():
    point, events = Point(1.0), []

    def loss(batches):
        events.append(("loss", point.w.item(), point.w.grad))
        return {"slope": 2 * point.w.sum()}

    def after_backward():
        events.append(("backward", point.w.item(), point.w.grad.item()))
        point.w.grad.mul_(0.5)

    def after_step():
        events.append(("step", round(point.w.item(), 9), point.w.grad.item()))

    recipe = Recipe(epochs=1, lr=0.1, batch_size=3, momentum=0.0)
    fit(phase_of(point, loss, recipe, after_backward=after_backward, after_step=after_step), seed=0)
    assert events == [("loss", 1.0, None), ("backward", 1.0, 2.0), ("step", 0.9, 1.0)]  # the halved gradient counts


def test_gradients_do_not_add_up_over_steps():
    point, slopes = Point(1.0), []
    recipe = Recipe(epochs=1, lr=0.1, batch_size=1)
    hook = {"after_backward": lambda: slopes.append(point.w.grad.item())}
    fit(phase_of(point, lambda batches: {"slope": 2 * point.w.sum()}, recipe, **hook), seed=0)
    assert slopes == [2.0, 2.0, 2.0]


def test_the_module_is_in_training_mode_only_while_the_phase_lasts():
    point, modes = Point(1.0), []
    point.eval()

    def loss(batches):
        modes.append(point.training)
        return {"slope": point.w.sum()}

    fit(phase_of(point, loss, Recipe(epochs=1, lr=0.1)), seed=0)
    assert modes == [True] and not point.training


def test_the_clock_of_a_step_moves_nothing():
    point, seen = Point(4.0), []

    def loss(batches):
        seen.append((point.training, len(batches["train"]["x"])))
        return {"square": point.w.square().sum()}

    assert step_seconds(phase_of(point, loss, Recipe(epochs=7, lr=0.1, batch_size=2))) > 0
    assert seen == [(True, 2)] * 2  # one batch, once to warm up
    assert point.w.item() == 4.0 and point.w.grad is None and not point.training
    with pytest.raises(DivergenceError, match="'square' became nan"):
        step_seconds(phase_of(point, lambda _: {"square": math.nan * point.w.sum()}, Recipe(epochs=1, lr=0.1)))


def test_no_epochs_leave_everything_as_it_is():
    point, calls = Point(1.0), []
    fit(phase_of(point, calls.append, Recipe(epochs=0, lr=0.1)), seed=0, after_epoch=calls.append)
    assert point.w.item() == 1.0 and not calls


def test_a_phase_ends_where_it_is_told_that_it_is_enough():
    point, epochs = Point(1.0), []

    def enough(progress: Progress) -> bool:
        epochs.append(progress.epoch)
        return progress.epoch == 2

    recipe = Recipe(epochs=5, lr=0.1, batch_size=3, momentum=0.0, schedule="constant")
    fit(phase_of(point, lambda _: {"slope": point.w.sum()}, recipe), seed=0, after_epoch=enough)
    assert epochs == [1, 2] and point.w.item() == pytest.approx(0.8)  # two steps of 0.1
    assert not point.training and point.w.grad is None


# the streams


def drawn_by(lead, others, epochs, batch_size, seed=0):
    """What every step saw, epoch by epoch."""
    point, steps = Point(0.0), [[]]

    def loss(batches):
        steps[-1].append({name: batch["x"].tolist() for name, batch in batches.items()})
        return {"slope": point.w.sum()}

    phase = phase_of(point, loss, Recipe(epochs=epochs, lr=0.1, batch_size=batch_size), {"lead": lead} | others)
    fit(phase, seed=seed, after_epoch=lambda progress: steps.append([]))
    return steps[:-1]


def test_the_first_stream_sets_the_length_and_the_others_are_cycled():
    (epoch,) = drawn_by(ordered(7), {"short": ordered(3), "long": ordered(50)}, epochs=1, batch_size=2)
    assert [step["lead"] for step in epoch] == [[0, 1], [2, 3], [4, 5], [6]]
    assert [step["short"] for step in epoch] == [[0, 1], [2], [0, 1], [2]]
    assert [step["long"] for step in epoch] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_every_pass_is_shuffled_anew_and_every_epoch_too():
    lead = TensorStream({"x": torch.arange(40)})
    short = TensorStream({"x": torch.arange(20)})
    epochs = drawn_by(lead, {"short": short}, epochs=2, batch_size=10)
    passes = []
    for steps in epochs:
        assert Counter(value for step in steps for value in step["lead"]) == Counter(range(40))
        passes += [steps[0]["short"] + steps[1]["short"], steps[2]["short"] + steps[3]["short"]]
    assert all(sorted(order) == list(range(20)) for order in passes)
    assert len({tuple(order) for order in passes}) == 4
    assert epochs[0] != epochs[1]
    assert epochs == drawn_by(lead, {"short": short}, epochs=2, batch_size=10)
    assert epochs != drawn_by(lead, {"short": short}, epochs=2, batch_size=10, seed=1)


# divergence


def diverging(at, epoch, value, epochs=3, steps=130):
    """Fit with the second term no longer finite at a step (counted from 1); returns the message and the epochs done."""
    point, done, count = Point(1.0), [], [0]

    def loss(batches):
        count[0] += 1
        now = value if count[0] == (epoch - 1) * steps + at else 1.0
        return {"first": point.w.sum(), "second": point.w.sum() * now, "third": point.w.sum()}

    phase = phase_of(point, loss, Recipe(epochs=epochs, lr=1e-6, batch_size=1), {"train": ordered(steps)})
    with pytest.raises(DivergenceError) as caught:
        fit(phase, seed=0, after_epoch=lambda progress: done.append(progress.epoch))
    return str(caught.value), done


@pytest.mark.parametrize("at", [1, CHECK_EVERY, CHECK_EVERY + 1, 2 * CHECK_EVERY + 7, 130])
@pytest.mark.parametrize(("value", "written"), [(math.nan, "nan"), (-math.inf, "-inf")])
def test_divergence_names_term_epoch_and_step(at, value, written):
    message, done = diverging(at, epoch=2, value=value)
    assert f"'second' became {written} in phase 'test', epoch 2, step {at};" in message and "\n" not in message
    assert done == [1]  # the epoch that diverged was not handed on to be saved


def test_divergence_is_the_users_to_mend():
    assert issubclass(DivergenceError, LetheError)


# what it says while it runs


def test_what_is_told_is_the_mean_of_each_term_over_the_epoch():
    point, told = Point(0.0), []

    def loss(batches):
        return {"first": batches["train"]["x"].sum() + 0 * point.w.sum(), "second": 0 * point.w.sum() - 2}

    phase = phase_of(point, loss, Recipe(epochs=2, lr=0.1, batch_size=1))
    fit(phase, seed=0, told=lambda means: told.append(("terms", means)), after_epoch=lambda _: told.append("saved"))
    assert told == 2 * [("terms", {"first": 1.0, "second": -2.0}), "saved"]  # 0, 1 and 2 in the stream


def test_the_bar_shows_the_terms_and_no_step_waits_for_the_device(monkeypatch):
    terminal, looks, point = Terminal(), [], Point(0.0)
    monkeypatch.setattr("sys.stderr", terminal)

    def noted(name: str):
        real = getattr(torch.Tensor, name)
        return lambda *args, **options: looks.append(name) or real(*args, **options)

    for name in ("cpu", "tolist", "item", "numpy", "__float__", "__bool__"):  # what makes a host wait
        monkeypatch.setattr(torch.Tensor, name, noted(name))
    phase = phase_of(
        point,
        lambda batches: {"ce": point.w.sum() * 0 + 0.125, "keep": point.w.sum() * 0 + 2},
        Recipe(epochs=1, lr=0.1, batch_size=1),
        {"train": ordered(3 * CHECK_EVERY)},
    )
    fit(phase, seed=0, task=4)
    assert "task 4 test: " in terminal.getvalue() and "ce=0.125, keep=2.000" in terminal.getvalue()
    assert len(looks) < CHECK_EVERY  # a few at every third of the epoch, not one a step


# going on from a saved epoch


class Noisy(nn.Module):
    """A small net with dropout, the same whenever it is made."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))

    def phase(self, recipe):
        generator = torch.Generator().manual_seed(1)
        rows = {"x": torch.randn(11, 5, generator=generator), "y": torch.randint(3, (11,), generator=generator)}
        streams = {"train": TensorStream(rows), "other": TensorStream({"x": rows["x"][:3]})}

        def loss(batches):
            logits = self.layers(batches["train"]["x"])
            small = self.layers(batches["other"]["x"]).square().mean()
            return {"ce": nn.functional.cross_entropy(logits, batches["train"]["y"]), "small": 0.1 * small}

        return Phase("noisy", self, streams, loss, list(self.parameters())[1:], recipe)  # the first weight is frozen

    def state(self):
        return [parameter.detach().clone() for parameter in self.parameters()]


class Cut(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "plain"])
@pytest.mark.parametrize("cut", [1, 3])
def test_an_interrupted_phase_ends_bit_equal(tmp_path, optimizer, cut):
    kind = {"optimizer": "sgd", "momentum": 0.0} if optimizer == "plain" else {"optimizer": optimizer}
    recipe = Recipe(epochs=5, lr=0.05, batch_size=4, weight_decay=0.01, warmup_steps=5, **kind)
    whole = Noisy()
    fit(whole.phase(recipe), seed=3)

    def keep(progress):
        RunCheckpoint(tmp_path, "abc").save_phase(2, 0, progress, finished=False)
        if progress.epoch == cut:
            raise Cut

    with pytest.raises(Cut):
        fit(Noisy().phase(recipe), seed=3, after_epoch=keep)
    progress, finished = RunCheckpoint(tmp_path, "abc").load_phase(2, 0)
    assert progress.epoch == cut and not finished
    torch.rand(100)  # another process stands elsewhere in the generator
    resumed, later = Noisy(), []
    fit(resumed.phase(recipe), seed=3, start=progress, after_epoch=lambda progress: later.append(progress.epoch))
    assert later == list(range(cut + 1, 6))
    assert all(map(torch.equal, resumed.state(), whole.state()))
    assert not all(map(torch.equal, whole.state(), Noisy().state()))


def test_a_finished_phase_is_loaded_and_not_fitted(tmp_path):
    recipe = Recipe(epochs=2, lr=0.05)
    trained, checkpoint = Noisy(), RunCheckpoint(tmp_path, "abc")
    phase = trained.phase(recipe)
    fit(phase, seed=0)
    checkpoint.save_phase(0, 1, standing(phase, 2), finished=True)
    progress, finished = checkpoint.load_phase(0, 1)
    fresh = Noisy()
    load_progress(progress, fresh.phase(recipe))
    assert finished and all(map(torch.equal, fresh.state(), trained.state()))


def test_parameters_of_another_module_are_refused_before_any_is_copied():
    net = nn.Linear(3, 2)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    whole, row = torch.zeros(2, 3), torch.zeros(3)  # the row would spread over a matrix without a word
    for saved in ([whole], [whole, torch.zeros(3)], [row, torch.zeros(2)], [whole, torch.zeros(2), row]):
        phase = phase_of(net, lambda batches: {}, Recipe(epochs=2, lr=0.1))
        with pytest.raises(CheckpointError, match="other parameters"):
            load_progress(Progress(1, saved, {}), phase)
        with pytest.raises(CheckpointError, match="other parameters"):
            fit(phase, seed=0, start=Progress(1, saved, {}))
    assert all(map(torch.equal, before, net.parameters()))


def averaged(recipe, calls):
    """A phase over a fresh net whose hooks keep the mean of the weights after epochs 2, 3, …"""
    net = Noisy()
    mean = [torch.zeros_like(parameter) for parameter in list(net.parameters())[1:]]

    def after(epoch):
        calls.append(("after", epoch))
        for total, parameter in zip(mean, list(net.parameters())[1:], strict=True):
            total.add_(parameter.detach() * (epoch >= 2))

    return replace(
        net.phase(recipe),
        before_epoch=lambda epoch: calls.append(("before", epoch)),
        after_epoch=after,
        tracked=mean,
    )


def test_hooks_of_an_epoch_and_tracked_tensors_survive_a_cut(tmp_path):
    recipe, calls, later = Recipe(epochs=5, lr=0.05, batch_size=4), [], []
    whole = averaged(recipe, calls)
    fit(whole, seed=3)
    assert calls == [(when, epoch) for epoch in range(5) for when in ("before", "after")]

    def keep(progress):
        RunCheckpoint(tmp_path, "abc").save_phase(2, 0, progress, finished=False)
        if progress.epoch == 4:
            raise Cut

    with pytest.raises(Cut):
        fit(averaged(recipe, []), seed=3, after_epoch=keep)
    resumed = averaged(recipe, later)
    fit(resumed, seed=3, start=RunCheckpoint(tmp_path, "abc").load_phase(2, 0)[0])
    assert later == [("before", 4), ("after", 4)]
    assert all(map(torch.equal, resumed.tracked, whole.tracked)) and whole.tracked[0].abs().sum() > 0
    done = averaged(recipe, [])
    load_progress(standing(whole, 5), done)
    assert all(map(torch.equal, done.tracked, whole.tracked))


def test_tracked_tensors_of_another_shape_are_refused():
    recipe = Recipe(epochs=2, lr=0.05)
    phase = averaged(recipe, [])
    for tracked in ([], [*phase.tracked[:-1], torch.zeros(7)]):
        with pytest.raises(CheckpointError, match="other parameters"):
            load_progress(replace(standing(phase, 1), tracked=tracked), averaged(recipe, []))


def test_another_seed_ends_elsewhere():
    ends = []
    for seed in (0, 1):
        net = Noisy()
        fit(net.phase(Recipe(epochs=1, lr=0.05)), seed=seed)
        ends.append(net.state())
    assert not torch.equal(ends[0][1], ends[1][1])


# a step in pieces


@pytest.mark.parametrize(("count", "sizes"), [(1, [4, 1]), (2, [2, 2, 1]), (3, [2, 1, 1, 1]), (9, [1, 1, 1, 1, 1])])
def test_a_step_in_pieces_is_the_whole_step(count, sizes, lines):
    """Five examples in batches of four."""
    ends, seen = [], []

    def loss(batches):
        seen.append(len(batches["train"]["x"]))
        a = (batches["train"]["x"] * point.w).square().mean()
        return {"a": a, "b": (point.w * batches["train"]["x"]).mean()}

    for pieces in (1, count):
        seen.clear()
        point = Point(1.0)
        streams = {"train": ordered(5)}
        phase = phase_of(point, loss, Recipe(1, lr=0.01, batch_size=4, schedule="constant"), streams)
        fit(phase, seed=0, accumulate=pieces)
        ends.append(point.w.item())
    assert seen == sizes
    assert ends[1] == pytest.approx(ends[0], rel=1e-12)
    assert lines[0] == lines[1]


def test_no_piece_lacks_a_stream():
    def loss(batches):
        pairs.append(tuple(len(batch["x"]) for batch in batches.values()))
        return {"a": sum(batch["x"].mean() for batch in batches.values()) * point.w.sum()}

    point, pairs = Point(1.0), []
    streams = {"train": ordered(4), "few": ordered(2)}
    fit(phase_of(point, loss, Recipe(1, lr=0.1, batch_size=4), streams), seed=0, accumulate=3)
    assert pairs == [(2, 1), (2, 1)]


# memory that does not suffice


def test_pieces_become_smaller_until_they_fit_and_the_step_stays_one(lines):
    """Five examples in one batch; more than two at a time do not fit."""
    sizes = []

    def end(most):
        def loss(batches):
            x = batches["train"]["x"]
            sizes.append(len(x))
            if len(x) > most:
                raise torch.OutOfMemoryError("no room")
            return {"a": (x * point.w).square().mean()}

        point = Point(1.0)
        recipe = Recipe(2, lr=0.01, batch_size=5, schedule="constant")
        fit(phase_of(point, loss, recipe, {"train": ordered(5)}), seed=0)
        return point.w.item()

    ends = [end(5), end(2)]
    assert sizes == [5, 5, *(5, 3, 2, 1, 1, 1), *(2, 1, 1, 1)]
    assert ends[1] == pytest.approx(ends[0], rel=1e-12)
    assert "Out of memory in phase 'test': its steps go on in 4 pieces" in lines


def test_memory_for_not_even_one_example_is_an_error():
    def loss(batches):
        raise torch.OutOfMemoryError("no room at all")

    with pytest.raises(torch.OutOfMemoryError, match="no room at all"):
        fit(phase_of(Point(1.0), loss, Recipe(1, lr=0.1, batch_size=3)), seed=0)


# guards


@pytest.mark.parametrize(("clip", "step"), [(None, 5.0), (10.0, 5.0), (1.0, 1.0)])
def test_a_long_gradient_is_shortened(clip, step):
    """∂/∂w of 3·w₀ + 4·w₁ has length 5."""
    point, slope = Point(0.0, 0.0), torch.tensor([3.0, 4.0], dtype=torch.float64)
    recipe = Recipe(1, lr=1.0, momentum=0.0, batch_size=3, clip_grad=clip)
    fit(phase_of(point, lambda _: {"a": (slope * point.w).sum()}, recipe), seed=0)
    assert point.w.tolist() == pytest.approx([-0.6 * step, -0.8 * step], rel=1e-6)


def test_a_loss_above_its_bound_stops_the_phase():
    def loss(_):
        return {"small": 0 * point.w.sum() + 1, "large": 0 * point.w.sum() + 2}

    point = Point(1.0)
    fit(phase_of(point, loss, Recipe(1, lr=0.1, max_loss=3.0)), seed=0)
    with pytest.raises(
        DivergenceError, match=r"the loss became 3 in phase 'test', epoch 1, step 1, above 'max_loss' \(2.5\)"
    ):
        fit(phase_of(point, loss, Recipe(1, lr=0.1, max_loss=2.5)), seed=0)


# a rate for every parameter


class Three(nn.Module):
    """Three numbers that all begin at 1."""

    def __init__(self):
        super().__init__()
        self.values = nn.ParameterList([torch.ones(1, dtype=torch.float64) for _ in range(3)])


def rated(module, recipe):
    def loss(batches):
        return {"line": sum(slope * value.sum() for slope, value in zip((1, 2, 4), module.values, strict=True))}

    return phase_of(module, loss, recipe, rates=[0.1, 1.0, 0.1])


def test_rates_by_hand():
    module = Three()
    fit(rated(module, Recipe(epochs=1, lr=0.5, batch_size=3, momentum=0.0)), seed=0)
    assert [value.item() for value in module.values] == pytest.approx([1 - 0.05, 1 - 1.0, 1 - 0.2])


def test_rates_share_the_decay():
    module = Three()
    fit(rated(module, Recipe(epochs=1, lr=0.5, batch_size=3, momentum=0.0, weight_decay=0.5)), seed=0)
    assert [value.item() for value in module.values] == pytest.approx([1 - 0.05 * 1.5, 1 - 0.5 * 2.5, 1 - 0.05 * 4.5])


def test_a_phase_with_rates_goes_on_where_it_stood():
    recipe, kept = Recipe(epochs=3, lr=0.5, batch_size=1, optimizer="adam"), []
    whole, cut = Three(), Three()

    def keep(progress: Progress) -> None:
        state = {i: {name: torch.as_tensor(v).clone() for name, v in s.items()} for i, s in progress.optimizer.items()}
        kept.append(replace(progress, params=[value.clone() for value in progress.params], optimizer=state))

    fit(rated(whole, recipe), seed=0, after_epoch=keep)
    fit(rated(cut, recipe), seed=0, start=kept[0])
    assert all(torch.equal(one, other) for one, other in zip(whole.values, cut.values, strict=True))


def test_a_rate_is_there_for_every_parameter_or_for_none():
    with pytest.raises(ValueError, match="phase 'test' has 3 parameters and 2 rates"):
        phase_of(Three(), lambda _: {}, Recipe(epochs=1, lr=1.0), rates=[1.0, 0.1])
