"""The time a forget request will take: sums by hand, and that of a real request."""

from types import SimpleNamespace

import torch

from models import estimate as module
from models.build import build
from models.estimate import Estimate, estimate
from tests.forgetting import FORGET
from utils.config import Config
from utils.loop import Recipe

SETTINGS = Config.model_validate(FORGET)


def test_steps_and_looks_by_hand(monkeypatch):
    monkeypatch.setattr(module, "step_seconds", lambda phase, device, accumulate: 2.0)
    monkeypatch.setattr(module, "_an_image", lambda built: (0.5, 0.25))
    phase = SimpleNamespace(recipe=Recipe(epochs=3, lr=1.0, batch_size=4), streams={"forget": range(9)})
    phases = [phase]
    learner = SimpleNamespace(phases=lambda session: iter(phases), model=SimpleNamespace(device="cpu"))
    session = SimpleNamespace(index=0, seen=(0,), stream=lambda name: range(5))
    manager = SimpleNamespace(images=lambda split, seen: range(7))
    built = SimpleNamespace(
        sessions=[session], learner=learner, general=[SimpleNamespace(stream=range(10))], manager=manager
    )
    # 22 images are read by the run and by the audit; the 15 for tests are seen before and after, the 7 others once by
    # the run, and all of them three times by the audit
    looking = 2 * 22 * 0.5 + (2 * 15 + 7 + 3 * 22) * 0.25
    assert estimate(built, SETTINGS) == Estimate(3 * 3, 2.0, looking)
    assert str(Estimate(9, 2.0, 47.75)) == "about 66 s: 9 steps of 2 s, 18 s, and 48 s of evaluation and audits"
    phases.clear()  # a learner that trains nothing
    assert estimate(built, SETTINGS) == Estimate(0, 0.0, looking)


def test_of_a_real_request(workplace):
    built = build(SETTINGS, 1, torch.device("cpu"))
    before = {name: value.clone() for name, value in built.learner.model.state_dict().items()}
    found = estimate(built, SETTINGS)
    assert found.steps == 3 and found.step > 0 and found.looking > 0  # four exemplars in one batch, three epochs
    assert all(torch.equal(before[name], value) for name, value in built.learner.model.state_dict().items())
