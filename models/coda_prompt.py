"""CODA-Prompt: a prefix is a sum of components, each weighed by how much an image attends to it."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convs.prompts import PrefixSlots
from data.sessions import Session
from models.prompting import PromptLearner, chosen_blocks
from utils.errors import ConfigError

LAYERS = (0, 1, 2, 3, 4)  # the paper's blocks


class Components(nn.Module):
    """Components of prefixes; each session appends some, [blocks, m, …].

    Args:
        layers: the blocks that have prefixes.
        length: L, tokens of a component, one half for the keys of an attention and one for its values.
        width: W of a token.
        dim: D of a query.

    Attributes:
        keys, attention: K and A, [blocks, m, D] of every session.
        prompts: P, [blocks, m, L · W] of every session.
    """

    def __init__(self, layers: Sequence[int], length: int, width: int, dim: int):
        super().__init__()
        self.layers, self.length, self.sizes = layers, length, (dim, dim, length * width)
        self.keys, self.attention, self.prompts = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()

    def check_room(self, count: int) -> None:
        """See that so many more components can be orthogonal to those there are.

        Raises:
            ConfigError: they cannot.
        """
        every, room = count + sum(part.shape[1] for part in self.keys), min(self.sizes)
        if every > room:
            raise ConfigError(
                f"key 'prompt_param': {every} components cannot be orthogonal in {room} dimensions; ask for fewer, or "
                "for fewer sessions, each of which has one at least"
            )

    def open(self, count: int, device: torch.device) -> list[nn.Parameter]:
        """Append components orthogonal to all before them, which are returned."""
        fresh = []
        for parts, size in zip(self._kinds(), self.sizes, strict=True):
            drawn = torch.randn(len(self.layers), count, size).to(device)
            parts.append(nn.Parameter(orthogonal(drawn, joined(parts) if len(parts) else drawn[:, :0])))
            fresh.append(parts[-1])
        return fresh

    def forward(self, query: Tensor) -> dict[int, Tensor]:
        """Queries [B, D] → Σ_m cos(query ⊙ A_m, K_m)·P_m, {block: [B, 2, L / 2, W]}."""
        keys, attention, prompts = map(joined, self._kinds())
        weights = F.cosine_similarity(query[:, None, None] * attention, keys, dim=-1)  # [B, blocks, M]
        sums = torch.einsum("blm,lmp->blp", weights, prompts).unflatten(2, (2, self.length // 2, -1))
        return dict(zip(self.layers, sums.unbind(1), strict=True))

    def overlap(self) -> Tensor:
        """How far all components are from orthonormal: the mean of (BBᵀ − I)², summed over K, A, P and the blocks."""
        grams = torch.stack([joined(parts) @ joined(parts).mT for parts in self._kinds()])  # [3, blocks, M, M]
        return (grams - torch.eye(grams.shape[-1]).to(grams)).square().mean((2, 3)).sum()

    def _kinds(self) -> tuple[nn.ParameterList, ...]:
        return self.keys, self.attention, self.prompts


class CodaPromptLearner(PromptLearner):
    """CE(new classes) + λ·`overlap`; the components of past sessions take part and stay as they are.

    Args:
        context, options: see `Learner`.
        prompt_param: components of all sessions together, shared out by their classes; L; λ.
        e_prompt_layer_idx: the blocks, from 0; None: the first five, where the tower has them.

    Raises:
        ConfigError: a block is not there, L is odd, or there are more components than dimensions.

    Source: Smith et al., CODA-Prompt, CVPR 2023, section 4. The paper's penalty is the norm of BBᵀ − I; its code takes
    the mean of the squares, to which λ = 0.1 refers, and sets λ = 0 since the components begin orthogonal.
    """

    def __init__(
        self,
        *context,
        prompt_param: tuple[int, int, float] = (100, 8, 0.1),
        e_prompt_layer_idx: Sequence[int] | None = None,
        **options,
    ):
        super().__init__(*context, **options)
        tower, (self.count, length, self.weight) = self.model.backbone, prompt_param
        layers = chosen_blocks("e_prompt_layer_idx", e_prompt_layer_idx, LAYERS, len(tower.blocks))
        slots = PrefixSlots(tower, layers)
        if length % 2:
            raise ConfigError(
                f"key 'prompt_param': the length {length} is odd; half of a prompt is for keys and half for values"
            )
        components = Components(layers, length, slots.width, tower.dim)
        components.check_room(self.count)
        self.prompt(slots, components)

    def opened(self, session: Session) -> Iterable[nn.Parameter]:
        """Components for the session's share of all classes, one at least."""
        before, classes = len(self.model.head("fine")), len(session.order.fine)
        ends = [self.count * number // classes for number in (before, before + len(session.classes))]
        fresh = max(1, ends[1] - ends[0])
        self.prompts.check_room(fresh)
        return self.prompts.open(fresh, self.model.device)

    def asked(self, query: Tensor) -> tuple[dict[int, Tensor], dict[str, Tensor]]:
        """All components, held orthogonal."""
        return self.prompts(query), {"overlap": self.weight * self.prompts.overlap()} if self.weight else {}


def joined(parts: Iterable[Tensor]) -> Tensor:
    """The components of all sessions, [blocks, M, …]."""
    return torch.cat(list(parts), 1)


def orthogonal(drawn: Tensor, before: Tensor) -> Tensor:
    """Rows [blocks, m, D] made orthonormal, and orthogonal to earlier ones [blocks, M, D]; M + m ≤ D."""
    basis = torch.linalg.qr(before.mT).Q  # [blocks, D, M]
    return torch.linalg.qr(drawn.mT - basis @ (basis.mT @ drawn.mT)).Q.mT.contiguous()
