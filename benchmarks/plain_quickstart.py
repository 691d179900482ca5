"""Adapters that learn and forget, from the first image to the last figure, as a plain reading of the papers goes."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from benchmarks.plain_gs_lora import TEST_BATCH, accuracy, images_of, tower
from benchmarks.request_step import bottleneck, hinge, hinge_and_kl
from convs.heads import cosines
from data.sessions import Session
from models.build import Built
from models.learner import remap
from utils.config import Config
from utils.gaussians import median_spread
from utils.loop import Recipe

RIDGE, SHRINK = 1e-3, 1.0


@dataclass
class Known:
    """What is kept of a class: mean [D], covariance [D, D], the learn session."""

    mean: Tensor
    covariance: Tensor
    lesson: int


class AdaptedBlock(nn.Module):
    """A timm block with an adapter beside its MLP."""

    def __init__(self, block: nn.Module, width: int, scale: float, dropout: float):
        super().__init__()
        self.block, self.scale = block, scale
        self.adapter = bottleneck(block.norm2.weight.shape[0], width, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] → [B, L, D]."""
        x = x + self.block.attn(self.block.norm1(x))
        return x + self.block.mlp(self.block.norm2(x)) + self.scale * self.adapter(x)


def plain_quickstart(built: Built, config: Config) -> float:
    """The accuracy over what is known at the end, in percent.

    Args:
        built: gives the sessions and the recipes; every image is decoded whenever it is asked for.
        config: the experiment.
    """
    return PlainAdapters(built, config).follow()


class PlainAdapters:
    """The adapter learner, one loader and one pass for whatever is asked.

    Args:
        built: gives the sessions and the recipes; every image is decoded whenever it is asked for.
        config: the experiment.
    """

    def __init__(self, built: Built, config: Config):
        self.config, self.sessions, learner = config, built.sessions, built.learner
        self.first, self.later, self.requests = learner.first, learner.later, learner.forget
        self.net = tower(config)
        for place, block in enumerate(self.net.blocks):
            self.net.blocks[place] = AdaptedBlock(block, config.ffn_num, config.adapter_scale, config.adapter_dropout)
        self.rows = {level: torch.empty(0, learner.model.backbone.dim) for level in ("fine", "coarse")}
        self.known: dict[int, Known] = {}

    def follow(self) -> float:
        """All sessions; the accuracy over what is known at the end, in percent."""
        for session in self.sessions:
            {"learn": self.learn, "forget": self.forget}[session.kind](session)
            parts = (session.seen, session.alive, session.classes, session.past)
            figures = [accuracy(self.net.eval(), self.rows["fine"], session, classes) for classes in parts]
        return figures[1]

    def learn(self, session: Session) -> None:
        """Adapt, shift, remember, align."""
        before = self.features(session, session.classes) if self.known else None
        for level, labels in self.labels(session).items():
            fresh = nn.init.trunc_normal_(torch.empty(len(labels), self.rows[level].shape[1]), std=0.02)
            self.rows[level] = torch.cat([self.rows[level], fresh])
        self.adapt(session, self.later if session.index else self.first)
        if before is not None:
            self.shift(before, session, floor=1e-5, shrink=0.0)
        features = {label: self.features(session, [label]) for label in session.classes}
        ridge = RIDGE * torch.cat([own - own.mean(0) for own in features.values()]).square().mean()
        for label, own in features.items():
            self.known[label] = Known(own.mean(0), torch.cov(own.T) + ridge * torch.eye(own.shape[1]), session.learned)
        if session.index:
            self.align(session)

    def labels(self, session: Session) -> dict[str, list[int]]:
        """Level → labels that have no row yet."""
        coarse = session.order.coarse_of(session.classes)
        return {
            "fine": list(session.classes),
            "coarse": [label for label in coarse if label >= len(self.rows["coarse"])],
        }

    @torch.no_grad()
    def features(self, session: Session, classes: Sequence[int]) -> Tensor:
        """Of the un-augmented images of some classes, in order, [N, D]; a pass of its own."""
        plain = images_of(session.stream("plain"), classes)
        return torch.cat([self.net.eval()(batch["image"]) for batch in plain.batches(TEST_BATCH, seed=0)])

    def logits(self, features: Tensor, level: str) -> Tensor:
        """[B, D] → scaled cosines [B, C]."""
        return self.config.scale * cosines(features, self.rows[level])

    def adapt(self, session: Session, recipe: Recipe) -> None:
        """Adapters and the session's rows, by the cross-entropy over its own columns."""
        columns = {"fine": session.classes, "coarse": session.order.coarse_of(session.classes)}
        weights = {"fine": 1.0, "coarse": self.config.coarse_weight}
        rows = {level: nn.Parameter(self.rows[level][list(some)]) for level, some in columns.items()}

        def loss(batch: dict[str, Tensor]) -> Tensor:
            features = self.net(batch["image"])
            return sum(
                weights[level]
                * F.cross_entropy(self.config.scale * cosines(features, rows[level]), remap(batch[level], some))
                for level, some in columns.items()
            )

        self.train([*self.adapters(), *rows.values()], recipe, session.stream("train"), loss)
        for level, some in columns.items():
            self.rows[level][list(some)] = rows[level].detach()

    def adapters(self) -> list[nn.Parameter]:
        """The parameters of all adapters."""
        return [value.requires_grad_() for block in self.net.blocks for value in block.adapter.parameters()]

    def train(self, moving: list[nn.Parameter], recipe: Recipe, stream, loss) -> None:
        """Epochs over the images of a stream; the loss is read in every step for the log."""
        eps = 1e-8 if recipe.eps is None else recipe.eps
        optimizer = torch.optim.AdamW(moving, lr=recipe.lr, weight_decay=recipe.weight_decay, eps=eps)
        self.net.train()
        for epoch in range(recipe.epochs):
            optimizer.param_groups[0]["lr"] = recipe.rate(epoch, recipe.warmup_steps)
            for batch in stream.batches(recipe.batch_size, seed=epoch):
                total = loss(batch)
                optimizer.zero_grad()
                total.backward()
                optimizer.step()
                total.item()

    def shift(self, before: Tensor, session: Session, floor: float, shrink: float) -> None:
        """Move the means along, with differences and kernels tiled to [C, N, D]."""
        after = self.features(session, session.classes)
        kept = [item for label, item in self.known.items() if label not in session.gone]
        means = torch.stack([item.mean for item in kept])
        labels = session.stream("plain").labels("fine")
        width = median_spread(before, labels)
        tiled = before[None].expand(len(means), -1, -1) - means[:, None].expand(-1, len(before), -1)
        kernel = torch.exp(-(tiled**2).sum(-1) / (2 * width**2)) + floor  # [C, N]
        moves = (after - before)[None].expand(len(means), -1, -1) * kernel[:, :, None].expand(-1, -1, means.shape[1])
        moved = means + moves.sum(1) / (kernel.sum(1, keepdim=True) + shrink)
        for item, mean in zip(kept, moved, strict=True):
            item.mean = mean

    def drawn(self, known: dict[int, Known], now: int) -> tuple[Tensor, Tensor]:
        """Features of every class from a distribution made anew, and their labels, shuffled."""
        count, parts = self.config.ca_samples, []
        for item in known.values():
            mean = (0.9 + 0.1 * (item.lesson + 1) / (now + 1)) * item.mean
            parts.append(MultivariateNormal(mean, item.covariance).sample((count,)))
        order = torch.randperm(count * len(known))
        return torch.cat(parts)[order], torch.tensor(list(known)).repeat_interleave(count)[order]

    def align(self, session: Session, gone: dict[int, Known] | None = None) -> None:
        """All rows on drawn features; a request's forgotten classes are to be taken for others, their parents stay."""
        parents, recipe = torch.tensor(session.order.parents), replace(self.later, epochs=self.config.ca_epochs)
        now, count = max(session.learned - (session.kind == "forget"), 0), self.config.ca_samples
        self.rows = {level: nn.Parameter(values) for level, values in self.rows.items()}
        optimizer = torch.optim.AdamW(self.rows.values(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        for epoch in range(recipe.epochs):
            optimizer.param_groups[0]["lr"] = recipe.rate(epoch, recipe.warmup_steps)
            features, fine = self.drawn(self.known, now)
            for some, true in zip(features.split(count), fine.split(count), strict=True):
                parent = F.cross_entropy(self.logits(some, "coarse"), parents[true])
                total = F.cross_entropy(self.logits(some, "fine"), true)
                total = total + (1.0 if gone else self.config.coarse_weight) * parent
                if gone:
                    lost, named = (part[:count] for part in self.drawn(gone, now))
                    parent = F.cross_entropy(self.logits(lost, "coarse"), parents[named])
                    total = total + hinge(self.logits(lost, "fine"), named) + parent
                optimizer.zero_grad()
                total.backward()
                optimizer.step()
                total.item()
        self.rows = {level: values.detach() for level, values in self.rows.items()}

    def forget(self, session: Session) -> None:
        """Forget by adapters beside the frozen original, correct, realign, erase."""
        original = copy.deepcopy(self.net).eval()
        before = self.features(session, session.classes)

        def loss(batch: dict[str, Tensor]) -> Tensor:
            with torch.no_grad():
                features = original(batch["image"])
                old = {level: self.logits(features, level) for level in self.rows}
            features = self.net(batch["image"])
            new = {level: self.logits(features, level) for level in self.rows}
            return hinge_and_kl(new, old, batch["fine"])

        self.train(self.adapters(), self.requests, session.stream("forget"), loss)
        for label in session.classes:
            del self.known[label]
        self.shift(before, session, floor=0.0, shrink=SHRINK)
        self.align(session, self.seen_again(session))

    def seen_again(self, session: Session) -> dict[int, Known]:
        """The forgotten classes as the trained adapters see them, around the covariance that they share."""
        own = {label: self.features(session, [label]) for label in session.classes}
        centred = torch.cat([values - values.mean(0) for values in own.values()])
        ridge = RIDGE * centred.square().mean()
        shared = centred.T @ centred / (len(centred) - len(own)) + ridge * torch.eye(centred.shape[1])
        return {label: Known(values.mean(0), shared, session.learned - 1) for label, values in own.items()}
