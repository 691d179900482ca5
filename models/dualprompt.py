"""DualPrompt: prefixes that all tasks share, and prefixes of a task's own, found by its key."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from convs.prompts import PrefixSlots
from data.sessions import Session
from models.prompting import PromptLearner, chosen_blocks, distance, uniform

GENERAL, EXPERT = (0, 1), (2, 3, 4)  # the paper's blocks


class DualPrompts(nn.Module):
    """G-Prompt and E-Prompts.

    Args:
        general: the blocks of the G-Prompt.
        expert: those of the E-Prompts.
        lengths: L_g and L_e, tokens of a prefix in each.
        width: W of a token.
        dim: D of a query.

    Attributes:
        general: [blocks, 2, L_g, W], of keys and of values.
        experts: of every task, [blocks, 2, L_e, W].
        keys: of every task, [D].
    """

    def __init__(self, general: Sequence[int], expert: Sequence[int], lengths: tuple[int, int], width: int, dim: int):
        super().__init__()
        self.layers, (shared, self.length), self.width, self.dim = (general, expert), lengths, width, dim
        self.general = uniform(len(general), 2, shared, width)
        self.experts, self.keys = nn.ParameterList(), nn.ParameterList()

    def open(self) -> list[nn.Parameter]:
        """Append an E-Prompt, which begins as the last one, and its key; both are returned."""
        device = self.general.device
        fresh = uniform(len(self.layers[1]), 2, self.length, self.width).to(device)
        self.experts.append(nn.Parameter(self.experts[-1].detach().clone()) if len(self.experts) else fresh)
        self.keys.append(uniform(self.dim).to(device))
        return [self.experts[-1], self.keys[-1]]

    def forward(self, query: Tensor) -> dict[int, Tensor]:
        """Queries [B, D] → the prefixes of the nearest task, {block: [B, 2, L, W]}."""
        return self.of(distance(query[:, None], torch.stack(list(self.keys))).argmin(1))

    def of(self, tasks: Tensor) -> dict[int, Tensor]:
        """Numbers of tasks [B] → their prefixes; in a block of both kinds the one stands behind the other."""
        shared = self.general.expand(tasks.shape[0], -1, -1, -1, -1)
        found = dict(zip(self.layers[0], shared.unbind(1), strict=True))
        expert = torch.stack(list(self.experts))[tasks]  # [B, blocks, 2, L_e, W]
        for layer, part in zip(self.layers[1], expert.unbind(1), strict=True):
            found[layer] = torch.cat([found[layer], part], 2) if layer in found else part
        return found


class DualPromptLearner(PromptLearner):
    """CE(new classes) + λ·(1 − cos(query, the task's key)); the G-Prompt moves in all sessions, an E-Prompt in its own.

    Args:
        context, options: see `Learner`.
        g_prompt_length, prompt_length: L_g and L_e (None: 20).
        g_prompt_layer_idx, e_prompt_layer_idx: the blocks, from 0; None: the paper's, where the tower has them.
        pull_constraint_coeff: λ.

    Raises:
        ConfigError: a block is not there.

    Source: Wang et al., Complementary Prompting for Rehearsal-free Continual Learning, ECCV 2022, section 4.
    That an E-Prompt begins as the last one is of its code. PILOT's files have L_e = 5 and λ = 0.1; its code draws the
    E-Prompts of ten tasks in advance.
    """

    def __init__(
        self,
        *context,
        g_prompt_length: int = 5,
        prompt_length: int | None = None,
        g_prompt_layer_idx: Sequence[int] | None = None,
        e_prompt_layer_idx: Sequence[int] | None = None,
        pull_constraint_coeff: float = 0.5,
        **options,
    ):
        super().__init__(*context, **options)
        tower, self.pull = self.model.backbone, pull_constraint_coeff
        general = chosen_blocks("g_prompt_layer_idx", g_prompt_layer_idx, GENERAL, len(tower.blocks))
        expert = chosen_blocks("e_prompt_layer_idx", e_prompt_layer_idx, EXPERT, len(tower.blocks))
        slots = PrefixSlots(tower, general + expert)
        lengths = g_prompt_length, prompt_length or 20
        self.prompt(slots, DualPrompts(general, expert, lengths, slots.width, tower.dim))

    def opened(self, session: Session) -> Iterable[nn.Parameter]:
        """The G-Prompt, and an E-Prompt of the session's own with its key."""
        return [self.prompts.general, *self.prompts.open()]

    def asked(self, query: Tensor) -> tuple[dict[int, Tensor], dict[str, Tensor]]:
        """The newest task's prefixes, whose key is pulled."""
        own = torch.full((len(query),), len(self.prompts.keys) - 1, device=query.device)
        return self.prompts.of(own), {"pull": self.pull * distance(query, self.prompts.keys[-1]).mean()}
