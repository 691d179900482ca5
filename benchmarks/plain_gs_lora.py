"""GS-LoRA's stream of requests from the first image to the last figure, as a plain reading of the paper goes."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gs_lora_step import PlainLoRA
from data.images import ImageStream
from data.sessions import Session
from models.build import Built
from utils.config import Config
from utils.loop import Recipe

TEST_BATCH = 64


def plain_gs_lora(built: Built, config: Config) -> float:
    """H of the last request, in percent.

    Args:
        built: gives the sessions and the weights; every image is decoded whenever it is asked for.
        config: the experiment.
    """
    learner = built.learner
    rows, recipe = learner.model.rows()["fine"].detach(), learner.forget
    net = without_loras(learner.model.backbone.net)
    original = copy.deepcopy(net)
    for session in built.sessions:
        beta = config.cl_beta_list[min(session.index, len(config.cl_beta_list) - 1)]
        for block in net.blocks:
            block.mlp = LoRAMlp(block.mlp, config.lora_rank)
        forget(net, session, recipe, (beta, config.bnd, config.group_alpha), lambda x: config.scale * classify(x, rows))
        for block in net.blocks:
            block.mlp = block.mlp.merged()
        parts = {"gone": session.classes, "stays": session.alive, "past": session.past}
        after = {name: accuracy(net, rows, session, classes) for name, classes in parts.items()}
        drop = accuracy(original, rows, session, session.classes) - after["gone"]
    return 2 * after["stays"] * drop / (after["stays"] + drop)


def without_loras(net: nn.Module) -> nn.Module:
    """A copy of a tower as it was before a learner put its LoRAs beside the layers."""
    plain = copy.deepcopy(net).requires_grad_(False)
    for block in plain.blocks:
        for layer in (block.mlp.fc1, block.mlp.fc2):
            layer._forward_hooks.clear()
            del layer.lora
    return plain


class LoRAMlp(nn.Module):
    """The MLP of a timm block with LoRA in both layers."""

    def __init__(self, mlp: nn.Module, rank: int):
        super().__init__()
        self.mlp, self.lora = mlp, PlainLoRA(mlp, rank)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] → [B, L, D]."""
        return self.lora(self.mlp, x, 0.0)

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """The MLP, whose weights have taken up the LoRAs."""
        self.mlp.fc1.weight += self.lora.scale * self.lora.first_b @ self.lora.first_a
        self.mlp.fc2.weight += self.lora.scale * self.lora.second_b @ self.lora.second_a
        return self.mlp


def forget(
    net: nn.Module,
    session: Session,
    recipe: Recipe,
    weights: tuple[float, float, float],
    classify: Callable[[Tensor], Tensor],
) -> None:
    """Carry out a request: two forwards a step, every figure read for the log.

    Args:
        net: with fresh LoRAs.
        session: the request.
        recipe: how its LoRAs move.
        weights: β, BND and α.
        classify: features → logits.
    """
    beta, bound, alpha = weights
    loras = [block.mlp.lora for block in net.blocks]
    moving = [matrix for lora in loras for matrix in lora.parameters()]
    optimizer = torch.optim.AdamW(moving, lr=recipe.lr, weight_decay=recipe.weight_decay, eps=recipe.eps)
    for epoch in range(recipe.epochs):
        optimizer.param_groups[0]["lr"] = recipe.rate(epoch, recipe.warmup_steps)
        for gone, stays in steps(session, recipe.batch_size, epoch):
            lost = F.cross_entropy(classify(net(gone["image"])), gone["fine"])
            kept = F.cross_entropy(classify(net(stays["image"])), stays["fine"])
            lasso = sum(torch.sqrt(sum((matrix**2).sum() for matrix in lora.parameters()) + 1e-12) for lora in loras)
            total = beta * F.relu(bound - lost) + kept + alpha * lasso
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            for figure in (lost, kept, lasso, total):
                figure.item()


def steps(session: Session, size: int, epoch: int) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """A batch of each kind a step; what is to go is cycled."""
    turns = (session.stream("forget").batches(size, seed=1000 * epoch + turn) for turn, _ in enumerate(repeat(None)))
    return zip(chain.from_iterable(turns), session.stream("retain").batches(size, seed=epoch), strict=False)


@torch.no_grad()
def accuracy(net: nn.Module, rows: Tensor, session: Session, classes: Sequence[int]) -> float:
    """Of the test images of some classes, all rows being candidates, in percent; a pass of its own."""
    if not classes:
        return math.nan
    test = images_of(session.stream("test"), classes)
    batches = test.batches(TEST_BATCH, seed=0)
    hits = [classify(net(batch["image"]), rows).argmax(1) == batch["fine"] for batch in batches]
    return 100 * torch.cat(hits).float().mean().item()


def images_of(stream: ImageStream, classes: Sequence[int]) -> ImageStream:
    """The images of some classes."""
    return stream.at(torch.isin(stream.labels("fine"), torch.tensor(classes, dtype=torch.long)).nonzero()[:, 0])


def classify(features: Tensor, rows: Tensor) -> Tensor:
    """[B, D] → cosines [B, C]."""
    return F.normalize(features, dim=-1) @ F.normalize(rows, dim=-1).T
