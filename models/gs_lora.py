"""GS-LoRA and GS-LoRA++: forget by sparse groups of LoRAs, one set a request, merged when it is done."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convs.lora import deltas, inject_lora, lora_groups, lora_places, merge_lora
from convs.model import Output
from convs.peft_files import Factors, factors, write_lora
from data.sessions import Session
from models.learner import Product
from models.replay import ReplayLearner
from models.tuning import unfrozen
from utils.errors import ConfigError
from utils.gaussians import class_means
from utils.loop import Batch, Phase
from utils.losses import distillation

Loss = Callable[[dict[str, Batch]], dict[str, Tensor]]
ZERO = 1e-3  # a group whose norm is below this counts as zero; after a proximal step its norm is 0 exactly
MERGED = "merged."  # names of weights that took up LoRAs, in the learner's state
SAVED = "lora."  # names of the LoRAs of past requests


class GSLoRALearner(ReplayLearner):
    """β·ReLU(BND − CE_forget) + CE_retain + α·Σ_groups ‖group‖ over LoRAs on the FFN of every block.

    BND must be in reach: with cosine logits of scale s the CE of C classes cannot exceed about 2s + log C.

    Args:
        context, options: see `Learner`.
        lora_rank, lora_alpha, lora_pos: of the LoRAs, see `inject_lora`.
        group_type: what one group is, see `lora_groups`.
        group_alpha: α.
        group_alpha_epoch: the epoch, from 0, from which on it counts.
        group_lasso: `penalty` (a term of the loss, as published) or `proximal` (after every step a group of n elements
            is shrunk by rate·α·√n, and set to zero where it is smaller: ours; α below 1 then is less than what Adam
            moves an element by).
        bnd: BND.
        cl_beta_list: β, one a request, or one for all.
        lora_files: keep the LoRAs of every request and write them in peft's format. Whoever has such a file can take
            the request back.

    Source: Zhao et al., GS-LoRA, CVPR 2024, section 4.
    """

    def __init__(
        self,
        *context,
        lora_rank: int = 8,
        lora_alpha: float = 1.0,
        lora_pos: str = "ffn",
        group_type: str = "block",
        group_alpha: float = 1e-4,
        group_alpha_epoch: int = 0,
        group_lasso: str = "penalty",
        bnd: float = 105.0,
        cl_beta_list: tuple[float, ...] = (0.2,),
        lora_files: bool = False,
        **options,
    ):
        self.lora = {"rank": lora_rank, "alpha": lora_alpha, "position": lora_pos}
        super().__init__(*context, **options)
        self.groups = lora_groups(self.model.backbone, group_type)
        self.alpha, self.alpha_epoch, self.proximal = group_alpha, group_alpha_epoch, group_lasso == "proximal"
        self.bnd, self.betas, self.lora_files = bnd, cl_beta_list, lora_files
        self.norms: dict[str, float] = {}
        self.saved: dict[str, Tensor] = {}
        self._epoch = 0

    def moved(self) -> list[nn.Parameter]:
        """The LoRAs."""
        return unfrozen(self.model, inject_lora(self.model.backbone, **self.lora))

    def check(self, session: Session) -> None:
        """See also that there is a weight for every request."""
        super().check(session)
        of_request("cl_beta_list", self.betas, session)

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase; then the LoRAs become part of the weights and begin anew."""
        yield self._sparsely(session, self._loss(session))
        self._merge(session, deltas(self.model.backbone))

    def _loss(self, session: Session) -> Loss:
        terms = self._terms(session)
        return lambda batches: terms(self.outputs(batches), batches)

    def _terms(self, session: Session) -> Callable[[dict[str, Output], dict[str, Batch]], dict[str, Tensor]]:
        """What GS-LoRA minimises, of outputs and batches of both streams."""
        beta = of_request("cl_beta_list", self.betas, session)

        def terms(outputs: dict[str, Output], batches: dict[str, Batch]) -> dict[str, Tensor]:
            gone, stays = (self.ce(session, outputs[name], batches[name]) for name in ("forget", "retain"))
            return {"forget": beta * F.relu(self.bnd - gone), "retain": stays} | self._lasso()

        return terms

    def _sparsely(self, session: Session, loss: Loss, **hooks) -> Phase:
        """An epoch is a pass over what is to stay; what is to go is cycled."""
        streams = {name: session.stream(name) for name in ("retain", "forget")}
        own = {"before_epoch": self._begin, "after_step": self._shrink if self.proximal else None}
        return Phase("forget", self.model, streams, loss, self.part, self.forget, **own, **hooks)

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch

    def _weight(self) -> float:
        """α at the epoch under way."""
        return self.alpha if self._epoch >= self.alpha_epoch else 0.0

    def _lasso(self) -> dict[str, Tensor]:
        if self.proximal:
            return {}
        return {"sparsity": self._weight() * sum(group_norm(group) for group in self.groups.values())}

    @torch.no_grad()
    def _shrink(self) -> None:
        """The proximal step of the group lasso, groups weighted by their size (Yuan & Lin, JRSS B 2006, eq. 2)."""
        rate = self.forget.rate(self._epoch, self.forget.warmup_steps) * self._weight()
        for group in self.groups.values():
            reach = rate * math.sqrt(sum(matrix.numel() for matrix in group))
            share = (1 - reach / group_norm(group).clamp(min=1e-12)).clamp(min=0)
            for matrix in group:
                matrix.mul_(share)

    def _merge(self, session: Session, found: list[Tensor]) -> None:
        self.norms = {name: group_norm(group).item() for name, group in self.groups.items()}
        if self.lora_files:
            for place, delta in zip(lora_places(self.model.backbone), found, strict=True):
                for letter, factor in zip("AB", factors(delta), strict=True):
                    self.saved[f"{session.index}/{letter}/{place.name}"] = factor
        merge_lora(self.model.backbone, found)

    def figures(self, session: Session) -> dict[str, float]:
        """`group_norm.{group}`: the norm of each group at the end of the request; `zero_groups`: how many are zero."""
        zero = sum(norm < ZERO for norm in self.norms.values())
        return {f"group_norm.{name}": norm for name, norm in self.norms.items()} | {"zero_groups": float(zero)}

    def products(self, session: Session) -> dict[str, Product]:
        """`lora/session_{i}`: the LoRAs of every request as folders that peft loads onto the original model."""
        tasks = dict.fromkeys(key.split("/")[0] for key in self.saved)
        return {f"lora/session_{task}": partial(write_lora, layers=self._layers(task)) for task in tasks}

    def _layers(self, task: str) -> list[Factors]:
        names = [key.split("/", 2)[2] for key in self.saved if key.startswith(f"{task}/A/")]
        return [Factors(name, *(self.saved[f"{task}/{letter}/{name}"] for letter in "AB")) for name in names]

    def state_dict(self) -> dict[str, Tensor]:
        """Also the weights that took up the LoRAs of past requests, and those LoRAs where they are to be kept."""
        merged = {MERGED + place.name: place.weight.detach() for place in lora_places(self.model.backbone)}
        return super().state_dict() | merged | {SAVED + key: value for key, value in self.saved.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        own = (MERGED, SAVED)
        super().load_state_dict({key: value for key, value in state.items() if not key.startswith(own)})
        for place in lora_places(self.model.backbone):
            place.weight.copy_(state[MERGED + place.name])
        self.saved = {key.removeprefix(SAVED): value for key, value in state.items() if key.startswith(SAVED)}


class GSLoRAPlusLearner(GSLoRALearner):
    """GS-LoRA++: also λ_f·ReLU(BND_p − K_forget), K the distance of embeddings to their class's prototype.

    K is the batch mean of KL(softmax of the prototype ‖ softmax of the embedding). The published weight of the same
    term on retained images is 0, so it is not here.

    Args:
        context: see `GSLoRALearner`.
        bnd_pro: BND_p.
        cl_prof_list: λ_f, one a request, or one for all.
        prototypes: class means of the exemplars' embeddings under the `original` model, as the paper says, or under the
            model before the request, as the `published` code does.
        ema: decay of a running average over epochs of what the LoRAs add to the weights; 0: none. The average is
            what is evaluated and handed on; the published code evaluates it, hands on the raw weights, and averages
            nothing in its continual script.
        ema_from: the epoch, from 0, whose end is the average's first value.
        options: see `GSLoRALearner`.

    Source: Zhao et al., GS-LoRA++, 2025, section 4.
    """

    def __init__(
        self,
        *context,
        bnd_pro: float = 18.0,
        cl_prof_list: tuple[float, ...] = (0.01,),
        prototypes: str = "original",
        ema: float = 0.0,
        ema_from: int = 0,
        **options,
    ):
        super().__init__(*context, **options)
        self.bnd_pro, self.prototype_weights, self.decay, self.ema_from = bnd_pro, cl_prof_list, ema, ema_from
        places = lora_places(self.model.backbone) if prototypes == "original" else []
        self._original = [(place.weight, place.weight.detach().clone()) for place in places]

    def check(self, session: Session) -> None:
        """See also that there is a weight for the prototypes of every request."""
        super().check(session)
        of_request("cl_prof_list", self.prototype_weights, session)

    def phases(self, session: Session) -> Iterator[Phase]:
        """One phase; then the LoRAs, or their running average, become part of the weights."""
        averages = [torch.zeros_like(delta) for delta in deltas(self.model.backbone)]
        after = partial(self._average, averages)
        yield self._sparsely(session, self._loss(session), after_epoch=after, tracked=averages)
        averaged = self.decay and self.forget.epochs > self.ema_from
        self._merge(session, averages if averaged else deltas(self.model.backbone))

    def _loss(self, session: Session) -> Loss:
        weight = of_request("cl_prof_list", self.prototype_weights, session)
        prototypes = self._prototypes(session).to(self.model.device)
        terms = self._terms(session)

        def loss(batches: dict[str, Batch]) -> dict[str, Tensor]:
            outputs, lost = self.outputs(batches), batches["forget"]
            away = distillation(outputs["forget"].features, prototypes[lost["fine"]], 1.0)
            return terms(outputs, batches) | {"prototype": weight * F.relu(self.bnd_pro - away)}

        return loss

    def _prototypes(self, session: Session) -> Tensor:
        """The mean embedding of each class's exemplars; rows of other classes are zero, [C, D]."""
        plain = session.stream("plain")
        with self._as_original():
            features = self.features(plain)
        means = torch.zeros(max(session.seen) + 1, features.shape[1])
        means[list(session.classes)] = class_means(features, plain.labels("fine"), session.classes)
        return means

    @contextmanager
    def _as_original(self) -> Iterator[None]:
        """The weights as they were before all requests; between requests the LoRAs add nothing."""
        now = [(weight, weight.detach().clone()) for weight, _ in self._original]
        _put(self._original)
        try:
            yield
        finally:
            _put(now)

    def _average(self, averages: list[Tensor], epoch: int) -> None:
        if not self.decay or epoch < self.ema_from:
            return
        keep = 0.0 if epoch == self.ema_from else self.decay
        for average, delta in zip(averages, deltas(self.model.backbone), strict=True):
            average.lerp_(delta, 1 - keep)


@torch.no_grad()
def _put(values: list[tuple[nn.Parameter, Tensor]]) -> None:
    for parameter, value in values:
        parameter.copy_(value)


def group_norm(group: list[nn.Parameter]) -> Tensor:
    """√(Σ ‖W‖_F²) over the matrices of a group, a scalar; its gradient at zero is zero."""
    return torch.cat([matrix.flatten() for matrix in group]).norm()


def of_request(key: str, values: tuple[float, ...], session: Session) -> float:
    """The value that a request has in a list with one entry a request, or one for all.

    Raises:
        ConfigError: the list is too short.
    """
    if len(values) == 1:
        return values[0]
    if session.index >= len(values):
        raise ConfigError(
            f"key '{key}' has {len(values)} entries, none for session {session.index}; give one for each request, or "
            "one for all"
        )
    return values[session.index]
