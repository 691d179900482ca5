"""A step of GS-LoRA on the face transformer."""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from benchmarks.item import Item, Target
from benchmarks.made import Images, carry_out, labels_of, noise, order_of, request
from benchmarks.measure import in_bfloat16
from convs.face import DROPOUT, SHAPES, FaceBackbone, Shape
from convs.lora import lora_places
from convs.model import Model
from data.sessions import Session
from models.gs_lora import GSLoRALearner
from utils.loop import Recipe

BETA, BND, ALPHA, SCALE = 0.2, 105.0, 1e-4, 64.0
ADAMW = Recipe(epochs=1, lr=1e-2, optimizer="adamw", weight_decay=0.05)


@dataclass(frozen=True)
class Work:
    """What is trained.

    Attributes:
        shape: of the face transformer.
        batch: of the images to forget, and of those to retain.
        classes: known; the last fifth is forgotten.
    """

    shape: Shape
    batch: int
    classes: int


FACE = SHAPES["face_vit_p8_d6"]
SIZES = {
    "full": Work(FACE, 48, 100),
    "modest": Work(FACE, 2, 100),
    "small": Work(Shape(2, dim=16, heads=2, size=16), 3, 5),
}


def items(size: str, device: torch.device) -> Iterator[Item]:
    """One step; on a GPU the toolbox computes in bfloat16, as a run does, and the plain reading in single precision."""
    work = SIZES[size]
    model, session = made(work, device, DROPOUT)
    plain, ours = PlainFace(model, DROPOUT), toolbox(model, session, ADAMW, in_bfloat16(device))
    shape = work.shape
    yield Item(
        "GS-LoRA step",
        f"face ViT depth {shape.depth}, D {shape.dim}, {shape.size} px, batch {work.batch} + {work.batch}",
        ours,
        lambda: plain_step(plain, session, ADAMW),
        lambda: check(work, device),
        Target(faster=2.5) if device.type == "cuda" else Target(floors=1.35),
    )


def made(work: Work, device: torch.device, dropout: float) -> tuple[Model, Session]:
    """A face transformer with random weights, and a request with one batch of each kind."""
    torch.manual_seed(0)
    backbone = FaceBackbone(work.shape)
    for module in backbone.modules():
        if isinstance(module, nn.Dropout) and module.p:
            module.p = dropout
    model = Model(backbone, scale=SCALE)
    model.head("fine").grow(torch.randn(work.classes, backbone.dim))
    order = order_of(work.classes, work.classes)
    gone = range(work.classes - work.classes // 5, work.classes)
    parts = {"forget": gone, "retain": range(gone.start)}
    streams = {
        name: Images(noise(work.batch, work.shape.size, seed), labels_of(work.batch, order, classes))
        for seed, (name, classes) in enumerate(parts.items())
    }
    return model.to(device).eval(), request(order, gone, streams)


def toolbox(model: Model, session: Session, recipe: Recipe, half: bool = False):
    """A step by the learner."""
    model.backbone.half = half
    recipe = Recipe(**{**vars(recipe), "batch_size": len(session.stream("retain"))})
    learner = GSLoRALearner(model, recipe, recipe, group_alpha=ALPHA, bnd=BND, cl_beta_list=(BETA,))
    phase = next(learner.phases(session))
    return lambda: carry_out(phase, model.device)


class PlainFace(nn.Module):
    """The face transformer written out, with LoRA in every MLP; its weights are copied from a toolbox model.

    Args:
        model: of the toolbox, with or without LoRA.
        dropout: after the position embeddings, after attention and inside the MLP.
    """

    def __init__(self, model: Model, dropout: float):
        super().__init__()
        self.net, self.rows, self.dropout = copy.deepcopy(model.backbone.net), model.rows()["fine"].detach(), dropout
        self.net.requires_grad_(False)
        self.loras = nn.ModuleList(PlainLoRA(block.mlp) for block in self.net.blocks)
        self.to(self.rows.device)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → logits [B, C]."""
        net = self.net
        tokens = net.patch_embed.proj(images).flatten(2).transpose(1, 2)
        x = torch.cat([net.cls_token.expand(len(images), -1, -1), tokens], dim=1) + net.pos_embed
        x = F.dropout(x, self.dropout)
        for block, lora in zip(net.blocks, self.loras, strict=True):
            x = x + self._attend(block.attn, block.norm1(x))
            x = x + lora(block.mlp, block.norm2(x), self.dropout)
        embedding = net.norm(x)[:, 0]
        return SCALE * F.normalize(embedding, dim=-1) @ F.normalize(self.rows, dim=-1).T

    def _attend(self, attention: nn.Module, x: Tensor) -> Tensor:
        """Softmax of all products, in full; divided by the root of the model's width, as published."""
        batch, length, width = x.shape
        parts = attention.qkv(x).view(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts  # [B, heads, L, D / heads] each
        weights = torch.softmax(query @ key.transpose(2, 3) * width**-0.5, dim=-1)
        return F.dropout(attention.proj((weights @ value).transpose(1, 2).reshape(x.shape)), self.dropout)


class PlainLoRA(nn.Module):
    """The four matrices of a block."""

    def __init__(self, mlp: nn.Module, rank: int = 8):
        super().__init__()
        hidden, width = mlp.fc1.weight.shape
        self.first_a, self.second_a = (nn.Parameter(torch.empty(rank, size)) for size in (width, hidden))
        self.first_b, self.second_b = (nn.Parameter(torch.zeros(size, rank)) for size in (hidden, width))
        for matrix in (self.first_a, self.second_a):
            nn.init.kaiming_uniform_(matrix, a=5**0.5)
        self.scale = 1 / rank

    def forward(self, mlp: nn.Module, x: Tensor, dropout: float) -> Tensor:
        """[B, L, D] → [B, L, D]."""
        hidden = mlp.fc1(x) + x @ self.first_a.T @ self.first_b.T * self.scale
        hidden = F.dropout(F.gelu(hidden), dropout)
        return F.dropout(mlp.fc2(hidden) + hidden @ self.second_a.T @ self.second_b.T * self.scale, dropout)


def plain_step(model: PlainFace, session: Session, recipe: Recipe) -> None:
    """Two forwards, the group lasso matrix by matrix, every figure read for the log, an optimizer step."""
    kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[recipe.optimizer]
    optimizer = kind(model.loras.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    forget, retain = (session.stream(name).fields for name in ("forget", "retain"))
    device = model.rows.device
    lost = F.cross_entropy(model(forget["image"].to(device)), forget["fine"].to(device))
    kept = F.cross_entropy(model(retain["image"].to(device)), retain["fine"].to(device))
    update(optimizer, lost, kept, model.loras, (BETA, BND, ALPHA))


def update(
    optimizer: torch.optim.Optimizer,
    lost: Tensor,
    kept: Tensor,
    loras: Iterable[PlainLoRA],
    weights: tuple[float, float, float],
) -> None:
    """A step by the cross-entropies of both batches and the lasso, with weights β, BND and α."""
    beta, bound, alpha = weights
    lasso = sum(torch.sqrt(sum((matrix**2).sum() for matrix in lora.parameters())) for lora in loras)
    total = beta * F.relu(bound - lost) + kept + alpha * lasso
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    for figure in (lost, kept, lasso, total):
        figure.item()


def check(work: Work, device: torch.device) -> None:
    """Two examples of each kind, without dropout: two steps leave the same LoRAs."""
    work = Work(work.shape, 2, work.classes)
    model, session = made(work, device, 0.0)
    plain, recipe = PlainFace(model, 0.0), Recipe(epochs=1, lr=0.1, optimizer="sgd", momentum=0.0)
    step = toolbox(model, session, recipe)
    places = lora_places(model.backbone)
    theirs = [pair for lora in plain.loras for pair in ((lora.first_a, lora.first_b), (lora.second_a, lora.second_b))]
    for place, pair in zip(places, theirs, strict=True):
        pair[0].data.copy_(place.lora.A.data)
    before = [place.lora.A.detach().clone() for place in places]
    for _ in range(2):
        step()
        plain_step(plain, session, recipe)
    for place, (a, b), start in zip(places, theirs, before, strict=True):
        assert_close(place.lora.B, b, rtol=1e-3, atol=1e-5)
        assert_close(place.lora.A - start, a - start, rtol=1e-3, atol=1e-5)
