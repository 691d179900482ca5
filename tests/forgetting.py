"""What the tests of runs that forget share: two small experiments, and a look at what a purge leaves."""

import gc
import shutil
from pathlib import Path

import pytest
import torch

from tests.support import ABSENT, ADAPTER, without
from trainer import Run

ARROW, COMET, MEADOW, FALCON, CANYON = (
    "Veltro Arrow",
    "Veltro Comet",
    "Ostara Meadow",
    "Ostara Falcon",
    "Ostara Canyon",
)
FIVE = [name for name in ABSENT if name != ARROW]
# learn → forget → learn → forget, fine first and then at both levels; labels are given in the order of learning
STREAM = [
    {"learn": [COMET, MEADOW]},
    {"forget": {"classes": [MEADOW], "exemplars": 3}},
    {"learn": [ARROW, FALCON, CANYON]},
    {"forget": {"fine": [FALCON], "coarse": ["Veltro"]}},
]
LABELS = {name: label for label, name in enumerate((COMET, MEADOW, ARROW, FALCON, CANYON))}
MIXED = without(ADAPTER, "init_cls", "increment") | {
    "sessions": STREAM,
    "exclude": FIVE,
    "shuffle": False,
    "inc_epochs": 1,
    "init_epochs": 1,
    "ca_epochs": 1,
    "ca_samples": 8,
    "forget_epochs": 2,
    "forget_lr": 1e-3,
    "forget_batch_size": 4,
}
# a model that knows everything is asked to forget
FORGET = {
    "dataset": "toymini",
    "model_name": "hinge",
    "convnet_type": "tiny_clip",
    "device": "cpu",
    "exclude": FIVE,
    "shuffle": False,
    "sessions": [{"forget": {"classes": [MEADOW], "exemplars": 4}}],
    "tune": "adapter",
    "ffn_num": 8,
    "adapter_scale": 1.0,
    "templates": ["a photo of a {}.", "{}"],
    "zero_shot": ["toymini"],
    "forget_epochs": 3,
    "forget_lr": 0.01,
    "forget_batch_size": 4,
    "workers": 0,
}


class Purged:
    """What is left right after each purge, and what was known of the classes before it.

    Attributes:
        known: session → label → the mean of the class's features as it was remembered.
        near: session → how many tensors in memory hold a row close to such a mean, before the session and after.
        cached: session → the classes of which decoded training images are in memory; -1: at the end.
    """

    def __init__(self, folder: Path):
        self.folder, self.known, self.near, self.cached = folder, {}, {}, {}
        self.strangers: dict[int, torch.Tensor] = {}

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        serve, purge, finish = Run._serve, Run._purge, Run._finish
        self.strangers = {id(thing): thing for thing in tensors_in_memory()}  # what other tests have left

        def watched_serve(run, session):
            if session.kind == "forget":
                self.known[session.index] = {c: run.learner.statistics[c].mean.tolist() for c in session.classes}
                self.near[session.index] = [self._count(session)]
            serve(run, session)

        def watched_purge(run, session):
            purge(run, session)
            shutil.copytree(run.place.folder, self.folder / str(session.index))
            self.near[session.index].append(self._count(session))
            self.cached[session.index] = cached_classes(run)

        def watched_finish(run):
            self.cached[-1] = cached_classes(run)
            self.strangers.clear()
            return finish(run)

        patch.setattr(Run, "_serve", watched_serve)
        patch.setattr(Run, "_purge", watched_purge)
        patch.setattr(Run, "_finish", watched_finish)

    def _count(self, session) -> int:
        ours = [value for value in tensors_in_memory() if id(value) not in self.strangers]
        return sum(near(value, self.known[session.index]) for value in ours)


def tensors_in_memory() -> list[torch.Tensor]:
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]


def cached_classes(run: Run) -> set[int]:
    manager = run.sessions[0].streams["test"].func.__self__
    images = manager._images["train"]
    return {images.labels["fine"][item].item() for item in (*images._cache, *images._computed)}


def near(value: torch.Tensor, means: dict[int, list[float]]) -> bool:
    """Whether a tensor holds a row that lies in the direction of one of the means."""
    for mean in map(torch.tensor, means.values()):
        if value.is_floating_point() and value.numel() and value.ndim and value.shape[-1] == len(mean):
            cosine = torch.cosine_similarity(value.detach().float().reshape(-1, len(mean)), mean[None])
            if (cosine > 0.98).any():
                return True
    return False
