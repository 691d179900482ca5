"""Which part of a model an unlearner may move."""

from torch import nn

from convs.adapter import inject_adapters
from convs.clip import ClipBackbone
from convs.lora import inject_lora
from convs.model import Model, freeze
from utils.errors import ConfigError


def tuned_part(
    model: Model,
    tune: str,
    *,
    ffn_num: int,
    adapter_scale: float,
    adapter_dropout: float,
    lora_rank: int,
    lora_alpha: float,
) -> list[nn.Parameter]:
    """Freeze a model but for one part; a CLIP's logit scale and the classifier's rows stay as they are.

    Args:
        model: changed in place; adapters and LoRA are put into its image tower.
        tune: `all` (both towers), `image`, `text`, `adapter` or `lora`.
        ffn_num: bottleneck of the adapters.
        adapter_scale: factor on their output.
        adapter_dropout: dropout inside them.
        lora_rank: rank of the LoRA matrices.
        lora_alpha: their update is scaled by alpha / rank.

    Returns:
        The parameters that may move.

    Raises:
        ConfigError: `text` without a text tower.
    """
    if tune == "adapter":
        groups = inject_adapters(model.backbone.tuned, ffn_num, adapter_scale, adapter_dropout)
    elif tune == "lora":
        groups = inject_lora(model.backbone, lora_rank, lora_alpha)
    else:
        groups = [_towers(model, tune)]
    return unfrozen(model, groups)


def unfrozen(model: Model, groups: list[list[nn.Parameter]]) -> list[nn.Parameter]:
    """Freeze a model but for groups of its parameters, which are returned as one list."""
    freeze(model)
    part = [parameter for group in groups for parameter in group]
    for parameter in part:
        parameter.requires_grad_(True)
    return part


def tower(model: Model) -> list[nn.Parameter]:
    """Freeze a model but for its image tower, whose parameters are returned."""
    return unfrozen(model, [_towers(model, "image")])


def _towers(model: Model, tune: str) -> list[nn.Parameter]:
    if not isinstance(model.backbone, ClipBackbone):
        if tune == "text":
            raise ConfigError("key 'tune': \"text\" needs a text tower; choose a CLIP or \"lit:…\" as 'convnet_type'")
        return list(model.backbone.parameters())
    image = list(model.backbone.net.visual.parameters())
    if tune == "image":
        return image
    everything = dict(model.backbone.net.named_parameters())
    without = {id(everything.pop("logit_scale"))} | (
        {id(parameter) for parameter in image} if tune == "text" else set()
    )
    return [parameter for parameter in everything.values() if id(parameter) not in without]
