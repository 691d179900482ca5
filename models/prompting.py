"""What prompt learners have in common: a frozen tower, prompts that a query asks for, and rows of the classes."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convs.prompts import Prompted, Slots
from data.sessions import Session
from models.learner import Learner, new_classes_ce
from utils.errors import ConfigError
from utils.loop import Batch, Phase


class PromptLearner(Learner):
    """Prompts and the rows of the session's classes move by the cross-entropy over these; nothing else does.

    The published classifiers are linear, here the rows are compared by cosines.

    Attributes:
        prompts: query [B, dim] → what the slots of the tower take.
    """

    needs_images: ClassVar[bool] = True
    prompts: nn.Module

    def prompt(self, slots: Slots, prompts: nn.Module) -> None:
        """Let the model's tower have prompts.

        Args:
            slots: of the tower.
            prompts: see `Prompted`; parameters that sessions append stand in its `nn.ParameterList`s.
        """
        self.prompts = prompts.to(self.model.device)
        self.model.backbone = Prompted(self.model.backbone, slots, self.prompts).eval()

    @abstractmethod
    def opened(self, session: Session) -> Iterable[nn.Parameter]:
        """The prompts that move in a session, which are made where it has its own."""

    @abstractmethod
    def asked(self, query: Tensor) -> tuple[Any, dict[str, Tensor]]:
        """Queries of training images [B, dim] → what the slots take, and weighted terms beside the cross-entropy."""

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase."""
        backbone, moving = self.model.backbone, self.opened(session)
        rows = self.model.grow("fine", [session.order.fine[label] for label in session.classes])

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["train"]
            prompts, terms = self.asked(backbone.query(batch["image"]))
            logits = self.model.classify(backbone.prompted(batch["image"], prompts)).logits["fine"]
            return {"ce": new_classes_ce(logits, batch["fine"], session)} | terms

        streams = {"train": session.stream("train")}
        yield Phase("prompt", self.model, streams, loss, [*moving, rows], self.recipe(session))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` gave; there are as many prompts as it holds."""
        for name, parts in self.prompts.named_children():
            while (key := f"backbone.prompts.{name}.{len(parts)}") in state:
                parts.append(nn.Parameter(torch.empty_like(state[key], device=self.model.device)))
        super().load_state_dict(state)


def uniform(*shape: int) -> nn.Parameter:
    """A parameter with every number drawn from −1 … 1, as L2P and DualPrompt begin."""
    return nn.Parameter(torch.empty(*shape).uniform_(-1, 1))


def distance(query: Tensor, keys: Tensor) -> Tensor:
    """Queries and keys [B, …, D] → 1 − their cosine, [B, …]."""
    return 1 - F.cosine_similarity(query, keys, dim=-1)


def chosen_blocks(key: str, wanted: Sequence[int] | None, usual: Sequence[int], depth: int) -> tuple[int, ...]:
    """The blocks that have prompts: those wanted, or else the paper's as far as the tower has them.

    Raises:
        ConfigError: one that is wanted is not there.
    """
    if wanted is None:
        return tuple(layer for layer in usual if layer < depth)
    if wanted and max(wanted) >= depth:
        raise ConfigError(f"key '{key}': there is no block {max(wanted)}; the tower's are 0 to {depth - 1}")
    return tuple(sorted(set(wanted)))
