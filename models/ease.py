"""EASE: a space of its own for every session, and class means in all of them."""

from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convs.backbone import Backbone
from convs.ensemble import Ensemble, adapted_twin
from convs.heads import cosines
from convs.model import Output, freeze
from data.sessions import Session
from models.adaptation import adaptation
from models.learner import Learner
from utils.gaussians import class_means
from utils.loop import Phase

OWN = ("prototypes", "born")


class EaseLearner(Learner):
    """Adapters a session over one frozen backbone; what an old class looks like to new adapters is guessed.

    Args:
        context, options: see `Learner`.
        ffn_num, adapter_scale, adapter_dropout: of the adapters.
        subspace_weight: α of the spaces that are not a class's own.
        published_subspace_weight: whether α is divided by the number of these spaces.

    Attributes:
        prototypes: class means in the space of every session, [C, T, D]. Those in spaces of later sessions than the
            class's are never seen, see `complement`; their common space is that of the class's own session.
        born: the session of every class, [C].

    Source: Zhou et al., Expandable Subspace Ensemble for Pre-Trained Model-Based Class-Incremental Learning, CVPR 2024,
    section 4. The division of α is of PILOT's code, which also guesses anew in every session, from all classes learned
    since a space came.
    """

    needs_images: ClassVar[bool] = True

    def __init__(
        self,
        *context,
        ffn_num: int = 64,
        adapter_scale: float = 0.1,
        adapter_dropout: float = 0.1,
        subspace_weight: float = 0.1,
        published_subspace_weight: bool = False,
        **options,
    ):
        super().__init__(*context, **options)
        self.adapters = (ffn_num, adapter_scale, adapter_dropout)
        self.alpha, self.divided = subspace_weight, published_subspace_weight
        self.pretrained = self.model.backbone
        freeze(self.pretrained)
        self.towers: list[Backbone] = []
        self.prototypes = torch.empty(0, 0, self.pretrained.dim, device=self.model.device)
        self.born = torch.empty(0, dtype=torch.long, device=self.model.device)

    def phases(self, session: Session) -> Iterator[Phase]:
        """A new tower; then class means in all spaces."""
        fresh = self._open_tower()
        yield adaptation(self.model, self.towers[-1], fresh, session, self.recipe(session))
        plain = session.stream("plain")
        features = self.features(plain).view(len(plain), len(self.towers), -1)  # [N, T, D]
        self._remember(class_means(features, plain.labels("fine"), session.classes).to(self.model.device))

    def _open_tower(self) -> list[nn.Parameter]:
        """Add a tower; returns its adapters' parameters."""
        tower, fresh = adapted_twin(self.pretrained, *self.adapters)
        self.towers.append(tower)
        self.model.backbone = Ensemble(self.towers)
        return fresh

    def _remember(self, seen: Tensor) -> None:
        """Take in the means of new classes, [n, T, D], and guess those of old ones in the newest space."""
        guessed = [
            complement(self.prototypes[[i], own], seen[:, own], seen[:, -1]) for i, own in enumerate(self.born.tolist())
        ]
        old = torch.cat([self.prototypes, torch.stack(guessed)], 1) if guessed else seen[:0]
        self.prototypes = torch.cat([old, seen])
        self.born = F.pad(self.born, (0, len(seen)), value=len(self.towers) - 1)

    def predict(self, images: Tensor) -> Output:
        """[B, 3, size, size] → features of all spaces, and their cosines to the prototypes, the own space's in full."""
        features = self.model.backbone(images)
        spaces = features.chunk(len(self.towers), dim=1)  # no length of the batch: an export serves any
        alpha = self.alpha / max(1, len(spaces) - 1) if self.divided else self.alpha
        logits = sum(
            torch.where(self.born == number, 1.0, alpha) * cosines(space, self.prototypes[:, number])
            for number, space in enumerate(spaces)
        )
        return Output(features, {"fine": self.model.scale * logits})

    def state_dict(self) -> dict[str, Tensor]:
        """All adapters, and the prototypes."""
        return super().state_dict() | {"prototypes": self.prototypes, "born": self.born}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` gave; the towers are built first."""
        self.prototypes, self.born = (state[name].to(self.model.device) for name in OWN)
        while len(self.towers) < self.prototypes.shape[1]:
            self._open_tower()
        super().load_state_dict({name: value for name, value in state.items() if name not in OWN})


def complement(old: Tensor, new: Tensor, seen: Tensor) -> Tensor:
    """Where old classes would be in a new space, by what they are like in a space that they share with new ones.

    Args:
        old: old classes in the common space, [O, D].
        new: new classes there, [n, D].
        seen: new classes in the new space, [n, D].

    Returns:
        [O, D]: Σ_j softmax_j(cos(old_i, new_j))·seen_j.

    Source: EASE, CVPR 2024, section 4.2.
    """
    return cosines(old, new).softmax(1) @ seen
