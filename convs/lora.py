"""Low-rank adaptation of the layers of any transformer block."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convs.backbone import Backbone
from utils.errors import WeightsError

# the two layers of a block's MLP, by the names the libraries give them
FFN = (("fc1", "fc2"), ("c_fc", "c_proj"), ("0", "3"))  # timm, open_clip, torchvision
ATTENTION = ("attn", "self_attention")  # timm and open_clip, torchvision
POSITIONS = ("ffn", "attention")
KINDS = ("block", "lora", "matrix")


class LoRA(nn.Module):
    """A low-rank matrix beside a linear layer: `y ← y + alpha/rank·B·A·x`.

    It attaches to the layer by a hook, so that the layer keeps its class, its parameter names and its forward.

    Args:
        dim_in: width of the layer's input.
        dim_out: width of its output.
        rank: rows of A and columns of B.
        alpha: what the product is scaled with, times the rank.

    Attributes:
        A: [rank, dim_in], Kaiming-uniform(√5).
        B: [dim_out, rank], zero: a fresh LoRA changes nothing.

    Raises:
        ValueError: the rank is below 1.

    Source: Hu et al., LoRA, ICLR 2022, section 4.1.
    """

    def __init__(self, dim_in: int, dim_out: int, rank: int = 8, alpha: float = 1.0):
        super().__init__()
        if rank < 1:
            raise ValueError(f"the rank of a LoRA must be at least 1, got {rank}")
        self.A = nn.Parameter(torch.empty(rank, dim_in))
        self.B = nn.Parameter(torch.empty(dim_out, rank))
        self.scale = alpha / rank
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self.reset()

    def reset(self) -> None:
        """Begin anew: A random, B zero."""
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        nn.init.zeros_(self.B)

    def forward(self, x: Tensor) -> Tensor:
        """[…, dim_in] → […, dim_out], to be added to the layer's output."""
        return F.linear(self.scale * F.linear(x, self.A), self.B)

    def weight(self) -> Tensor:
        """What it adds to the layer's weight, [dim_out, dim_in]."""
        return self.scale * self.B @ self.A

    def attach(self, layer: nn.Linear) -> None:
        """Become part of a layer, as its sub-module `lora`, in the mode the layer is in."""
        self._hooks = [layer.register_forward_hook(self._add)]
        layer.lora = self.train(layer.training)

    def detach(self, layer: nn.Module) -> None:
        """Leave the layer as it was before `attach`."""
        for hook in self._hooks:
            hook.remove()
        del layer.lora

    def _add(self, layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + self(inputs[0])


class AttentionLoRA(LoRA):
    """The same beside the joint weight of an attention's queries, keys and values.

    Libraries read that weight without calling a layer, where a hook on the output would not be heard. So the sum of
    weight and LoRA stands in for the weight while the attention's forward runs; its names stay, and so do the fused
    kernels.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._aside: list[nn.Parameter] = []  # in a list, lest it become a parameter of the LoRA

    def attach(self, attention: nn.Module) -> None:
        """Become part of what holds the weight, as its sub-module `lora`, in the mode that is in."""
        before = attention.register_forward_pre_hook(self._stand_in)
        self._hooks = [before, attention.register_forward_hook(self._step_back, always_call=True)]
        holder, _ = projection(attention)
        holder.lora = self.train(holder.training)

    def _stand_in(self, attention: nn.Module, inputs: tuple) -> None:
        holder, name = projection(attention)
        self._aside.append(holder._parameters[name])
        holder._parameters[name] = self._aside[-1] + self.weight()

    def _step_back(self, attention: nn.Module, inputs: tuple, output: object) -> None:
        holder, name = projection(attention)
        holder._parameters[name] = self._aside.pop()


@dataclass(frozen=True)
class Place:
    """Where a LoRA is.

    Attributes:
        block: the number of its block, from 0.
        name: of the weight beside which it stands, as the backbone's `net` calls it.
        label: of that layer within its block.
        layer: what holds the weight.
        weight: [dim_out, dim_in].
        lora: the LoRA.
    """

    block: int
    name: str
    label: str
    layer: nn.Module
    weight: nn.Parameter
    lora: LoRA


def inject_lora(
    backbone: Backbone, rank: int = 8, alpha: float = 1.0, position: str = "ffn"
) -> list[list[nn.Parameter]]:
    """Give the blocks of a backbone their LoRAs.

    Args:
        backbone: changed in place; which of its blocks, says its `tune_blocks`.
        rank: of every LoRA.
        alpha: see `LoRA`.
        position: `ffn`, both layers of the MLP, or `attention`, the joint projection to queries, keys and values.

    Returns:
        The LoRAs' parameters, one group a block, first block first; in a group A and B of the MLP's first layer, then
        of its second.

    Raises:
        WeightsError: a block has no such layers; nothing has been attached then.
        ValueError: another position.

    Source: Zhao et al., GS-LoRA, CVPR 2024, section 4.1: both layers of the feed-forward network, rank 8, alpha 1; the
        attention is its ablation.
    """
    if position not in POSITIONS:
        raise ValueError(f"the position of LoRA must be one of {', '.join(POSITIONS)}, got '{position}'")
    layers_of = ffn_layers if position == "ffn" else attention_layers
    for layers in [layers_of(block) for block in backbone.tuned]:
        for layer in layers:
            _add_lora(layer, rank, alpha)
    return list(lora_groups(backbone, "block").values())


def lora_groups(backbone: Backbone, kind: str = "block") -> dict[str, list[nn.Parameter]]:
    """The parameters of all LoRAs in groups, by the groups' names: `block 3`, `block 3 mlp.fc1`, `block 3 mlp.fc1 A`.

    Args:
        backbone: with LoRAs.
        kind: a group is what a `block` has, what one layer has (`lora`: A and B), or one `matrix`.

    Raises:
        ValueError: another kind.

    Source: Zhao et al., GS-LoRA, CVPR 2024, section 4.2; the finer kinds are its ablations.
    """
    if kind not in KINDS:
        raise ValueError(f"groups of LoRA must be one of {', '.join(KINDS)}, got '{kind}'")
    groups: dict[str, list[nn.Parameter]] = {}
    for place in lora_places(backbone):
        for letter, matrix in (("A", place.lora.A), ("B", place.lora.B)):
            words = {"block": (), "lora": (place.label,), "matrix": (place.label, letter)}[kind]
            groups.setdefault(" ".join((f"block {place.block}", *words)), []).append(matrix)
    return groups


def lora_places(backbone: Backbone) -> list[Place]:
    """Every LoRA of a backbone, first block first, within a block in the order of its modules."""
    names = {id(parameter): name for name, parameter in backbone.net.named_parameters()}
    return [
        Place(number, names[id(weight)], label, layer, weight, layer.lora)
        for number, block in enumerate(backbone.blocks)
        for label, layer, weight in _adapted(block)
    ]


@torch.no_grad()
def deltas(backbone: Backbone) -> list[Tensor]:
    """What every LoRA adds to its weight, [dim_out, dim_in] each, in the order of `lora_places`."""
    return [place.lora.weight() for place in lora_places(backbone)]


@torch.no_grad()
def merge_lora(backbone: Backbone, deltas: Sequence[Tensor] | None = None) -> None:
    """Add to every weight what its LoRA says and begin the LoRA anew: the backbone computes what it did before.

    Args:
        backbone: changed in place.
        deltas: what to add instead, in the order of `lora_places`, e.g. a running average of what the LoRAs said.

    Raises:
        ValueError: another number of deltas than of LoRAs; nothing has been added then.
    """
    places = lora_places(backbone)
    if deltas is None:
        deltas = [place.lora.weight() for place in places]
    if len(deltas) != len(places):
        raise ValueError(f"{len(deltas)} deltas for {len(places)} LoRAs")
    for place, delta in zip(places, deltas, strict=True):
        place.weight.add_(delta)
        place.lora.reset()


def remove_lora(backbone: Backbone) -> None:
    """Take all LoRAs away, and with them what was not merged."""
    for place in lora_places(backbone):
        place.lora.detach(place.layer)


def ffn_layers(block: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    """The two linear layers of a block's MLP, in the order of its forward.

    Raises:
        WeightsError: there are no such two.
    """
    mlp = getattr(block, "mlp", None)
    for first, second in FFN:
        layers = getattr(mlp, first, None), getattr(mlp, second, None)
        if all(isinstance(layer, nn.Linear) for layer in layers):
            return layers
    raise WeightsError(
        f"the MLP of the backbone's blocks ({type(block).__name__}) is not two linear layers; LoRA needs a plain ViT"
    )


def attention_layers(block: nn.Module) -> tuple[nn.Module]:
    """A block's attention, alone in a tuple.

    Raises:
        WeightsError: there is none with a joint weight of queries, keys and values.
    """
    for name in ATTENTION:
        attention = getattr(block, name, None)
        if attention is not None and isinstance(getattr(*projection(attention), None), nn.Parameter):
            return (attention,)
    raise WeightsError(
        f"the attention of the backbone's blocks ({type(block).__name__}) has no joint weight of queries, keys and "
        "values; set 'lora_pos' to \"ffn\""
    )


def projection(attention: nn.Module) -> tuple[nn.Module, str]:
    """What holds the joint weight of queries, keys and values, and what it is called there."""
    if isinstance(getattr(attention, "qkv", None), nn.Linear):
        return attention.qkv, "weight"  # timm
    return attention, "in_proj_weight"  # nn.MultiheadAttention


def _add_lora(layer: nn.Module, rank: int, alpha: float) -> None:
    linear = isinstance(layer, nn.Linear)
    weight = layer.weight if linear else getattr(*projection(layer))
    dim_out, dim_in = weight.shape
    lora = (LoRA if linear else AttentionLoRA)(dim_in, dim_out, rank, alpha).to(weight)
    lora.attach(layer)


def _adapted(block: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    """The layers of a block that have a LoRA: name in the block, layer, weight."""
    for name, layer in block.named_modules():
        if isinstance(getattr(layer, "lora", None), LoRA):
            yield name, layer, layer.weight if isinstance(layer, nn.Linear) else layer.in_proj_weight
