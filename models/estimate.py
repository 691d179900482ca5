"""How long a forget request will take, from one step and one batch by the clock."""

import math
import time
from dataclasses import dataclass

import torch

from models.build import Built
from utils.config import Config
from utils.loop import step_seconds
from utils.plain import duration
from utils.seeds import seed_everything

BATCH = 32
AUDITED = 3  # models that an audit looks at: the original, the run's, the control


@dataclass(frozen=True)
class Estimate:
    """Seconds, of training and of everything else.

    Attributes:
        steps: of training.
        step: seconds of one.
        looking: seconds of all evaluation and audits.
    """

    steps: int
    step: float
    looking: float

    def __str__(self) -> str:
        training = self.steps * self.step
        return (
            f"about {duration(training + self.looking)}: {self.steps} steps of {self.step:.2g} s, "
            f"{duration(training)}, and {duration(self.looking)} of evaluation and audits"
        )


def estimate(built: Built, config: Config) -> Estimate:
    """The time of a stream's first session, its model spent afterwards.

    Args:
        built: what the config names.
        config: the experiment.
    """
    session, learner = built.sessions[0], built.learner
    read, seen = _an_image(built)
    tested = len(session.stream("test")) + sum(len(item.stream) for item in built.general)
    shown = len(built.manager.images("train", session.seen))
    looking = 2 * (tested + shown) * read + (2 * tested + shown + AUDITED * (tested + shown)) * seen
    seed_everything(config.seed[0], session.index, 0, "set-up")
    phase = next(learner.phases(session), None)
    if phase is None:
        return Estimate(0, 0.0, looking)
    steps = phase.recipe.epochs * math.ceil(len(next(iter(phase.streams.values()))) / phase.recipe.batch_size)
    return Estimate(steps, step_seconds(phase, learner.model.device, config.accumulate), looking)


@torch.no_grad()
def _an_image(built: Built) -> tuple[float, float]:
    """Seconds to read an image and to look at it."""
    stream = built.sessions[0].stream("plain")
    some = stream.at(range(min(BATCH, len(stream))))  # of a whole pass all would be decoded before the first batch
    started = time.perf_counter()
    images = next(some.batches(BATCH, 0))["image"]
    read = time.perf_counter() - started
    for _ in range(2):  # the first time warms up
        started = time.perf_counter()
        built.learner.predict(images.to(built.learner.model.device)).features.cpu()
    return read / len(images), (time.perf_counter() - started) / len(images)
