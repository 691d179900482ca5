"""MOS: adapters a task, held together while they learn, and found at test time by what they say themselves."""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convs.backbone import Backbone
from convs.ensemble import Succession, adapted_twin
from convs.heads import cosines
from convs.model import Output, freeze
from data.sessions import Session
from models.alignment import AlignedLearner
from models.learner import new_classes_ce
from utils.gaussians import class_means
from utils.loop import Batch, Phase

OWN = ("prototypes", "born")
LOOKS = 4  # at adapters, for one image


class MosLearner(AlignedLearner):
    """Adapters a session over one frozen backbone; an image is asked of those that know the class they name.

    The answer is the mean of two probabilities: by prototypes in the pre-trained space, which also say whose adapters
    are asked first, and by the aligned rows in the space of the adapters that were found.

    Args:
        context, options: see `AlignedLearner`.
        ffn_num, adapter_scale, adapter_dropout: of the adapters.
        adapter_momentum: α; after every step adapters θ become (1 − α)·θ + α·(mean of all earlier ones).

    Attributes:
        prototypes: class means in the pre-trained space, [C, D].
        born: the session of every class, [C].

    Source: Sun et al., MOS: Model Surgery for Pre-Trained Model-Based Class-Incremental Learning, AAAI 2025, section 4.
    Its code merges in every forward pass of every block, at test time too; it adds a term against features that are
    alike, gives the rows a tenth of the rate, and multiplies the prototypes' cosines by the number of sessions.
    """

    needs_images: ClassVar[bool] = True

    def __init__(
        self,
        *context,
        ffn_num: int = 64,
        adapter_scale: float = 0.1,
        adapter_dropout: float = 0.1,
        adapter_momentum: float = 0.1,
        **options,
    ):
        super().__init__(*context, **options)
        self.adapters, self.momentum = (ffn_num, adapter_scale, adapter_dropout), adapter_momentum
        self.pretrained, self.groups = self.model.backbone, []
        freeze(self.pretrained)
        self.towers: list[Backbone] = [self.pretrained]
        self.prototypes = torch.empty(0, self.pretrained.dim, device=self.model.device)
        self.born = torch.empty(0, dtype=torch.long, device=self.model.device)

    def phases(self, session: Session) -> Iterator[Phase]:
        """New adapters; then remember, in both spaces, and align."""
        plain = session.stream("plain")
        labels = plain.labels("fine")
        self._open_tower()
        yield self._adapt(session)
        self._remember(session, self.features(plain), labels)
        means = class_means(self.features(plain, self.pretrained), labels, session.classes)
        self.prototypes = torch.cat([self.prototypes, means.to(self.model.device)])
        self.born = F.pad(self.born, (0, len(means)), value=len(self.groups) - 1)
        if self.ca and session.index:
            yield self._align(session)

    @torch.no_grad()
    def _open_tower(self) -> None:
        """Adapters of a new task, which begin as the last ones."""
        tower, fresh = adapted_twin(self.pretrained, *self.adapters)
        for parameter, last in zip(fresh, self.groups[-1] if self.groups else fresh, strict=True):
            parameter.copy_(last)
        self.groups.append(fresh)
        self.towers.append(tower)
        self.model.backbone = Succession(self.towers)

    def _adapt(self, session: Session) -> Phase:
        rows = self.model.grow("fine", [session.order.fine[label] for label in session.classes])

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["train"]
            return {"ce": new_classes_ce(self.model(batch["image"]).logits["fine"], batch["fine"], session)}

        streams, params = {"train": session.stream("train")}, [*self.groups[-1], rows]
        merge = merging(self.groups[-1], self.groups[:-1], self.momentum) if len(self.groups) > 1 else None
        return Phase("adapt", self.model, streams, loss, params, self.recipe(session), after_step=merge)

    def _scale(self, learned: int, now: int) -> float:
        """Adapters of past tasks stay, and with them their classes' features."""
        return 1.0

    def predict(self, images: Tensor) -> Output:
        """[B, 3, size, size] → features of the adapters that were found, and log-probabilities."""
        views = self.model.backbone.views(images)  # [B, 1 + T, D]
        first = self.model.scale * cosines(views[:, 0], self.prototypes)
        features = self._found(views[:, 1:], self.born[first.argmax(1)])
        second = self.model.classify(features).logits["fine"]
        both = torch.logaddexp(first.log_softmax(1), second.log_softmax(1))
        return Output(features, {"fine": both.log_softmax(1)})

    def _found(self, views: Tensor, task: Tensor) -> Tensor:
        """Features by all adapters [B, T, D], and whose to ask first [B] → features by those that stay with it, [B, D].

        Adapters that name a class of another task hand on to that task's.
        """
        named = self.model.classify(views.flatten(0, 1)).logits["fine"].argmax(1)
        following = self.born[named].unflatten(0, (-1, views.shape[1]))  # [B, T]
        for _ in range(LOOKS - 1):
            task = following.gather(1, task[:, None])[:, 0]
        return views.gather(1, task[:, None, None].expand(-1, 1, views.shape[2]))[:, 0]

    def state_dict(self) -> dict[str, Tensor]:
        """All adapters, the statistics, and the prototypes."""
        return super().state_dict() | {"prototypes": self.prototypes, "born": self.born}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` gave; the towers are built first."""
        self.prototypes, self.born = (state[name].to(self.model.device) for name in OWN)
        while len(self.groups) < len(self.born.unique()):
            self._open_tower()
        super().load_state_dict({name: value for name, value in state.items() if name not in OWN})


def merging(moving: Sequence[nn.Parameter], earlier: Sequence[Sequence[Tensor]], share: float) -> Callable[[], None]:
    """What pulls parameters to the mean of those of earlier tasks, by a share of the way a call.

    Args:
        moving: of a task's adapters.
        earlier: the same of every task before it, one at least.
        share: α.
    """
    means = [torch.stack([each.detach() for each in same]).mean(0) for same in zip(*earlier, strict=True)]

    @torch.no_grad()
    def merge() -> None:
        for parameter, mean in zip(moving, means, strict=True):
            parameter.lerp_(mean, share)

    return merge
