"""A trained model at work: images in, names and probabilities out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from convs.model import LEVELS, Model, Output
from data.decode import BROKEN, fault, pixels
from data.decoding import channels_first, read_image
from data.manager import DataManager
from data.sessions import ClassOrder
from data.transforms import test_transform
from models.learner import Learner
from models.runs import reopen, restore, trained
from utils.config import Config
from utils.devices import choose_device
from utils.errors import ConfigError, DataError

BATCH = 32
Picture = str | Path | Image.Image


class Answers(nn.Module):
    """A model whose forward pass says all at once: features [B, D], then the logits [B, C] of each level of names.

    Args:
        model: the model.
        order: the names of its classes. A data set of one level has one; of two, a model without coarse rows answers
            the coarse names by each parent's best child.
        predict: what a learner answers that classifies by more than its model's rows; None: the model does.
    """

    def __init__(self, model: Model, order: ClassOrder, predict: Callable[[Tensor], Output] | None = None):
        super().__init__()
        self.model, self.predict = model, predict or model.forward
        rows = {level: values.shape[1] for level, values in self._asked_of_nothing().items()}
        self.names = {"fine": order.fine[: rows["fine"]]}
        self.families = _families(order.parents[: rows["fine"]])
        if order.two_levels:
            self.names["coarse"] = order.coarse[: rows.get("coarse", len(self.families))]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """[B, 3, size, size] → features and, in the order of `names`, logits."""
        output = self.predict(images)
        return output.features, *(self._logits(output.logits, level) for level in self.names)

    @torch.no_grad()
    def _asked_of_nothing(self) -> dict[str, Tensor]:
        size = self.model.backbone.preprocess.size
        return self.predict(torch.zeros(1, 3, size, size, device=self.model.device)).logits

    def _logits(self, logits: Mapping[str, Tensor], level: str) -> Tensor:
        if level in logits:
            return logits[level]
        return torch.stack([logits["fine"][:, some].amax(1) for some in self.families], dim=1)


def _families(parents: Sequence[int]) -> list[list[int]]:
    """The fine labels of each parent."""
    return [[label for label, own in enumerate(parents) if own == parent] for parent in range(max(parents) + 1)]


@dataclass(frozen=True)
class LoadedRun:
    """The model that a finished run has left.

    Attributes:
        folder: of the run.
        config: its experiment.
        answers: the model, in evaluation mode, and the names of its classes by level.
        order: all names of the data set, and whose child is whose.
        forgotten: level → the names that it was asked to forget and has not learned again; they stay candidates, as
            they were when the run was measured.
        by_rows: whether the model's rows are the whole classifier.
        rows: what was measured after each session, as `utils.results.SessionResult` writes it.
    """

    folder: Path
    config: Config
    answers: Answers
    order: ClassOrder
    forgotten: Mapping[str, frozenset[str]]
    by_rows: bool
    rows: Sequence[Mapping]

    @property
    def model(self) -> Model:
        """The model itself."""
        return self.answers.model

    @torch.no_grad()
    def predict(
        self, images: Picture | Sequence[Picture] | Tensor, level: str = "fine", top: int = 5
    ) -> tuple[list[list[str]], Tensor]:
        """What the images show.

        Args:
            images: files or PIL images, one or several, or a batch [B, 3, size, size] made by `prepare`.
            level: "fine" or "coarse".
            top: so many names, or as many as there are.

        Returns:
            Names, B lists, the likeliest first; and their probabilities [B, top], on the CPU.

        Raises:
            ConfigError: the data set has no such level.
            DataError: a file is missing or no image.
        """
        if level not in self.answers.names:
            raise ConfigError(f"level '{level}': '{self.config.dataset}' has {' and '.join(self.answers.names)} names")
        names, place = self.answers.names[level], 1 + list(self.answers.names).index(level)
        logits = [self.answers(batch.to(self.model.device))[place] for batch in self._batches(images)]
        found = torch.cat(logits).softmax(1).cpu().topk(min(top, len(names)))
        return [[names[label] for label in row] for row in found.indices.tolist()], found.values

    def prepare(self, image: Picture) -> Tensor:
        """A picture as the model's input, [3, size, size].

        Raises:
            DataError: the file is missing or no image.
        """
        look = self.model.backbone.preprocess
        transform = test_transform(look.size, look.interpolation, look.crop_pct)
        try:
            return look.normalised(transform(_opened(image, self.config.jpeg_side)))
        except FileNotFoundError as error:
            raise DataError(f"{image}: no such image") from error

    def _batches(self, images: Picture | Sequence[Picture] | Tensor) -> Iterator[Tensor]:
        if isinstance(images, Tensor):
            yield from images.split(BATCH)
            return
        several = [images] if isinstance(images, str | Path | Image.Image) else list(images)
        for start in range(0, len(several), BATCH):
            yield torch.stack([self.prepare(image) for image in several[start : start + BATCH]])


def load(folder: Path, device: str = "auto", **changes: object) -> LoadedRun:
    """The model of a run; see `models.load_run`.

    Args:
        folder: of the run.
        device: "auto", "cpu", "cuda" or "cuda:1".
        changes: see `models.runs.reopen`.
    """
    changes = {"compile": False, "grad_checkpointing": False} | changes
    config, built = reopen(folder, choose_device(device, strict=device != "auto"), images=False, **changes)
    saved = trained(folder, config)
    restore(built.learner, saved, built.manager.order, folder)
    model = built.learner.model.requires_grad_(False).eval()
    manager, by_rows = built.manager, type(built.learner).predict is Learner.predict
    answers = Answers(model, manager.order, None if by_rows else built.learner.predict)
    return LoadedRun(folder, config, answers, manager.order, _forgotten(manager), by_rows, saved.notes["results"])


def _forgotten(manager: DataManager) -> dict[str, frozenset[str]]:
    last, parents = manager.steps[-1], manager.order.parents
    parent = {name: manager.order.coarse[parents[label]] for label, name in enumerate(manager.order.fine)}
    asked = {name for step in manager.steps for name in step.coarse}
    gone = {"fine": set(last.seen) - set(last.alive), "coarse": asked - {parent[name] for name in last.alive}}
    return {level: frozenset(gone[level]) for level in LEVELS}


def _opened(image: Picture, jpeg_side: int | None) -> Tensor:
    """A picture from memory or from a file, uint8 [3, H, W]."""
    if isinstance(image, Image.Image):
        try:
            return channels_first(pixels(image))
        except BROKEN as error:
            raise DataError(f"the picture {fault(error)}") from error
    return read_image(Path(image), jpeg_side)
