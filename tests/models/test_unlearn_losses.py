"""`models.unlearn_losses` against loops over Python's floats; gradients against finite differences."""

import math
from typing import get_args

import pytest
import torch

from models.unlearn_losses import (
    LOSSES,
    NPO,
    GradientAscent,
    GradientDifference,
    Hinge,
    KLAscent,
    MaximumEntropy,
    Negation,
    Relabeling,
    UnlearnLoss,
    View,
    build_loss,
    entropy_gap,
    hinge,
    masked_kl,
    wrong_labels,
)
from utils.errors import ConfigError

# by hand: everything below sees lists of floats only


def log_softmax(row):
    top = max(row)
    norm = top + math.log(sum(math.exp(value - top) for value in row))
    return [value - norm for value in row]


def cross_entropies(view, labels=None):
    labels = view.labels if labels is None else labels
    return [-log_softmax(row)[label] for row, label in zip(view.logits.tolist(), labels.tolist(), strict=True)]


def mean(values):
    return sum(values) / len(values)


def ce(view):
    return mean(cross_entropies(view))


def kl(view, drop_true):
    total, elements = 0.0, 0
    for new, old, label in zip(view.logits.tolist(), view.original.tolist(), view.labels.tolist(), strict=True):
        columns = [place for place in range(len(new)) if not (drop_true and place == label)]
        elements += len(columns)
        if columns:
            new, old = log_softmax([new[place] for place in columns]), log_softmax([old[place] for place in columns])
            total += sum(math.exp(o) * (o - n) for n, o in zip(new, old, strict=True))
    return total / elements if elements else 0.0


def hinge_by_hand(view, margin):
    terms = []
    for row, label in zip(view.logits.tolist(), view.labels.tolist(), strict=True):
        others = [value for place, value in enumerate(row) if place != label]
        terms.append(max(0.0, row[label] - max(others) + margin))
    return mean(terms)


def entropy_by_hand(view):
    """Σ_j 1/C·(log 1/C − log p_j), averaged."""
    rows = [log_softmax(row) for row in view.logits.tolist()]
    return mean([sum(1 / len(row) * (math.log(1 / len(row)) - value) for value in row) for row in rows])


def npo_by_hand(views, beta):
    now = [cross_entropies(view) for view in views.values()]
    then = [cross_entropies(View(view.original, view.original, view.labels)) for view in views.values()]
    gains = [sum(a) - sum(b) for a, b in zip(zip(*now, strict=True), zip(*then, strict=True), strict=True)]
    return mean([2 / beta * math.log1p(math.exp(-beta * gain)) for gain in gains])


# the table of the paper, goal by goal: loss, what is forgotten (f, c = fine, coarse) and kept

SETTINGS = {"kl_fine": 3.0, "kl_coarse": 7.0}
TABLE = {
    "ga": (
        GradientAscent(),
        lambda f, c: {"forget": -ce(f)},
        lambda f, c: {"forget": -ce(f) - ce(c)},
    ),
    "gdiff": (
        GradientDifference(),
        lambda f, c: {"forget": -ce(f), "keep": ce(c)},
        lambda f, c: {"forget": -ce(f) - ce(c)},
    ),
    "kl": (
        KLAscent(**SETTINGS),
        lambda f, c: {"forget": -ce(f), "keep": 7 * kl(c, False) + 3 * kl(f, True)},
        lambda f, c: {"forget": -ce(f) - ce(c), "keep": 7 * kl(c, True) + 3 * kl(f, True)},
    ),
    "npo": (
        NPO(0.4, **SETTINGS),
        lambda f, c: {"forget": npo_by_hand({"fine": f}, 0.4), "keep": 7 * kl(c, False) + 3 * kl(f, True)},
        lambda f, c: {"forget": npo_by_hand({"fine": f, "coarse": c}, 0.4), "keep": 7 * kl(c, True) + 3 * kl(f, True)},
    ),
    "hinge": (
        Hinge(2.0, 1.5, **SETTINGS),
        lambda f, c: {"forget": hinge_by_hand(f, 2.0), "keep": 7 * kl(c, False) + 3 * kl(f, True)},
        lambda f, c: {
            "forget": hinge_by_hand(f, 2.0) + hinge_by_hand(c, 1.5),
            "keep": 7 * kl(c, True) + 3 * kl(f, True),
        },
    ),
    "relabeling": (
        Relabeling(),
        lambda f, c: {"forget": mean(cross_entropies(f, f.wrong))},
        lambda f, c: {"forget": mean(cross_entropies(c, c.wrong))},
    ),
    "me": (
        MaximumEntropy(),
        lambda f, c: {"forget": entropy_by_hand(f), "keep": ce(c)},
        lambda f, c: {"forget": entropy_by_hand(f) + entropy_by_hand(c)},
    ),
    "negation": (
        Negation(0.05),
        lambda f, c: {"forget": ce(f), "keep": -0.05 * ce(c)},
        lambda f, c: {"forget": ce(f) + ce(c)},
    ),
}


def view(rows, classes, seed=0, scale=3.0, labels=None):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    original = logits + torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (rows,), generator=generator) if labels is None else torch.tensor(labels)
    wrong = wrong_labels(labels, classes, generator) if classes > 1 else None
    return View(logits.requires_grad_(), original, labels, wrong)


def ties(rows, classes):
    flat = torch.full((rows, classes), 4.0, dtype=torch.float64)
    labels = torch.arange(rows) % classes
    return View(flat.clone().requires_grad_(), flat, labels, (labels + 1) % classes)


BATCHES = {
    "usual": lambda: (view(6, 5), view(6, 3, seed=1)),
    "one example": lambda: (view(1, 7), view(1, 4, seed=1)),
    "one class in the batch": lambda: (view(4, 5, labels=[2] * 4), view(4, 3, seed=1, labels=[1] * 4)),
    "two classes": lambda: (view(5, 2), view(5, 2, seed=1)),
    "ties": lambda: (ties(6, 5), ties(6, 3)),
    "large logits": lambda: (view(6, 5, scale=80.0), view(6, 3, seed=1, scale=80.0)),
}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", TABLE)
def test_every_loss_is_its_line_of_the_table_at_both_goals(name, batch):
    loss, at_fine, at_coarse = TABLE[name]
    fine, coarse = BATCHES[batch]()
    for found, expected in (
        (loss({"fine": fine}, {"coarse": coarse}), at_fine(fine, coarse)),
        (loss({"fine": fine, "coarse": coarse}, {}), at_coarse(fine, coarse)),
    ):
        assert {key: value.item() for key, value in found.items()} == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert all(value.shape == () for value in found.values())


@pytest.mark.parametrize("name", TABLE)
def test_on_a_set_of_one_level_nothing_else_is_kept(name):
    loss, at_fine, _ = TABLE[name]
    fine = view(6, 5)
    found = loss({"fine": fine}, {})
    assert found["forget"].item() == pytest.approx(at_fine(fine, view(6, 3))["forget"], rel=1e-9)
    if name in ("kl", "npo", "hinge"):
        assert found["keep"].item() == pytest.approx(3 * kl(fine, True), rel=1e-9)
    else:
        assert "keep" not in found


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", TABLE)
def test_gradients_are_finite_in_single_precision(name, batch):
    views = [
        View(v.logits.detach().float().requires_grad_(), v.original.float(), v.labels, v.wrong)
        for v in BATCHES[batch]()
    ]
    fine, coarse = views
    for forgotten, kept in (({"fine": fine}, {"coarse": coarse}), ({"fine": fine, "coarse": coarse}, {})):
        total = sum(TABLE[name][0](forgotten, kept).values())
        slopes = torch.autograd.grad(total, [fine.logits, coarse.logits], materialize_grads=True)
        assert all(slope.isfinite().all() for slope in slopes)


@pytest.mark.parametrize("goal", ["fine", "coarse"])
@pytest.mark.parametrize("name", TABLE)
def test_gradients_are_those_of_finite_differences(name, goal):
    fine, coarse = view(3, 4), view(3, 3, seed=1)

    def total(z_fine, z_coarse):
        f = View(z_fine, fine.original, fine.labels, fine.wrong)
        c = View(z_coarse, coarse.original, coarse.labels, coarse.wrong)
        split = ({"fine": f}, {"coarse": c}) if goal == "fine" else ({"fine": f, "coarse": c}, {})
        return sum(TABLE[name][0](*split).values())

    assert torch.autograd.gradcheck(total, (fine.logits, coarse.logits))


# one class only


def test_with_one_class_the_kls_are_zero_and_the_rest_is_finite():
    only = view(3, 1)
    assert masked_kl(only.logits, only.original, only.labels).item() == 0.0
    assert entropy_gap(only.logits).item() == 0.0
    for name in ("ga", "gdiff", "kl", "npo", "me", "negation"):
        terms = TABLE[name][0]({"fine": only}, {})
        (slope,) = torch.autograd.grad(sum(terms.values()), only.logits)
        assert all(value.isfinite() for value in terms.values()) and not slope.any()


def test_with_one_class_hinge_and_relabeling_are_refused():
    only = view(3, 1)
    with pytest.raises(ValueError, match="at least 2 classes"):
        hinge(only.logits, only.labels, 1.0)
    with pytest.raises(ValueError, match="at least 2 classes"):
        Relabeling()({"fine": only}, {})
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        wrong_labels(torch.zeros(3, dtype=torch.long), 1, torch.Generator())


# the true column


def test_the_masked_kl_does_not_see_the_true_column():
    batch = view(6, 5)
    moved = batch.logits.detach().clone()
    moved[torch.arange(6), batch.labels] += torch.linspace(-500, 500, 6, dtype=torch.float64)
    before = masked_kl(batch.logits, batch.original, batch.labels)
    assert masked_kl(moved, batch.original, batch.labels).item() == pytest.approx(before.item(), rel=1e-12)
    (slope,) = torch.autograd.grad(before, batch.logits)
    true = torch.zeros(6, 5, dtype=torch.bool).scatter_(1, batch.labels[:, None], True)
    assert not slope[true].any() and slope[~true].all()


def test_the_masked_kl_is_zero_where_only_the_true_class_moved():
    batch = view(4, 3)
    moved = batch.original.clone()
    moved[torch.arange(4), batch.labels] -= 9.0
    assert masked_kl(moved, batch.original, batch.labels).item() == pytest.approx(0.0, abs=1e-15)
    assert TABLE["kl"][0].keep({}, {"fine": View(moved, batch.original, batch.labels)}).item() > 0.1


# the single losses


def test_hinge_by_hand_and_past_its_margin():
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 5.0, 2.0], [4.0, 1.0, 4.0]])
    labels = torch.tensor([0, 2, 0])  # 3 − 1 + 2 = 4; 2 − 5 + 2 < 0; 4 − 4 + 2 = 2
    assert hinge(logits, labels, 2.0).item() == pytest.approx((4 + 0 + 2) / 3)
    behind = torch.tensor([[0.0, 9.0]], requires_grad=True)
    terms = Hinge(kl_fine=0.0)({"fine": View(behind, behind.detach(), torch.tensor([0]))}, {})
    (slope,) = torch.autograd.grad(terms["forget"], behind)
    assert terms["forget"].item() == 0.0 and not slope.any()


def test_hinge_sees_the_best_of_the_others_also_below_zero():
    # masking the true logit with 0 would make the best of the others 0
    logits, labels = torch.tensor([[-1.0, -6.0, -9.0]]), torch.tensor([0])
    assert hinge(logits, labels, 0.5).item() == pytest.approx(-1 + 6 + 0.5)


def test_npo_starts_at_2_log2_over_beta_and_nears_gradient_ascent():
    batch = view(4, 5)
    start = {"fine": View(batch.original, batch.original, batch.labels)}
    assert NPO(0.4).forget(start).item() == pytest.approx(2 / 0.4 * math.log(2))
    (small,) = torch.autograd.grad(NPO(1e-7).forget({"fine": batch}), batch.logits)
    (ascent,) = torch.autograd.grad(GradientAscent().forget({"fine": batch}), batch.logits)
    torch.testing.assert_close(small, ascent, rtol=1e-5, atol=1e-8)


def test_npo_works_example_by_example():
    # one example far forgotten, one not at all: the mean of the two, not log σ of their mean difference
    original = torch.zeros(2, 2, dtype=torch.float64)
    logits = torch.tensor([[-40.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    found = NPO(1.0).forget({"fine": View(logits, original, torch.tensor([0, 0]))}).item()
    assert found == pytest.approx((0.0 + 2 * math.log(2)) / 2, rel=1e-9)


def test_maximum_entropy_is_zero_at_the_uniform_only():
    assert entropy_gap(torch.full((2, 6), -3.0, dtype=torch.float64)).item() == pytest.approx(0.0, abs=1e-15)
    assert entropy_gap(torch.tensor([[0.0, 1.0]])).item() > 0


def test_relabeling_needs_its_labels():
    batch = view(3, 4)
    with pytest.raises(ValueError, match="wrong labels"):
        Relabeling()({"fine": View(batch.logits, batch.original, batch.labels)}, {})


def test_a_view_needs_logits_of_one_shape():
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[2, 4\]"):
        View(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("wrong", [{"npo_beta": 0.0}, {"npo_beta": -1.0}, {"kl_fine": -1.0}, {"kl_coarse": -0.1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        NPO(**wrong)


# wrong labels


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_wrong_labels_are_never_true_and_uniform_over_the_others(classes):
    draws = 20_000
    for true in range(classes):
        found = wrong_labels(torch.full((draws,), true), classes, torch.Generator().manual_seed(true))
        counts = torch.bincount(found, minlength=classes)
        assert found.dtype == torch.long and counts[true] == 0 and counts.sum() == draws
        share, others = 1 / (classes - 1), counts[torch.arange(classes) != true] / draws
        error = math.sqrt(share * (1 - share) / draws)
        assert (others - share).abs().max() <= 4.5 * error + 1e-9  # rounding: counts / draws is single precision


def test_wrong_labels_follow_their_generator_alone():
    labels = torch.arange(50)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = wrong_labels(labels, 50, torch.Generator().manual_seed(3))
    assert torch.equal(first, wrong_labels(labels, 50, torch.Generator().manual_seed(3)))
    assert not torch.equal(first, wrong_labels(labels, 50, torch.Generator().manual_seed(4)))
    assert torch.equal(torch.get_rng_state(), state)


# by name


def test_every_loss_has_its_published_settings():
    assert vars(build_loss("kl")) == {"kl": {"fine": 20, "coarse": 20}}
    assert vars(build_loss("npo")) == {"kl": {"fine": 20, "coarse": 5}, "beta": 0.5}
    assert vars(build_loss("hinge")) == {"kl": {"fine": 20, "coarse": 10}, "margins": {"fine": 2, "coarse": 2}}
    assert vars(Negation()) == {"share": 0.05}


def test_build_takes_the_keys_that_the_loss_has():
    every = {"kl_fine": 1.0, "kl_coarse": None, "npo_beta": 0.3, "margin_fine": 4.0, "margin_coarse": 5.0}
    for name, kind in LOSSES.items():
        loss = build_loss(name, **every)
        assert type(loss) is kind and isinstance(loss, UnlearnLoss)
    assert vars(build_loss("npo", **every)) == {"kl": {"fine": 1, "coarse": 5}, "beta": 0.3}
    assert build_loss("hinge", **every).margins == {"fine": 4, "coarse": 5}


def test_unknown_name_names_the_nearest():
    with pytest.raises(ConfigError, match="no loss 'hing'; did you mean 'hinge'"):
        build_loss("hing")


def test_an_experiment_may_name_every_loss():
    from utils.schema import Config

    assert set(get_args(Config.model_fields["unlearn_loss"].annotation)) == set(LOSSES)
