"""APER: a backbone adapted in the first session, beside itself as it was; class means as the classifier."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from torch import nn

from convs.backbone import Backbone
from convs.ensemble import Ensemble, adapted_twin, copied
from data.sessions import Session
from models.adaptation import adaptation
from models.simplecil import SimpleCilLearner
from models.tuning import tower
from utils.loop import Phase


class AperLearner(SimpleCilLearner):
    """SimpleCIL on features of both towers, the pre-trained and the adapted one, after one phase in the first session.

    Args:
        context, options: see `Learner`.

    Attributes:
        adapted: the tower that is trained.
        moving: those of its parameters that move.

    Source: Zhou et al., Revisiting Class-Incremental Learning with Pre-Trained Models: Generalizability and Adaptivity
    are All You Need, IJCV 2024, section 4.2 (ADAM, later named APER).
    """

    needs_images: ClassVar[bool] = True
    adapted: Backbone
    moving: list[nn.Parameter]

    def pair(self, pretrained: Backbone, adapted: Backbone, moving: Sequence[nn.Parameter]) -> None:
        """Make the two towers the model's backbone."""
        self.adapted, self.moving = adapted, list(moving)
        self.model.backbone = Ensemble((pretrained, adapted))
        self.model.reset_heads()

    def phases(self, session: Session) -> Iterator[Phase]:
        """Adapt in the first session; then class means."""
        if session.index == 0:
            yield adaptation(self.model, self.adapted, self.moving, session, self.first)
        yield from super().phases(session)


class AperFinetuneLearner(AperLearner):
    """All weights of the image tower are adapted."""

    def __init__(self, *context, **options):
        super().__init__(*context, **options)
        pretrained = copied(self.model.backbone)
        self.pair(pretrained, self.model.backbone, tower(self.model))


class AperAdapterLearner(AperLearner):
    """Adapters are; the two towers have all other weights in common.

    Args:
        context, options: see `Learner`.
        ffn_num, adapter_scale, adapter_dropout: of the adapters.
    """

    def __init__(
        self,
        *context,
        ffn_num: int = 64,
        adapter_scale: float = 0.1,
        adapter_dropout: float = 0.1,
        **options,
    ):
        super().__init__(*context, **options)
        self.pair(self.model.backbone, *adapted_twin(self.model.backbone, ffn_num, adapter_scale, adapter_dropout))
