"""The evaluation of a CLIP: every test image against the names, each in every template."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.item import Item, Target
from benchmarks.made import Images, labels_of, noise, order_of, request
from convs.factory import build_backbone
from convs.model import Model
from convs.templates import CARS
from data.sessions import Session
from models.evaluation import score
from utils.passes import gather


@dataclass(frozen=True)
class Work:
    """What is evaluated; the plain reading sees `batch` images at a time.

    Attributes:
        tower: a CLIP's name.
        fine, coarse: how many names.
        images: how many.
        batch: of the plain reading.
    """

    tower: str
    fine: int
    coarse: int
    images: int
    batch: int


SIZES = {
    "full": Work("ViT-B-16", 292, 48, 1000, 8),
    "modest": Work("ViT-B-16", 4, 1, 16, 8),
    "small": Work("tiny_clip", 3, 2, 4, 2),
}


def items(size: str, device: torch.device) -> Iterator[Item]:
    """Beside the image tower alone, and beside text features that every batch computes anew, timed on one batch."""
    work = SIZES[size]
    model, session = made(work, device)
    images = session.stream("test").fields["image"]
    learner = SimpleNamespace(model=model, predict=model)  # all that an evaluation asks of one
    text = f"{work.tower}, {work.fine + work.coarse} names × {len(CARS)} templates, {work.images} images"

    def evaluate() -> Tensor:
        return torch.from_numpy(score(learner, session).text["fine"])

    def check_features() -> None:
        with torch.no_grad():
            rows = model.known_rows("fine", session.order.fine)
            _assert_close(model.logits(tower(model, session).to(device), {"fine": rows})["fine"], evaluate())

    def check_plain() -> None:
        _assert_close(plain(model, session, images[: work.batch])[:, : work.fine], evaluate()[: work.batch])

    yield Item(
        "CLIP evaluation, beside its image tower alone",
        text,
        evaluate,
        lambda: tower(model, session),
        check_features,
        Target(faster=1 / 1.10),
    )
    share = work.batch / work.images
    one = images[: work.batch]
    yield Item(
        f"CLIP evaluation, beside texts a batch of {work.batch}",
        text,
        evaluate,
        lambda: plain(model, session, one),
        check_plain,
        share=share,
    )


def made(work: Work, device: torch.device) -> tuple[Model, Session]:
    """A model with random weights that knows the names, and a session with test images."""
    torch.manual_seed(0)
    model = Model(build_backbone(work.tower, "random"), templates=CARS).to(device).eval()
    order = order_of(work.fine, work.coarse)
    for level in ("fine", "coarse"):
        rows = torch.randn(len(getattr(order, level)), model.backbone.dim, device=device)  # asked, but not compared
        model.head(level).grow(rows)
    labels = labels_of(work.images, order, range(work.fine))
    tests = Images(noise(work.images, model.backbone.preprocess.size), labels)
    return model, request(order, (0,), {"test": tests})


def tower(model: Model, session: Session) -> Tensor:
    """The features of the test images."""
    stream = session.stream("test")
    return gather(model, lambda b: {"feature": model.backbone(b["image"])}, stream, device=model.device)["feature"]


@torch.no_grad()
def plain(model: Model, session: Session, images: Tensor) -> Tensor:
    """The logits of one batch: all names in all templates go through the text tower, over its whole context.

    Args:
        model: a CLIP.
        session: names the classes.
        images: [B, 3, size, size].

    Returns:
        [B, fine and coarse names].
    """
    net, tokenizer = model.backbone.net, model.backbone.tokenizer
    rows = []
    for name in (*session.order.fine, *session.order.coarse):
        tokens = tokenizer([template.format(name) for template in model.templates]).to(model.device)
        texts = F.normalize(net.encode_text(tokens), dim=-1)
        rows.append(F.normalize(texts.mean(0), dim=-1))
    features = F.normalize(net.encode_image(images.to(model.device)), dim=-1)
    return net.logit_scale.exp() * features @ torch.stack(rows).T


def _assert_close(found: Tensor, expected: Tensor) -> None:
    np.testing.assert_allclose(found.cpu().numpy(), expected.cpu().numpy(), atol=2e-3)  # logits, up to ±14
