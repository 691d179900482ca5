"""Prompts in a frozen image tower: tokens beside its own, or prefixes of the keys and values of its attention."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor, nn

from convs.backbone import Backbone, mlp_norm
from utils.errors import WeightsError

ATTENTION = ("attn", "self_attention")  # timm and open_clip, torchvision


class Slots(ABC):
    """Where prompts enter a tower: by hooks, so that its modules keep their classes, names and forward.

    What was put in last stays there until something else is: where activations are checkpointed, the backward pass
    runs the blocks again.

    Args:
        tower: a plain ViT of timm, open_clip or torchvision.

    Attributes:
        width: of a prompt's token.

    Raises:
        WeightsError: a block's attention is another, which would not know what to do with further tokens.
    """

    def __init__(self, tower: Backbone):
        self.attentions = [plain_attention(block) for block in tower.blocks]
        self.width = mlp_norm(tower.blocks[0]).weight.shape[0]

    @abstractmethod
    def put(self, prompts: Any) -> None:
        """Let the next forward pass of the tower have prompts, or none (None)."""

    def read(self, features: Tensor) -> Tensor:
        """What the tower then says → one feature an image, [B, dim]."""
        return features


class TokenSlots(Slots):
    """Prompts [B, P, width] join the tokens in front of the first block; the feature is the mean over their outputs.

    The tower's head reads each prompt's output as it reads its class token: norm, projection. Position embeddings are
    those of the image alone.

    Source: Wang et al., Learning to Prompt for Continual Learning, CVPR 2022, section 4.1.
    """

    def __init__(self, tower: Backbone):
        super().__init__(tower)
        self._now: Tensor | None = None
        own = (module.num_prefix_tokens for module in tower.modules() if hasattr(module, "num_prefix_tokens"))
        self._copies = 1 + next(own, 1)  # a head that leaves out the class token needs one behind it
        tower.blocks[0].register_forward_pre_hook(self._join)
        tower.blocks[-1].register_forward_hook(self._single_out)

    def put(self, prompts: Tensor | None) -> None:
        """[B, P, width]."""
        self._now = prompts

    def read(self, features: Tensor) -> Tensor:
        """[B · P, dim] → [B, dim]."""
        if self._now is None:
            return features
        return features.unflatten(0, (-1, self._now.shape[1])).mean(1)

    def _join(self, block: nn.Module, inputs: tuple) -> tuple | None:
        if self._now is None:
            return None
        tokens, *others = inputs
        return torch.cat([self._now.to(tokens.dtype), tokens], 1), *others

    def _single_out(self, block: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        """[B, P + N, width] → [B · P, copies, width]: every prompt an image of its own."""
        if self._now is None:
            return output
        return output[:, : self._now.shape[1]].flatten(0, 1).unsqueeze(1).expand(-1, self._copies, -1)


class PrefixSlots(Slots):
    """In chosen blocks, keys and values are those of [p_K; h] and [p_V; h], queries those of h alone.

    Args:
        tower: see `Slots`.
        layers: the blocks, counted from 0.

    Attributes:
        layers: each once, ascending.

    Source: Wang et al., DualPrompt, ECCV 2022, section 4.2 (prefix tuning); Smith et al., CODA-Prompt, CVPR 2023,
        section 4. As written there a prefix stands before the projections W_K and W_V; published code puts it behind
        them.
    """

    def __init__(self, tower: Backbone, layers: Iterable[int]):
        super().__init__(tower)
        self.layers = tuple(sorted(set(layers)))
        self._slots = {layer: _slot(self.attentions[layer]) for layer in self.layers}

    def put(self, prompts: Mapping[int, Tensor] | None) -> None:
        """Block → [B, 2, L, width], p_K and p_V."""
        for layer, slot in self._slots.items():
            slot.now = prompts[layer] if prompts else None


class Prompted(Backbone):
    """A tower that looks twice at an image: for a query, and with the prompts that the query asks for.

    The tower is frozen and in evaluation mode, whatever the mode of the whole: an image's query is always the same.

    Args:
        tower: any with a plain attention.
        slots: where prompts enter it.
        prompts: query [B, dim] → what the slots take.
    """

    def __init__(self, tower: Backbone, slots: Slots, prompts: nn.Module):
        super().__init__()
        self.net, self.slots, self.prompts = tower.requires_grad_(False), slots, prompts
        self.dim, self.preprocess, self.half = tower.dim, tower.preprocess, tower.half

    @property
    def scale(self) -> Tensor | None:
        """That of the tower."""
        return self.net.scale

    @property
    def blocks(self) -> list[nn.Module]:
        """The transformer blocks of the tower, first to last."""
        return self.net.blocks

    def train(self, mode: bool = True) -> "Prompted":
        """The prompts alone change their mode."""
        super().train(mode)
        self.net.eval()
        return self

    def casting(self) -> AbstractContextManager:
        """The tower computes as it does; what is asked of prompts is single precision."""
        return nullcontext()

    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → [B, dim]."""
        return self.prompted(images, self.prompts(self.query(images)))

    @torch.no_grad()
    def query(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → the features of the tower as it came, [B, dim]."""
        self.slots.put(None)
        return self.net(images)

    def prompted(self, images: Tensor, prompts: Any) -> Tensor:
        """[B, 3, size, size] and what the slots take → [B, dim]."""
        self.slots.put(prompts)
        return self.slots.read(self.net(images))


def plain_attention(block: nn.Module) -> nn.Module:
    """The attention of a block in which every token looks at every other, wherever it stands.

    Raises:
        WeightsError: the block has another.
    """
    for attention in (getattr(block, name, None) for name in ATTENTION):
        if isinstance(attention, Attention):
            return attention
        if isinstance(attention, nn.MultiheadAttention) and attention.batch_first:
            return attention
    raise WeightsError(
        f"the backbone's blocks ({type(block).__name__}) have no plain attention, which prompts need; choose a ViT of "
        "timm or open_clip without relative or rotary positions"
    )


def _slot(attention: nn.Module) -> "_JointSlot | _SeparateSlot":
    return (_JointSlot if isinstance(attention, Attention) else _SeparateSlot)(attention)


class _JointSlot:
    """A prefix in timm's attention, whose one layer makes queries, keys and values of the same tokens.

    Room is made in front of the tokens, keys and values are put there, and what came of its queries is taken away.
    """

    def __init__(self, attention: Attention):
        self.now: Tensor | None = None
        attention.register_forward_pre_hook(self._make_room)
        attention.qkv.register_forward_hook(self._put_in)
        attention.register_forward_hook(self._clear_away)

    def _make_room(self, attention: nn.Module, inputs: tuple) -> tuple | None:
        if self.now is None:
            return None
        tokens, *others = inputs
        return F.pad(tokens, (0, 0, self.now.shape[2], 0)), *others  # [B, L + N, width]

    def _put_in(self, qkv: nn.Linear, inputs: tuple, output: Tensor) -> Tensor:
        if self.now is None:
            return output
        weights = qkv.weight.chunk(3)
        biases = (None,) * 3 if qkv.bias is None else qkv.bias.chunk(3)
        keys, values = (
            F.linear(self.now[:, part].to(output.dtype), weights[1 + part], biases[1 + part]) for part in (0, 1)
        )
        prefix = torch.cat([torch.zeros_like(keys), keys, values], 2)
        return torch.cat([prefix, output[:, self.now.shape[2] :]], 1)

    def _clear_away(self, attention: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        return output if self.now is None else output[:, self.now.shape[2] :]


class _SeparateSlot:
    """A prefix in torch's attention, which is handed queries, keys and values apart."""

    def __init__(self, attention: nn.MultiheadAttention):
        self.now: Tensor | None = None
        attention.register_forward_pre_hook(self._lengthen)

    def _lengthen(self, attention: nn.Module, inputs: tuple) -> tuple | None:
        if self.now is None:
            return None
        query, key, value, *others = inputs
        keys, values = self.now.to(query.dtype).unbind(1)
        return query, torch.cat([keys, key], 1), torch.cat([values, value], 1), *others
