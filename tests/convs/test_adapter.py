"""Parallel adapters in blocks of both libraries, against the formula written out."""

import copy

import pytest
import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from timm.models.vision_transformer import ParallelScalingBlock, ResPostBlock

from convs.adapter import ParallelAdapter, inject_adapters
from convs.clip_models import build_clip
from convs.vit import TINY_PREPROCESS, VitBackbone, build_vit
from utils.errors import WeightsError

BACKBONES = {
    "timm": lambda: build_vit("test_vit", "random", 32),
    "open_clip": lambda: build_clip("tiny_clip", "random"),
    "open_clip over timm": lambda: build_clip("lit:test_vit", "random", 32),
}


@pytest.fixture(params=BACKBONES)
def backbone(request, small_lit):
    torch.manual_seed(0)
    return BACKBONES[request.param]().eval()


def images(backbone, count: int = 2) -> torch.Tensor:
    size = backbone.preprocess.size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def shake(groups) -> None:
    """Adapters as training might leave them: nothing zero."""
    for group in groups:
        for parameter in group:
            torch.nn.init.normal_(parameter, std=0.3)


def trained(backbone):
    """The backbone with nothing left at its first value, norms and layer scales included."""
    for parameter in backbone.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return backbone


def by_hand(x: torch.Tensor, adapter: ParallelAdapter, scale: float) -> torch.Tensor:
    hidden = (x @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    return scale * (hidden @ adapter.up.weight.T + adapter.up.bias)


@torch.no_grad()
def test_a_timm_block_follows_the_formula():
    backbone = build_vit("test_vit", "random", 32).eval()
    shake(inject_adapters(backbone.blocks, bottleneck=7, scale=0.3))
    trained(backbone).double()
    for block in backbone.blocks:
        x = torch.randn(2, 5, 64, dtype=torch.float64)
        middle = x + block.ls1(block.attn(block.norm1(x)))
        expected = middle + block.ls2(block.mlp(block.norm2(middle))) + by_hand(middle, block.adapter, 0.3)
        torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_an_open_clip_block_follows_the_formula():
    backbone = build_clip("tiny_clip", "random").eval()
    shake(inject_adapters(backbone.blocks, bottleneck=9, scale=0.7))
    trained(backbone).double()
    for block in backbone.blocks:
        x = torch.randn(2, 6, 128, dtype=torch.float64)
        normed = block.ln_1(x)
        middle = x + block.attn(normed, normed, normed, need_weights=False)[0]
        expected = middle + block.mlp(block.ln_2(middle)) + by_hand(middle, block.adapter, 0.7)
        torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_fresh_adapters_change_no_bit(backbone):
    batch = images(backbone)
    before = {mode: backbone.train(mode)(batch) for mode in (True, False)}
    inject_adapters(backbone.blocks)
    for mode, features in before.items():  # dropout acts on what is multiplied with zeros
        assert torch.equal(backbone.train(mode)(batch), features)


def test_the_librarys_names_stay_and_each_block_has_its_group(backbone):
    before = [name for name, _ in backbone.named_parameters()]
    groups = inject_adapters(backbone.blocks, bottleneck=8)
    after = dict(backbone.named_parameters())
    new = [name for name in after if name not in before]
    assert [name for name in after if name in before] == before
    assert len(groups) == len(backbone.blocks) == len(new) / 4
    for block, group in zip(backbone.blocks, groups, strict=True):
        assert {id(parameter) for parameter in group} == {id(parameter) for parameter in block.adapter.parameters()}
    parts = ("down.weight", "down.bias", "up.weight", "up.bias")
    assert all(name.rpartition(".adapter.")[2] in parts and ".adapter." in name for name in new)


@torch.no_grad()
def test_a_copy_is_independent(backbone):
    groups = inject_adapters(backbone.blocks, bottleneck=4)
    shake(groups)
    batch = images(backbone)
    before = backbone(batch)
    twin = copy.deepcopy(backbone)
    assert torch.equal(twin(batch), before)
    for block in twin.blocks:
        block.adapter.up.weight.mul_(3)
    assert torch.equal(backbone(batch), before)
    changed = twin(batch)
    assert not torch.equal(changed, before)
    for block in backbone.blocks:
        block.adapter.up.weight.mul_(3)
    assert torch.equal(backbone(batch), changed)


def test_only_adapters_get_gradients_and_no_activation_is_kept(backbone):
    backbone.requires_grad_(False)
    groups = inject_adapters(backbone.blocks, bottleneck=4)
    shake(groups)
    backbone(images(backbone)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for group in groups for parameter in group)
    assert {name for name, p in backbone.named_parameters() if p.grad is not None} == {
        name for name, _ in backbone.named_parameters() if ".adapter." in name
    }
    assert all(block.adapter._input is None for block in backbone.blocks)


def test_initial_values():
    torch.manual_seed(0)
    adapter = ParallelAdapter(100, bottleneck=400)
    bound = 1 / 100**0.5  # Kaiming-uniform with a = √5: √(6 / ((1 + 5) · fan_in))
    weight = adapter.down.weight
    assert weight.abs().max() <= bound
    assert weight.abs().max() > 0.99 * bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not any(value.any() for value in (adapter.down.bias, adapter.up.weight, adapter.up.bias))
    assert (adapter.scale, adapter.dropout) == (0.1, 0.1)


@torch.no_grad()
def test_dropout_lies_between_the_layers_and_only_in_training():
    adapter = ParallelAdapter(6, bottleneck=50, scale=1.0, dropout=0.4).double()
    shake([adapter.parameters()])
    x = torch.randn(3, 6, dtype=torch.float64)
    hidden = (x @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    torch.manual_seed(5)
    mask = F.dropout(torch.ones_like(hidden), 0.4)
    assert set(mask.unique().tolist()) == {0.0, 1 / 0.6}
    torch.manual_seed(5)
    torch.testing.assert_close(adapter.train()(x), (hidden * mask) @ adapter.up.weight.T + adapter.up.bias)
    torch.testing.assert_close(adapter.eval()(x), hidden @ adapter.up.weight.T + adapter.up.bias)


@pytest.mark.parametrize("kind", [ResPostBlock, ParallelScalingBlock])
def test_blocks_without_a_norm_before_the_mlp_are_refused(kind):
    net = VisionTransformer(img_size=16, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=0, block_fn=kind)
    with pytest.raises(WeightsError, match=rf"{kind.__name__}.*pre-norm"):
        inject_adapters(VitBackbone(net, TINY_PREPROCESS).blocks)


# the text tower


@pytest.mark.parametrize("name", ["tiny_clip", "lit:test_vit"])
@torch.no_grad()
def test_adapters_in_the_text_tower_follow_the_formula(name, small_lit):
    torch.manual_seed(0)
    backbone = build_clip(name, "random", 32 if name != "tiny_clip" else None).eval()
    texts = ["a car", "a photo of a red Veltro Comet from the side"]
    before = backbone.encode_text(texts)
    groups = inject_adapters(backbone.text_blocks, 4, 0.5, 0.0)
    assert len(groups) == len(backbone.text_blocks) > 0
    assert torch.equal(backbone.encode_text(texts), before)  # a fresh adapter adds nothing
    shake(groups)
    block, seen = backbone.text_blocks[0], {}
    block.ln_2.register_forward_pre_hook(lambda norm, inputs: seen.update(entering=inputs[0]))
    block.register_forward_hook(lambda module, inputs, output: seen.update(leaving=output))
    after = backbone.encode_text(texts)
    x = seen["entering"]
    expected = x + block.mlp(block.ln_2(x)) + by_hand(x, block.adapter, 0.5)
    torch.testing.assert_close(seen["leaving"], expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-3)


def test_a_text_tower_of_another_make_is_refused():
    backbone = build_clip("tiny_clip", "random")
    backbone.net.transformer = torch.nn.Identity()
    with pytest.raises(WeightsError, match="the text tower \\(CLIP\\) has no transformer blocks"):
        backbone.text_blocks  # noqa: B018
