"""A step of a request to forget, by the hinge loss, over an image–text model."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from benchmarks.item import Item, Target
from benchmarks.made import Images, carry_out, labels_of, noise, order_of, request
from benchmarks.measure import in_bfloat16
from convs.factory import build_backbone
from convs.model import Model
from convs.templates import CARS, PLAIN
from data.sessions import Session
from models.unlearner import HingeLearner
from utils.loop import Recipe

MARGIN, KL_FINE, KL_COARSE = 2.0, 20.0, 10.0
ADAMW = Recipe(epochs=1, lr=1e-7, optimizer="adamw", weight_decay=1e-5, eps=1e-6)
ADAPTER = {"ffn_num": 64, "adapter_scale": 0.1}


@dataclass(frozen=True)
class Work:
    """What is trained.

    Attributes:
        tower: a CLIP's name.
        fine, coarse: how many names.
        batch: images of a step.
        templates: for the names.
    """

    tower: str
    fine: int
    coarse: int
    batch: int
    templates: tuple[str, ...] = CARS


SIZES = {
    "full": Work("ViT-B-16", 292, 48, 16),
    "modest": Work("ViT-B-16", 73, 12, 4),
    "small": Work("tiny_clip", 4, 2, 2),
}


def items(size: str, device: torch.device) -> Iterator[Item]:
    """All parameters beside all parameters; adapters in the last half beside that, and beside the same."""
    work = SIZES[size]
    text = f"{work.tower}, {work.fine + work.coarse} names, batch {work.batch}"
    rows = (
        ("request step, all parameters", "all", "all", 2.7),
        ("request step, adapters in the last half, beside all parameters", "adapter", "all", 10),
        ("request step, adapters in the last half, beside the same", "adapter", "adapter", 5),
    )
    for name, ours, theirs, faster in rows:
        model, session = made(work, device, 0.1)
        plain = PlainClip(model, session, theirs, 0.1)
        step = toolbox(model, session, ours, ADAMW, 0.1, in_bfloat16(device))
        target = Target(faster=faster)
        yield Item(name, text, step, partial(plain.step, session, ADAMW), partial(check, work, theirs, device), target)


def made(work: Work, device: torch.device, dropout: float) -> tuple[Model, Session]:
    """A model with random weights that knows the names, and a request with one batch of exemplars."""
    torch.manual_seed(0)
    model = Model(build_backbone(work.tower, "random"), templates=work.templates).to(device).eval()
    model.backbone.tune_blocks = len(model.backbone.blocks) // 2
    order = order_of(work.fine, work.coarse)
    model.recall("fine", order.fine)
    model.recall("coarse", order.coarse)
    gone = range(min(2, work.fine))
    images = Images(noise(work.batch, model.backbone.preprocess.size), labels_of(work.batch, order, gone))
    return model, request(order, gone, {"forget": images, "plain": images})


def toolbox(
    model: Model, session: Session, tune: str, recipe: Recipe, dropout: float, half: bool = False
) -> Callable[[], None]:
    """A step by the learner; what it computes once a request is computed here."""
    model.backbone.half = half
    session = once(model, session) if tune == "adapter" else session
    recipe = replace(recipe, batch_size=len(session.stream("forget")))
    losses = {"margin_fine": MARGIN, "kl_fine": KL_FINE, "kl_coarse": KL_COARSE}
    learner = HingeLearner(model, recipe, recipe, recipe, tune=tune, adapter_dropout=dropout, **losses, **ADAPTER)
    phase = next(learner.phases(session))
    return lambda: carry_out(phase, model.device)


@torch.no_grad()
def once(model: Model, session: Session) -> Session:
    """The request with what frozen blocks make of its images in their place, as `compute_prefix` puts it in a run."""
    images = session.stream("forget")
    tokens = model.backbone.prefix(images.fields["image"].to(model.device)).cpu()
    known = Images(tokens, {level: images.labels(level) for level in ("fine", "coarse")})
    return request(session.order, session.classes, {"forget": known, "plain": known})


class PlainClip:
    """The model in training and the frozen original side by side; every step puts all names into one template.

    Args:
        model: of the toolbox, before it is tuned; copied.
        session: names the classes.
        tune: `all` or `adapter`.
        dropout: inside the adapters.
    """

    def __init__(self, model: Model, session: Session, tune: str, dropout: float):
        self.original, self.net = (copy.deepcopy(model.backbone.net).requires_grad_(False) for _ in range(2))
        self.rows = {level: rows.detach().clone() for level, rows in model.rows().items()}
        self.tokenizer, self.templates, self.device = model.backbone.tokenizer, model.templates, model.device
        self.adapters = self._add_adapters(len(model.backbone.tuned), dropout) if tune == "adapter" else []
        everything = [value for name, value in self.net.named_parameters() if name != "logit_scale"]
        self.params = [value for each in self.adapters for value in each.parameters()] or everything
        for parameter in self.params:
            parameter.requires_grad_(True)

    def _add_adapters(self, count: int, dropout: float) -> list[nn.Module]:
        """Adapters in so many of the last blocks."""
        blocks = self.net.visual.transformer.resblocks
        places = range(len(blocks) - count, len(blocks))
        for place in places:
            blocks[place] = PlainAdapter(blocks[place], dropout).to(self.device)
        return [blocks[place].adapter for place in places]

    def step(self, session: Session, recipe: Recipe) -> None:
        """One step of the optimizer."""
        kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[recipe.optimizer]
        options = {} if recipe.eps is None else {"eps": recipe.eps}
        optimizer = kind(self.params, lr=recipe.lr, weight_decay=recipe.weight_decay, **options)
        batch = session.stream("forget").fields
        self.net.train()
        loss = self.loss(batch["image"].to(self.device), session, {k: batch[k].to(self.device) for k in self.rows})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    def loss(self, images: Tensor, session: Session, labels: dict[str, Tensor]) -> Tensor:
        """Hinge on the fine names, near the original on the coarse ones and on the other fine ones."""
        scale = self.net.logit_scale.exp()
        features = F.normalize(self.net.encode_image(images), dim=-1)
        template = self.templates[int(torch.randint(len(self.templates), ()))]
        new = {level: scale * features @ self._worded(getattr(session.order, level), template).T for level in self.rows}
        with torch.no_grad():
            features = F.normalize(self.original.encode_image(images), dim=-1)
            old = {level: scale * features @ rows.T for level, rows in self.rows.items()}
        return hinge_and_kl(new, old, labels["fine"])

    def _worded(self, names: Sequence[str], template: str) -> Tensor:
        """Every name in a template, over the whole context, [n, D]."""
        tokens = self.tokenizer([template.format(name) for name in names]).to(self.device)
        return F.normalize(self.net.encode_text(tokens), dim=-1)


class PlainAdapter(nn.Module):
    """A block of open_clip with an adapter beside its MLP."""

    def __init__(self, block: nn.Module, dropout: float):
        super().__init__()
        width, hidden = block.ln_2.weight.shape[0], ADAPTER["ffn_num"]
        self.block, self.adapter = block, bottleneck(width, hidden, dropout)

    def forward(self, x: Tensor, *args, **options) -> Tensor:
        """[B, L, D] → [B, L, D]."""
        x = x + self.block.attention(self.block.ln_1(x), *args, **options)
        return x + self.block.mlp(self.block.ln_2(x)) + ADAPTER["adapter_scale"] * self.adapter(x)


def bottleneck(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """An adapter that adds nothing yet."""
    made = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width))
    nn.init.kaiming_uniform_(made[0].weight, a=5**0.5)
    for parameter in (made[0].bias, *made[3].parameters()):
        nn.init.zeros_(parameter)
    return made


def hinge_and_kl(new: dict[str, Tensor], old: dict[str, Tensor], fine: Tensor) -> Tensor:
    """What a request minimises, of logits by level, the original's, and fine labels."""
    others = [others_of(logits["fine"], fine) for logits in (new, old)]
    kept = KL_FINE * element_kl(*others) + KL_COARSE * element_kl(new["coarse"], old["coarse"])
    return hinge(new["fine"], fine) + kept


def hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """What is missing until another class leads the true one by the margin, the mean over a batch."""
    true = labels[:, None]
    rival = logits.scatter(1, true, -torch.inf).amax(1)
    return F.relu(logits.gather(1, true)[:, 0] - rival + MARGIN).mean()


def others_of(logits: Tensor, labels: Tensor) -> Tensor:
    """[B, C] → [B, C − 1], without the true columns."""
    return torch.stack([torch.cat([row[:y], row[y + 1 :]]) for row, y in zip(logits, labels.tolist(), strict=True)])


def element_kl(new: Tensor, old: Tensor) -> Tensor:
    """KL(softmax old ‖ softmax new), the mean over all B·C elements."""
    return F.kl_div(F.log_softmax(new, 1), F.softmax(old, 1), reduction="sum") / new.numel()


def check(work: Work, tune: str, device: torch.device) -> None:
    """Two images and four names in one template, without dropout: one step leaves the same weights."""
    work = Work(work.tower, 4, 2, 2, PLAIN)
    model, session = made(work, device, 0.0)
    plain, recipe = PlainClip(model, session, tune, 0.0), Recipe(epochs=1, lr=0.1, optimizer="sgd", momentum=0.0)
    names = [name for name, value in model.backbone.net.named_parameters() if name != "logit_scale"]
    step = toolbox(model, session, tune, recipe, 0.0)
    if tune == "adapter":
        ours = [value for block in model.backbone.tuned for value in block.adapter.parameters()]
        for value, theirs in zip(ours, plain.params, strict=True):
            theirs.data.copy_(value.data)
    else:
        own = dict(model.backbone.net.named_parameters())
        ours = [own[name] for name in names]
    before = [value.detach().clone() for value in ours]
    step()
    plain.step(session, recipe)
    for value, theirs, start in zip(ours, plain.params, before, strict=True):
        assert_close(value - start, theirs - start, rtol=1e-2, atol=1e-4)
    assert any(not torch.equal(value, start) for value, start in zip(ours, before, strict=True))
