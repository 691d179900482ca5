"""Prompts in towers of the three libraries, against attention and forward passes written out in double precision."""

import math

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.eva import EvaBlock
from torch import nn
from torchvision.models import VisionTransformer as TorchvisionViT

from convs.clip import ClipBackbone
from convs.clip_models import build_clip
from convs.face import build_face
from convs.prompts import PrefixSlots, Prompted, TokenSlots, plain_attention
from convs.torchvision_vit import TorchvisionBackbone
from convs.vit import TINY_PREPROCESS, VitBackbone, build_vit
from utils.errors import WeightsError

CLIP = {  # a tower whose tokens are wider than its features
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 24, "layers": 3, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def torchvision() -> TorchvisionBackbone:
    net = TorchvisionViT(image_size=64, patch_size=32, num_layers=3, num_heads=4, hidden_dim=32, mlp_dim=64)
    return TorchvisionBackbone(net, TINY_PREPROCESS)


def timm_tower(**options) -> VitBackbone:
    shape = {"img_size": 64, "patch_size": 16, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 0}
    return VitBackbone(timm.models.VisionTransformer(**shape | options), TINY_PREPROCESS)


TOWERS = {
    "timm": timm_tower,
    "open_clip": lambda: ClipBackbone(
        open_clip.CLIP(**CLIP), TINY_PREPROCESS, open_clip.SimpleTokenizer(context_length=8)
    ),
    "open_clip over timm": lambda: build_clip("lit:test_vit", "random", 32),
    "torchvision": torchvision,
}


@pytest.fixture(params=TOWERS)
def tower(request, small_lit):
    return shaken(TOWERS[request.param])


@torch.no_grad()
def shaken(build):
    """A tower, always the same, with nothing left at its first value, biases and norms included."""
    torch.manual_seed(0)
    tower = build()
    for parameter in tower.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return tower.double().eval()


def images(tower, count: int = 2) -> torch.Tensor:
    size = tower.preprocess.size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def projections(attention: nn.Module) -> tuple[torch.Tensor, torch.Tensor, nn.Linear]:
    """The joint weight and bias of queries, keys and values, and the layer behind."""
    if hasattr(attention, "qkv"):
        return attention.qkv.weight, attention.qkv.bias, attention.proj
    return attention.in_proj_weight, attention.in_proj_bias, attention.out_proj


def by_hand(attention: nn.Module, tokens: torch.Tensor, prefix: torch.Tensor) -> torch.Tensor:
    """What an attention says of the tokens [N, W] of one image with a prefix [2, L, W], head by head."""
    weight, bias, behind = projections(attention)
    (w_q, w_k, w_v), (b_q, b_k, b_v) = weight.chunk(3), bias.chunk(3)
    queries = tokens @ w_q.T + b_q
    keys = torch.cat([prefix[0], tokens]) @ w_k.T + b_k
    values = torch.cat([prefix[1], tokens]) @ w_v.T + b_v
    size = tokens.shape[1] // attention.num_heads
    heads = []
    for start in range(0, tokens.shape[1], size):
        q, k, v = (part[:, start : start + size] for part in (queries, keys, values))
        heads.append((q @ k.T / math.sqrt(size)).softmax(1) @ v)
    return behind(torch.cat(heads, 1))


@torch.no_grad()
def test_attention_with_a_prefix_follows_the_formula(tower):
    slots = PrefixSlots(tower, [1])
    attention, seen = plain_attention(tower.blocks[1]), {}
    prefix = drawn(2, 2, 5, slots.width)

    def watch(module, inputs, output):
        seen["says"] = output[0] if isinstance(output, tuple) else output

    attention.register_forward_hook(watch)
    norm = next(getattr(tower.blocks[1], name) for name in ("norm1", "ln_1") if hasattr(tower.blocks[1], name))
    norm.register_forward_hook(lambda module, inputs, output: seen.update(tokens=output))
    slots.put({1: prefix})
    tower(images(tower))
    assert seen["says"].shape == seen["tokens"].shape
    for image in (0, 1):
        expected = by_hand(attention, seen["tokens"][image], prefix[image])
        torch.testing.assert_close(seen["says"][image], expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_only_the_chosen_blocks_have_prefixes(tower):
    said, batch = [], images(tower)
    slots = PrefixSlots(tower, [2, 1, 2])
    for block in tower.blocks:
        block.register_forward_hook(lambda module, inputs, output: said.append(output))
    for prompts in (None, {1: drawn(2, 2, 3, slots.width), 2: drawn(2, 2, 3, slots.width)}):
        slots.put(prompts)
        tower(batch)
    without, having = said[: len(tower.blocks)], said[len(tower.blocks) :]
    assert torch.equal(without[0], having[0])
    assert not any(torch.allclose(*pair) for pair in zip(without[1:], having[1:], strict=True))


def head(tower):
    """What a tower makes of a class token behind the last block, [..., W] → [..., dim]."""
    net = tower.net
    if isinstance(tower, TorchvisionBackbone):
        return net.encoder.ln
    if isinstance(tower, VitBackbone):
        return net.norm
    if hasattr(net.visual, "trunk"):
        return net.visual.trunk.norm
    return lambda token: net.visual.ln_post(token) @ net.visual.proj


@torch.no_grad()
def with_tokens(tower, batch: torch.Tensor, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features by prompts [B, P, W], and what the prompts become behind the last block when all is run by hand."""
    seen = {}
    tower.blocks[0].register_forward_pre_hook(lambda block, inputs: seen.update(entering=inputs[0]))
    slots = TokenSlots(tower)
    slots.put(prompts)
    features = slots.read(tower(batch))
    slots.put(None)
    tokens = torch.cat([prompts, seen["entering"]], 1)
    for block in tower.blocks:
        tokens = block(tokens)
    return features, tokens[:, : prompts.shape[1]]


def test_a_feature_is_the_mean_of_what_the_head_makes_of_each_prompt(tower):
    prompts = drawn(2, 4, TokenSlots(tower).width)
    features, outputs = with_tokens(tower, images(tower), prompts)
    assert features.shape == (2, tower.dim)
    torch.testing.assert_close(features, head(tower)(outputs).mean(1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"reg_tokens": 4, "class_token": False}, {"reg_tokens": 2}], ids=str)
def test_so_it_is_where_a_head_averages_what_stands_behind_its_own_tokens(options):
    tower = shaken(lambda: timm_tower(global_pool="avg", **options))
    features, outputs = with_tokens(tower, images(tower), drawn(2, 3, 24))
    torch.testing.assert_close(features, tower.net.fc_norm(outputs).mean(1), rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("kind", [TokenSlots, lambda tower: PrefixSlots(tower, range(3))], ids=["tokens", "prefixes"])
def test_without_prompts_a_tower_is_what_it_was(tower, kind):
    batch = images(tower)
    before, names = tower(batch), list(tower.state_dict())
    slots = kind(tower)
    slots.put(None)
    assert torch.equal(slots.read(tower(batch)), before) and list(tower.state_dict()) == names


class Fixed(nn.Module):
    """Prompts for anybody; in the mean of the numbers of a query, lest it be of no use."""

    def __init__(self, slots):
        super().__init__()
        self.part = nn.Parameter(torch.randn(2, 3, slots.width, generator=torch.Generator().manual_seed(3)).double())
        self.layers = None if isinstance(slots, TokenSlots) else slots.layers

    def forward(self, query: torch.Tensor):
        prompts = query.mean(1)[:, None, None, None] * self.part
        return prompts[:, 0] if self.layers is None else dict.fromkeys(self.layers, prompts)


KINDS = {"tokens": TokenSlots, "prefixes": lambda tower: PrefixSlots(tower, [0, 2])}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def prompted(tower, kind) -> Prompted:
    slots = kind(tower)
    return Prompted(tower, slots, Fixed(slots).to(next(tower.parameters())))


@torch.no_grad()
def test_an_image_is_looked_at_twice(tower, kind):
    batch = images(tower)
    query = tower(batch)
    whole = prompted(tower, kind)
    # open_clip's attention takes another way through torch where no weight asks for gradients, and rounds otherwise
    torch.testing.assert_close(whole.query(batch), query, rtol=1e-12, atol=1e-12)
    features = whole(batch)
    assert features.shape == query.shape and not torch.allclose(features, query)
    assert torch.equal(whole(batch), features)
    torch.testing.assert_close(whole.query(batch), query, rtol=1e-12, atol=1e-12)
    assert (whole.dim, whole.scale, whole.preprocess) == (tower.dim, tower.scale, tower.preprocess)
    assert whole.blocks == tower.blocks


def test_prompts_alone_get_gradients(tower, kind):
    whole = prompted(tower, kind).train()
    whole(images(tower)).square().sum().backward()
    assert whole.prompts.part.grad.abs().sum() > 0
    others = [parameter for name, parameter in whole.named_parameters() if not name.startswith("prompts.")]
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in others)


def test_gradients_are_those_of_finite_differences(kind):
    whole, step = prompted(shaken(timm_tower), kind), 1e-6
    whole(images(whole)).sum().backward()
    place = (1, 2, 5) if kind is not TokenSlots else (0, 2, 5)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            whole.prompts.part[place] += sign * step
            values.append(whole(images(whole)).sum().item())
            whole.prompts.part[place] -= sign * step
    assert whole.prompts.part.grad[place].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("name", ["timm", "open_clip"])
def test_checkpointed_activations_give_the_same_gradients(name, kind):
    slopes = []
    for checkpointed in (False, True):
        tower = shaken(TOWERS[name])
        if checkpointed:
            tower.checkpoint_activations()
        whole = prompted(tower, kind).train()
        whole(images(tower)).square().sum().backward()
        slopes.append(whole.prompts.part.grad)
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)


def test_the_tower_drops_nothing_while_prompts_are_trained(kind):
    torch.manual_seed(0)
    whole = prompted(build_face("face_vit_small", "random").double(), kind).train()
    assert whole.training and whole.prompts.training and not any(module.training for module in whole.net.modules())
    batch = images(whole)
    assert torch.equal(whole(batch), whole(batch))


@torch.no_grad()
def test_in_half_precision_queries_and_features_are_single(kind):
    said = []
    for half in (False, True):
        torch.manual_seed(0)
        tower = build_vit("tiny_vit", "random").eval()
        tower.half = half
        whole, batch = prompted(tower, kind), images(tower).float()
        assert whole.half == half and whole.query(batch).dtype == torch.float32
        said.append(whole(batch))
    assert said[1].dtype == torch.float32 and not torch.equal(*said)
    torch.testing.assert_close(*map(F.normalize, said), rtol=0, atol=0.05)


def other(block: nn.Module) -> VitBackbone:
    tower = timm_tower()
    tower.net.blocks[1] = block
    return tower


UNFIT = {
    "rotary": lambda: other(EvaBlock(24, 3)),
    "tokens second": lambda: other(nn.TransformerEncoderLayer(24, 3)),
    "none": lambda: other(nn.Identity()),
}


@pytest.mark.parametrize("name", UNFIT)
def test_other_attention_is_refused(name, kind):
    with pytest.raises(WeightsError, match="no plain attention, which prompts need; choose a ViT of timm or open_clip"):
        kind(UNFIT[name]())
