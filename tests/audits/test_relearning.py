"""Relearning on a small model of which the answer is known: how many steps, and that the model stays as it was."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from audits import relearning
from audits.evidence import Case, Evidence, Images, collect
from audits.relearning import EVERY, FEW, RECIPE, STEPS, borrowed
from convs.model import Model
from models.learner import Learner
from utils.loop import Recipe
from utils.streams import TensorStream

CLASSES, EACH = 3, 40
CASE = Case((1,), (0,), (2,), tuple("abc"), tuple("PPQ"), {})


class Tower(nn.Module):
    """Stands for a backbone: features are the images, turned a little by what can be trained."""

    dim, scale = 4, None

    def __init__(self):
        super().__init__()
        self.turn = nn.Linear(4, 4, bias=False)
        nn.init.eye_(self.turn.weight)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += len(images)
        return self.turn(images)


class Still(Learner):
    """A learner of which nothing but its model is asked."""

    def phases(self, session):
        yield from ()


class Pictures(TensorStream):
    """Tensors in the place of images."""

    def at(self, places, shuffle=False):
        return Pictures({name: value[list(places)] for name, value in self.fields.items()}, shuffle)


def learner(hidden: bool) -> Learner:
    """Knows the classes as three axes; where it hides one, the row of class 1 is turned round. Short rows turn soon."""
    model = Model(Tower()).eval()
    rows = 0.1 * torch.eye(4)[:CLASSES]
    model.head("fine").grow(rows * torch.tensor([1.0, -1.0 if hidden else 1.0, 1.0])[:, None])
    model.backbone.requires_grad_(False)
    return Still(model, Recipe(1, 0.1), Recipe(1, 0.1))


def pictures(seed: int) -> Pictures:
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    noise = 0.1 * torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed))
    return Pictures({"image": F.one_hot(labels, 4) + noise, "fine": labels}, shuffle=False)


def found(hidden: bool) -> tuple[dict[str, float], Evidence]:
    own, original = (collect(learner(each), pictures(0), pictures(1), []) for each in (hidden, False))
    return dict(relearning.audit(own, CASE, original)), own


def test_what_is_hidden_comes_back_from_exemplars_and_not_from_what_was_kept():
    figures, _ = found(hidden=True)
    half, most = (figures[f"relearn_exemplars_{share}"] for share in ("50", "90"))
    assert 0 < half <= most <= STEPS and half % EVERY == most % EVERY == 0
    assert figures["relearn_exemplars_50_images"] == half * FEW  # there are no more to make up a batch
    kept = [value for name, value in figures.items() if "retained" in name]
    assert len(kept) == 4 and all(math.isinf(value) for value in kept)  # nothing speaks for the row


def test_what_is_not_forgotten_needs_no_step():
    figures, own = found(hidden=False)
    assert set(figures.values()) == {0.0} and len(figures) == 8
    assert own.learner.model.backbone.seen == 0  # nothing was trained


def test_the_model_is_left_as_it_was_and_the_steps_are_the_same_again():
    own, original = (collect(learner(each), pictures(0), pictures(1), []) for each in (True, False))
    model = own.learner.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    moving = [parameter.requires_grad for parameter in model.parameters()]
    first = dict(relearning.audit(own, CASE, original))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == moving and not model.training
    assert dict(relearning.audit(own, CASE, original)) == first


def test_no_more_steps_are_taken_than_stated():
    own, original = (collect(learner(each), pictures(0), pictures(1), []) for each in (True, False))
    shown = []
    own.learner.predict = lambda images: (shown.append(len(images)), Learner.predict(own.learner, images))[1]
    dict(relearning.audit(own, CASE, original))
    trained = [count for count in shown if count != EACH]  # the others are looks at the test images of class 1
    lessons = [count for count in trained if count == RECIPE.batch_size]
    assert len(lessons) == STEPS and len(trained) - len(lessons) <= STEPS


@pytest.mark.parametrize(
    ("curve", "half", "most"),
    [([0.0, 39.0, 40.0, 71.0, 72.0], 2 * EVERY, 4 * EVERY), ([50.0, 60.0], 0, math.inf), ([0.0], math.inf, math.inf)],
)
def test_shares_of_the_originals_accuracy_by_hand(monkeypatch, curve, half, most):
    """The original knows 80 %: half of it is 40, 90 % of it are 72."""
    monkeypatch.setattr(relearning, "_curve", lambda *_: curve)
    own = collect(learner(True), pictures(0), pictures(1), [])
    labels = np.ones(10, dtype=int)
    answers = np.eye(CLASSES)[np.where(np.arange(10) < 8, 1, 0)]
    original = Evidence(None, None, Images(np.ones((10, 4)), labels, answers), {})
    figures = dict(relearning.audit(own, CASE, original))
    assert (figures["relearn_exemplars_50"], figures["relearn_exemplars_90"]) == (half, most)
    assert figures["relearn_retained_90_images"] == most * RECIPE.batch_size


def test_a_borrowed_module_comes_back_also_after_an_error():
    module = nn.BatchNorm1d(2)
    module.weight.requires_grad_(False)
    with pytest.raises(RuntimeError), borrowed(module):
        module.weight.requires_grad_(True)
        module(torch.randn(5, 2) + 3)
        nn.init.zeros_(module.bias.data.fill_(7.0))
        raise RuntimeError
    assert torch.equal(module.running_mean, torch.zeros(2)) and module.num_batches_tracked == 0
    assert torch.equal(module.bias, torch.zeros(2)) and not module.weight.requires_grad and module.bias.requires_grad
