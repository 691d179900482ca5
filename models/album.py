"""The album of a forget request: some of its exemplars, and what the model takes them for before and after."""

import base64
import io

import torch
from PIL import Image
from torch import Tensor

from data.sessions import Session
from models.learner import Learner
from utils.album import TOP, Exemplar, Words
from utils.loop import Batch
from utils.passes import gather
from utils.streams import TensorStream

EACH, MOST = 3, 12  # pictures of a class, and of a request if that leaves every class one
SIDE = 96  # pixels


class Album:
    """Asks about the same pictures twice: when it is made, and for `exemplars`.

    Args:
        learner: before the request.
        session: the request.
    """

    def __init__(self, learner: Learner, session: Session):
        self.learner, self.names = learner, session.order.fine
        self.images, self.labels = few(session)
        self.before = self._words()

    def exemplars(self) -> tuple[Exemplar, ...]:
        """The pictures with the words of then and now."""
        names = [self.names[label] for label in self.labels.tolist()]
        pictures = [picture(image) for image in self.images]
        return tuple(Exemplar(*row) for row in zip(names, pictures, self.before, self._words(), strict=True))

    def _words(self) -> list[Words]:
        def compute(batch: Batch) -> dict[str, Tensor]:
            return {"fine": self.learner.predict(batch["image"]).logits["fine"]}

        model, stream = self.learner.model, TensorStream({"image": self.images}, shuffle=False)
        shares = 100 * gather(model, compute, stream, device=model.device)["fine"].softmax(1)
        best = shares.topk(min(TOP, shares.shape[1]))
        return [
            tuple((self.names[label], round(share, 1)) for share, label in zip(*row, strict=True))
            for row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


def few(session: Session) -> tuple[Tensor, Tensor]:
    """The first exemplars of every class, of eight bits, [N, 3, size, size], and fine labels [N], by class."""
    each, stream = max(1, min(EACH, MOST // len(session.classes))), session.stream("plain")
    labels = stream.labels("fine")
    places = torch.cat([(labels == label).nonzero()[:each, 0] for label in session.classes[:MOST]])
    images = [batch["image"] for batch in stream.at(places.tolist()).batches(64, 0)]
    return torch.cat(images), labels[places]


def picture(image: Tensor) -> str:
    """An image, uint8 [3, size, size], as a small JPEG in base64."""
    small, file = Image.fromarray(image.permute(1, 2, 0).numpy()), io.BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(file, "JPEG", quality=90)
    return base64.b64encode(file.getvalue()).decode("ascii")
