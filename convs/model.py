"""The one interface over CLIP and ViT: features, and logits for every level of names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convs.backbone import Backbone
from convs.clip import ClipBackbone
from convs.heads import CosineHead, Head, LinearHead, logits
from utils.errors import WeightsError, nearest

LEVELS = ("fine", "coarse")
ROW_STD = 0.02  # spread of a fresh ViT row, SSIAT's


@dataclass(frozen=True)
class Output:
    """What a model says of a batch: raw features [B, D] and logits {level: [B, C_level]}."""

    features: Tensor
    logits: dict[str, Tensor]


class Model(nn.Module):
    """A backbone and one growing classifier per level: of cosines, or linear where its classes were recalled as such.

    Args:
        backbone: the image tower.
        scale: logit scale where the backbone brings none.
        templates: how names become texts, where the backbone has a text tower.
    """

    def __init__(self, backbone: Backbone, scale: float = 20.0, templates: tuple[str, ...] = ("{}",)):
        super().__init__()
        self.backbone, self.templates, self._scale = backbone, templates, scale
        self.heads = nn.ModuleDict()
        self.reset_heads()

    @property
    def scale(self) -> Tensor | float:
        """What cosines are multiplied with to become logits."""
        return self._scale if self.backbone.scale is None else self.backbone.scale

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def forward(self, images: Tensor) -> Output:
        """[B, 3, size, size] → Output."""
        return self.classify(self.backbone(images))

    def classify(self, features: Tensor) -> Output:
        """Raw features [B, D] → Output."""
        return Output(features, self.logits(features, self.rows()))

    def logits(self, features: Tensor, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Raw features [B, D] against rows {level: [C, D]} → scaled cosines {level: [B, C]}.

        Rows [C, D + 1] are a linear classifier's and give its own logits.
        """
        return {level: logits(features, weight, self.scale) for level, weight in rows.items()}

    def rows(self) -> dict[str, Tensor]:
        """The classifier rows, {level: [C, D]} or, of a linear one, [C, D + 1], of the levels that have any."""
        return {level: head.weight for level, head in self.heads.items() if len(head)}

    @torch.no_grad()
    def grow(self, level: str, names: Sequence[str]) -> nn.Parameter | None:
        """Append rows for new names: their text features where there is a text tower, else small random rows.

        Returns:
            The new rows, [n, D], or None where `names` is empty.

        Raises:
            WeightsError: see `check_growth`.
        """
        if not names:
            return None
        self.check_growth(level)
        return self.head(level).grow(self._initial_rows(names))

    def check_growth(self, level: str) -> None:
        """See that a level's classifier can be taught classes that the weights do not know.

        Raises:
            WeightsError: its rows are those of the weights' own linear classifier.
        """
        if isinstance(self.head(level), LinearHead):
            raise WeightsError(
                f"the {level} classes known so far were recalled from the weights' own classifier, which is linear and "
                "takes no rows of classes learned later; let the stream begin with a learn session, or choose weights "
                "without a classifier"
            )

    @torch.no_grad()
    def recall(self, level: str, names: Sequence[str]) -> None:
        """Append the rows of classes that the backbone knows from its pre-training.

        Raises:
            WeightsError: see `known_rows`.
        """
        if names:
            rows = self.known_rows(level, names)
            self._make_room(level, rows)
            self.head(level).grow(rows)

    @torch.no_grad()
    def known_rows(self, level: str, names: Sequence[str]) -> Tensor:
        """What the backbone itself says of names: their text features, or the rows its weights came with.

        Returns:
            [n, D], or [n, D + 1] where the weights' own classifier is linear.

        Raises:
            WeightsError: there is no text tower, and the weights brought no row of such a name.
        """
        self.check_known(level, names)
        if isinstance(self.backbone, ClipBackbone):
            return self.backbone.name_features(list(names), self.templates)
        trained = self.backbone.trained_heads[level]
        return trained.rows[[trained.names.index(name) for name in names]].float().to(self.device)

    def check_known(self, level: str, names: Sequence[str]) -> None:
        """See that `known_rows` has an answer, without asking a text tower.

        Raises:
            WeightsError: as there; names the first name in question.
        """
        trained = self.backbone.trained_heads.get(level)
        known = trained.names if trained else ()
        unknown = [name for name in names if name not in known]
        if unknown and not isinstance(self.backbone, ClipBackbone):
            raise WeightsError(
                f"the weights know no {level} class '{unknown[0]}'{nearest(unknown[0], known)}; teach it in a learn "
                "session first, or choose an image–text model"
            )

    def head(self, level: str) -> Head:
        """The classifier of a level; without rows it says nothing in `Output`."""
        return self.heads[level]

    def reset_heads(self) -> None:
        """Drop all rows."""
        self.heads.update({level: CosineHead(self.backbone.dim) for level in LEVELS})

    @torch.no_grad()
    def renew(self, level: str, label: int, name: str) -> None:
        """Give a class that is there already a fresh row, as `grow` would.

        Raises:
            WeightsError: see `check_growth`.
        """
        self.check_growth(level)
        self.head(level).replace({label: self._initial_rows([name])[0]})

    def _make_room(self, level: str, rows: Tensor) -> None:
        """A head that such rows fit into; one of another kind is dropped."""
        if rows.shape[1] != self.head(level).width:
            linear = rows.shape[1] == self.backbone.dim + 1
            self.heads[level] = (LinearHead if linear else CosineHead)(self.backbone.dim)

    def _initial_rows(self, names: Sequence[str]) -> Tensor:
        if isinstance(self.backbone, ClipBackbone):
            return self.known_rows("fine", names)
        return nn.init.trunc_normal_(torch.empty(len(names), self.backbone.dim, device=self.device), std=ROW_STD)

    def trainable_state(self) -> dict[str, Tensor]:
        """Everything that may have changed since the backbone was built: the head rows and what is not frozen."""
        return {name: value.detach() for name, value in self.named_parameters() if _may_change(name, value)}

    @torch.no_grad()
    def load_trainable_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `trainable_state` gave; the heads grow to the saved size.

        Raises:
            ValueError: the state belongs to another model.
        """
        for name in sorted((name for name in state if name.startswith("heads.")), key=_row_position):
            level, position = _row_position(name)
            self._make_room(level, state[name])
            if position == len(self.head(level).rows):
                self.head(level).grow(state[name].to(self.device))
        own = dict(self.named_parameters())
        expected = {name for name, value in own.items() if _may_change(name, value)}
        if expected != set(state):
            raise ValueError(f"the saved state has other parameters: {sorted(expected ^ set(state))[:3]} …")
        for name, value in state.items():
            own[name].copy_(value)


def freeze(module: nn.Module) -> None:
    """No parameter of the module moves any more."""
    module.requires_grad_(False)


def _may_change(name: str, parameter: nn.Parameter) -> bool:
    """Rows that no optimizer moves are still written anew, as from a tuned text tower."""
    return parameter.requires_grad or name.startswith("heads.")


def _row_position(name: str) -> tuple[str, int]:
    """`heads.fine.rows.3` → ("fine", 3)."""
    _, level, _, position = name.split(".")
    return level, int(position)
