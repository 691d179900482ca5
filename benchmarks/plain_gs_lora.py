"""GS-LoRA's stream of requests from the first image to the last figure, as a plain reading of the paper goes."""

import math
from collections.abc import Iterator, Sequence
from itertools import chain, count

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gs_lora_step import PlainLoRA, update
from convs.factory import build_backbone
from convs.heads import cosines
from data.images import ImageStream
from data.sessions import Session
from models.build import Built
from utils.config import Config
from utils.loop import Recipe

TEST_BATCH = 64


def plain_gs_lora(built: Built, config: Config) -> float:
    """H of the last request, in percent.

    Args:
        built: gives the sessions, the rows and the recipe; every image is decoded whenever it is asked for.
        config: the experiment.
    """
    rows = built.learner.model.rows()["fine"].detach()
    net, original = tower(config), tower(config)
    for session in built.sessions:
        for block in net.blocks:
            block.mlp = LoRAMlp(block.mlp, config.lora_rank)
        forget(net, session, built.learner.forget, config, rows)
        for block in net.blocks:
            block.mlp = block.mlp.merged()
        parts = {"gone": session.classes, "stays": session.alive, "past": session.past}
        after = {name: accuracy(net, rows, session, classes) for name, classes in parts.items()}
        drop = accuracy(original, rows, session, session.classes) - after["gone"]
    return 2 * after["stays"] * drop / (after["stays"] + drop)


def tower(config: Config) -> nn.Module:
    """An experiment's tower as its library has it, frozen; what a data set streams is normalised on its way in."""
    backbone = build_backbone(config.convnet_type, config.weights, config.img_size)
    backbone.net.register_forward_pre_hook(lambda _, images: backbone.preprocess.normalised(*images))
    return backbone.net.requires_grad_(False).eval()


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


def forget(net: nn.Module, session: Session, recipe: Recipe, config: Config, rows: Tensor) -> None:
    """Carry out a request: two forwards a step, every figure read for the log.

    Args:
        net: with fresh LoRAs.
        session: the request.
        recipe: how they move.
        config: has the weights of the loss.
        rows: of all classes, [C, D].
    """
    betas, loras = config.cl_beta_list, [block.mlp.lora for block in net.blocks]
    weights = (betas[min(session.index, len(betas) - 1)], config.bnd, config.group_alpha)
    moving = [matrix for lora in loras for matrix in lora.parameters()]
    optimizer = torch.optim.AdamW(moving, lr=recipe.lr, weight_decay=recipe.weight_decay, eps=recipe.eps)
    for epoch in range(recipe.epochs):
        optimizer.param_groups[0]["lr"] = recipe.rate(epoch, recipe.warmup_steps)
        for batches in steps(session, recipe.batch_size, epoch):
            kept, lost = (
                F.cross_entropy(config.scale * cosines(net(batch["image"]), rows), batch["fine"]) for batch in batches
            )
            update(optimizer, lost, kept, loras, weights)


def steps(session: Session, size: int, epoch: int) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """A batch to retain and one to forget, a step; of the latter there are fewer, they are cycled."""
    turns = (session.stream("forget").batches(size, seed=1000 * epoch + turn) for turn in count())
    return zip(session.stream("retain").batches(size, seed=epoch), chain.from_iterable(turns), strict=False)


@torch.no_grad()
def accuracy(net: nn.Module, rows: Tensor, session: Session, classes: Sequence[int]) -> float:
    """Of the test images of some classes, all rows being candidates, in percent; a pass of its own."""
    if not classes:
        return math.nan
    test = images_of(session.stream("test"), classes)
    batches = test.batches(TEST_BATCH, seed=0)
    hits = [cosines(net(batch["image"]), rows).argmax(1) == batch["fine"] for batch in batches]
    return 100 * torch.cat(hits).float().mean().item()


def images_of(stream: ImageStream, classes: Sequence[int]) -> ImageStream:
    """The images of some classes."""
    return stream.at(torch.isin(stream.labels("fine"), torch.tensor(classes, dtype=torch.long)).nonzero()[:, 0])
