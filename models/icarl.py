"""iCaRL: replay and distillation, and the nearest mean of the kept images."""

from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor

from convs.heads import cosines
from convs.model import Output
from data.sessions import Session
from models.rehearsal import RehearsalLearner
from models.teacher import Teacher, old_classes_kd
from utils.gaussians import class_means
from utils.loop import Batch, Phase

TEMPERATURE = 2.0
MEANS = "means"


class ICarlLearner(RehearsalLearner):
    """Replay whose old classes are held by the model before; an image is of the class whose kept images are nearest.

    As in PyCIL and PILOT, the losses are those of a softmax, CE over all classes + KD with temperature 2 over the old
    ones; the paper's are sigmoids, which cosine rows without bias cannot serve.

    Args:
        context, options: see `RehearsalLearner`.

    Attributes:
        means: of the normalised features of the kept images of every class, [C, D].

    Source: Rebuffi et al., iCaRL: Incremental Classifier and Representation Learning, CVPR 2017.
    """

    means: Tensor | None = None

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase; then images are chosen, and averaged."""
        yield from super().phases(session)
        kept = session.recalled(self.memory.items, augmented=False)
        features, labels = F.normalize(self.features(kept), dim=1), kept.labels("fine")
        self.means = class_means(features, labels, session.seen).to(self.model.device)

    def loss(self, session: Session) -> Callable[[dict[str, Batch]], dict[str, Tensor]]:
        """CE(new and kept images) + KD(student ‖ model before)."""
        teacher = Teacher(self.model) if session.index else None

        def terms(batches: dict[str, Batch]) -> dict[str, Tensor]:
            batch = batches["pool"]
            logits = self.model(batch["image"]).logits["fine"]
            ce = {"ce": F.cross_entropy(logits, batch["fine"])}
            if teacher is None:
                return ce
            return ce | {"distill": old_classes_kd(logits, teacher(batch["image"]), session, TEMPERATURE)}

        return terms

    def predict(self, images: Tensor) -> Output:
        """[B, 3, size, size] → features, and scaled cosines to the means: the largest is that of the nearest."""
        features = self.model.backbone(images)
        return Output(features, {"fine": self.model.scale * cosines(features, self.means)})

    def state_dict(self) -> dict[str, Tensor]:
        """What training changed, which images are kept, and their means."""
        return super().state_dict() | ({} if self.means is None else {MEANS: self.means})

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        self.means = state[MEANS].to(self.model.device) if MEANS in state else None
        super().load_state_dict({name: value for name, value in state.items() if name != MEANS})
