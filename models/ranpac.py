"""RanPAC: features blown up by a random projection, and prototypes decorrelated by ridge regression."""

from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from convs.adapter import inject_adapters
from convs.model import Model, Output, freeze
from data.sessions import Session
from models.adaptation import adaptation
from models.learner import Learner, remap
from utils.loop import Phase, Recipe
from utils.ridge import AT_A_TIME, Regression, best_ridge

OWN = ("projection", "gram", "cross", "rows")


class RanPacLearner(Learner):
    """Adapters learn in the first session; every session adds to a regression of the labels on ReLU(f·W), W random.

    The state holds M · M numbers in double precision, 0.8 GB for M = 10,000, whatever the number of classes.

    Args:
        model, first, later: see `Learner`; `init_epochs` 0 is the method without first-session adaptation.
        ffn_num, adapter_scale, adapter_dropout: of the adapters.
        rp_size: M, the width of the projection.

    Attributes:
        projection: W, [D, M].
        regression: of all images so far.
        rows: its solution, [M, C]. The ridge is chosen anew every session, on a split of the session's own images.

    Source: McDonnell et al., RanPAC: Random Projections and Pre-trained Models for Continual Learning, NeurIPS 2023,
    algorithm 1.
    """

    needs_images: ClassVar[bool] = True

    def __init__(
        self,
        model: Model,
        first: Recipe,
        later: Recipe,
        *,
        ffn_num: int = 64,
        adapter_scale: float = 0.1,
        adapter_dropout: float = 0.1,
        rp_size: int = 10_000,
    ):
        super().__init__(model, first, later)
        freeze(model.backbone)
        groups = inject_adapters(model.backbone.tuned, ffn_num, adapter_scale, adapter_dropout)
        self.adapters = [parameter for group in groups for parameter in group]
        self.projection = torch.randn(model.backbone.dim, rp_size).to(model.device)
        self.regression = Regression.of_nothing(rp_size, model.device)
        self.rows = torch.empty(rp_size, 0, device=model.device)

    def phases(self, session: Session) -> Iterator[Phase]:
        """Adapt in the first session; then one pass over the images."""
        if session.index == 0:
            yield adaptation(self.model, self.model.backbone, self.adapters, session, self.first)
        plain = session.stream("plain")
        features, labels = self.features(plain).to(self.model.device), plain.labels("fine").to(self.model.device)
        for some, theirs in zip(features.split(AT_A_TIME), labels.split(AT_A_TIME), strict=True):
            self.regression = self.regression.grown(self.project(some), theirs, len(session.seen))
        self.rows = self.regression.solution(self._ridge(session, features, labels)).float()

    def _ridge(self, session: Session, features: Tensor, labels: Tensor) -> float:
        targets = F.one_hot(remap(labels, session.classes)).double()
        dice = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        return best_ridge(lambda rows: self.project(features[rows]), self.projection.shape[1], targets, dice)

    def project(self, features: Tensor) -> Tensor:
        """Raw features [B, D] → [B, M]."""
        return F.relu(features @ self.projection)

    def predict(self, images: Tensor) -> Output:
        """[B, 3, size, size] → features, and the regressed labels, 0 to 1, scaled as cosines are."""
        features = self.model.backbone(images)
        return Output(features, {"fine": self.model.scale * (self.project(features) @ self.rows)})

    def state_dict(self) -> dict[str, Tensor]:
        """Adapters, the projection, the regression and its solution."""
        own = (self.projection, self.regression.gram, self.regression.cross, self.rows)
        return super().state_dict() | dict(zip(OWN, own, strict=True))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        self.projection, gram, cross, self.rows = (state[name].to(self.model.device) for name in OWN)
        self.regression = Regression(gram, cross)
        super().load_state_dict({name: value for name, value in state.items() if name not in OWN})
