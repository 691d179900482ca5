"""L2P: a pool of prompts, of which every image takes those whose keys are the most like it."""

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from convs.prompts import TokenSlots
from data.sessions import Session
from models.prompting import PromptLearner, distance, uniform
from utils.errors import ConfigError


class PromptPool(nn.Module):
    """Prompts and their keys.

    Args:
        size: M.
        length: L, tokens of a prompt.
        top: N, prompts that a query takes.
        width: W of a token.
        dim: D of a query.

    Attributes:
        keys: [M, D].
        prompts: [M, L, W].
    """

    def __init__(self, size: int, length: int, top: int, width: int, dim: int):
        super().__init__()
        self.keys, self.prompts, self.top = uniform(size, dim), uniform(size, length, width), top

    def forward(self, query: Tensor) -> Tensor:
        """Queries [B, D] → the tokens of their prompts, [B, N · L, W]."""
        return self.of(self.nearest(query))

    def of(self, numbers: Tensor) -> Tensor:
        """Numbers of prompts [B, N] → their tokens one after the other, [B, N · L, W]."""
        return self.prompts[numbers].flatten(1, 2)

    def nearest(self, query: Tensor) -> Tensor:
        """Queries [B, D] → the numbers of the N keys with the largest cosine, the largest first, [B, N]."""
        return (F.normalize(query, dim=1) @ F.normalize(self.keys, dim=1).T).topk(self.top).indices


class L2PLearner(PromptLearner):
    """CE(new classes) + λ·Σ over the chosen keys of 1 − cos(query, key).

    Args:
        context, options: see `Learner`.
        prompt_pool_size, prompt_length, prompt_top_k: M, L (None: 5) and N.
        pull_constraint_coeff: λ.

    Raises:
        ConfigError: more prompts are to be taken than there are.

    Source: Wang et al., Learning to Prompt for Continual Learning, CVPR 2022, section 4. PILOT's code lets a whole
    batch vote for its prompts, at test time too, so that what an image is taken for depends on its neighbours; here, as
    in the paper, every image has its own.
    """

    def __init__(
        self,
        *context,
        prompt_pool_size: int = 10,
        prompt_length: int | None = None,
        prompt_top_k: int = 5,
        pull_constraint_coeff: float = 0.5,
        **options,
    ):
        super().__init__(*context, **options)
        if prompt_top_k > prompt_pool_size:
            raise ConfigError(f"key 'prompt_top_k': {prompt_top_k} of {prompt_pool_size} prompts ('prompt_pool_size')")
        self.pull, slots = pull_constraint_coeff, TokenSlots(self.model.backbone)
        shape = (prompt_pool_size, prompt_length or 5, prompt_top_k, slots.width, self.model.backbone.dim)
        self.prompt(slots, PromptPool(*shape))

    def opened(self, session: Session) -> Iterable[nn.Parameter]:
        """The whole pool, in every session."""
        return self.prompts.parameters()

    def asked(self, query: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The prompts of the nearest keys, which are pulled."""
        chosen = self.prompts.nearest(query)
        far = distance(query[:, None], self.prompts.keys[chosen])  # [B, N]
        return self.prompts.of(chosen), {"pull": self.pull * far.sum(1).mean()}
