"""LoRA in blocks of all libraries, against the formula written out."""

import copy

import pytest
import torch
from timm.layers import SwiGLU
from timm.models import VisionTransformer
from timm.models.vision_transformer import Block
from torch import nn
from torchvision.models import VisionTransformer as TorchvisionTransformer

from convs.adapter import inject_adapters
from convs.clip_models import build_clip
from convs.lora import (
    LoRA,
    deltas,
    ffn_layers,
    inject_lora,
    lora_groups,
    lora_places,
    merge_lora,
    remove_lora,
)
from convs.torchvision_vit import TorchvisionBackbone
from convs.vit import TINY_PREPROCESS, VitBackbone, build_vit
from utils.errors import WeightsError


def torchvision_backbone() -> TorchvisionBackbone:
    return TorchvisionBackbone(TorchvisionTransformer(64, 16, 2, 4, 32, 64), TINY_PREPROCESS)


BACKBONES = {
    "timm": lambda: build_vit("test_vit", "random", 32),
    "open_clip": lambda: build_clip("tiny_clip", "random"),
    "open_clip over timm": lambda: build_clip("lit:test_vit", "random", 32),
    "torchvision": torchvision_backbone,
}


@pytest.fixture(params=BACKBONES, scope="module")
def built(request):
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "convs.clip_models.LIT_TEXT", {"context_length": 16, "vocab_size": 49408, "width": 16, "layers": 1}
        )
        return BACKBONES[request.param]().eval()


@pytest.fixture
def backbone(built):
    torch.manual_seed(0)
    return twin_of(built)


def twin_of(backbone):
    """A copy; the tokenizer, which takes longest to copy, is shared."""
    tokenizer = getattr(backbone, "tokenizer", None)
    return copy.deepcopy(backbone, {id(tokenizer): tokenizer})


def images(backbone, count: int = 2) -> torch.Tensor:
    size = backbone.preprocess.size
    kind = next(backbone.parameters()).dtype
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1)).to(kind)


def shake(groups) -> None:
    """LoRAs as training might leave them: nothing zero."""
    for group in groups:
        for parameter in group:
            nn.init.normal_(parameter, std=0.3)


def loras(backbone) -> list[LoRA]:
    return [module for module in backbone.modules() if isinstance(module, LoRA)]


@torch.no_grad()
def test_both_layers_of_every_mlp_follow_the_formula(backbone):
    shake(inject_lora(backbone, rank=3, alpha=6.0))
    backbone.double()
    for block in backbone.blocks:
        first, second = ffn_layers(block)
        x = torch.randn(2, 5, first.in_features, dtype=torch.float64)

        def layer(linear, x):
            return x @ linear.weight.T + linear.bias + 2.0 * x @ linear.lora.A.T @ linear.lora.B.T

        expected = layer(second, nn.functional.gelu(layer(first, x)))
        torch.testing.assert_close(block.mlp(x), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_lora_is_its_matrix_added_to_the_weight(backbone):
    twin = twin_of(backbone).double()
    shake(inject_lora(backbone, rank=5, alpha=2.0))
    backbone.double()
    plain = twin(images(twin))
    for block, other in zip(backbone.blocks, twin.blocks, strict=True):
        for layer, changed in zip(ffn_layers(block), ffn_layers(other), strict=True):
            matrix = sum(torch.outer(layer.lora.B[:, i], layer.lora.A[i]) for i in range(5)) * 2.0 / 5
            torch.testing.assert_close(layer.lora.weight(), matrix)
            changed.weight += matrix
    torch.testing.assert_close(backbone(images(backbone)), twin(images(twin)), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(backbone(images(backbone)), plain, rtol=1e-3)


@torch.no_grad()
def test_fresh_loras_change_no_bit(backbone):
    batch = images(backbone)
    before = {mode: backbone.train(mode)(batch) for mode in (True, False)}
    inject_lora(backbone)
    for mode, features in before.items():
        assert torch.equal(backbone.train(mode)(batch), features)


def test_the_librarys_names_stay_and_each_block_has_its_group(backbone):
    before = [name for name, _ in backbone.named_parameters()]
    groups = inject_lora(backbone, rank=4)
    after = dict(backbone.named_parameters())
    new = {name: parameter for name, parameter in after.items() if name not in before}
    assert [name for name in after if name in before] == before
    assert len(groups) == len(backbone.blocks) == len(new) / 4
    for block, group in zip(backbone.blocks, groups, strict=True):
        first, second = ffn_layers(block)
        own = [first.lora.A, first.lora.B, second.lora.A, second.lora.B]
        assert [id(parameter) for parameter in group] == [id(parameter) for parameter in own]
        width = first.in_features
        assert [list(parameter.shape) for parameter in group] == [
            [4, width],
            [first.out_features, 4],
            [4, first.out_features],
            [width, 4],
        ]
    for name in new:  # the names that a written file is made from
        place, _, letter = name.rpartition(".lora.")
        assert letter in "AB" and f"{place}.weight" in before


def test_initial_values_and_scale():
    torch.manual_seed(0)
    lora = LoRA(100, 7, rank=400)
    bound = 1 / 100**0.5  # Kaiming-uniform with a = √5: √(6 / ((1 + 5) · fan_in))
    assert lora.A.abs().max() <= bound and lora.A.abs().max() > 0.99 * bound
    assert lora.A.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not lora.B.any() and lora.scale == 1 / 400
    assert LoRA(4, 4).scale == 1 / 8  # GS-LoRA's ΔW = BA/8
    with pytest.raises(ValueError, match="at least 1, got 0"):
        LoRA(4, 4, rank=0)


def test_only_loras_get_gradients_where_the_rest_is_frozen(backbone):
    backbone.requires_grad_(False)
    groups = inject_lora(backbone, rank=4)
    shake(groups)
    total = backbone(images(backbone)).square().sum()
    names = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    assert len(names) == 4 * len(groups) and all(".lora." in name for name in names)
    slopes = torch.autograd.grad(total, [parameter for group in groups for parameter in group])
    assert all(slope.isfinite().all() and slope.any() for slope in slopes)


def test_at_the_start_only_b_has_a_gradient(backbone):
    groups = inject_lora(backbone)
    total = backbone(images(backbone)).square().sum()
    for group in groups:
        slopes = torch.autograd.grad(total, group, retain_graph=True)
        assert [bool(slope.any()) for slope in slopes] == [False, True, False, True]


@torch.no_grad()
def test_a_copy_is_independent(backbone):
    shake(inject_lora(backbone, rank=4))
    batch = images(backbone)
    before = backbone(batch)
    twin = twin_of(backbone)
    assert torch.equal(twin(batch), before)
    for lora in loras(twin):
        lora.B.mul_(3)
    assert torch.equal(backbone(batch), before)
    changed = twin(batch)
    assert not torch.equal(changed, before)
    for lora in loras(backbone):
        lora.B.mul_(3)
    assert torch.equal(backbone(batch), changed)


# merging


@torch.no_grad()
def test_merging_moves_the_loras_into_the_weights(backbone):
    shake(inject_lora(backbone, rank=4, alpha=2.0))
    backbone.double()
    before = {name: parameter.clone() for name, parameter in backbone.named_parameters()}
    features = backbone(images(backbone))
    merge_lora(backbone)
    torch.testing.assert_close(backbone(images(backbone)), features, rtol=1e-9, atol=1e-9)
    for lora in loras(backbone):
        assert not lora.B.any() and lora.A.any() and lora.A.abs().max() <= lora.A.shape[1] ** -0.5
    for name, parameter in backbone.named_parameters():
        layer = name.removesuffix(".weight")
        if f"{layer}.lora.A" in before:
            added = before[f"{layer}.lora.B"] @ before[f"{layer}.lora.A"] * 2.0 / 4
            torch.testing.assert_close(parameter, before[name] + added)
        elif ".lora." in name:
            assert not torch.equal(parameter, before[name])
        else:
            assert torch.equal(parameter, before[name])


@torch.no_grad()
def test_merged_loras_can_be_trained_and_merged_again(backbone):
    groups = inject_lora(backbone, rank=2)
    shake(groups)
    backbone.double()
    merge_lora(backbone)
    first, _ = ffn_layers(backbone.blocks[0])
    once, parameters = first.weight.clone(), [parameter for group in groups for parameter in group]
    own = [parameter for lora in loras(backbone) for parameter in (lora.A, lora.B)]
    assert [id(parameter) for parameter in parameters] == [id(parameter) for parameter in own]
    merge_lora(backbone)  # nothing learned since
    assert torch.equal(first.weight, once)
    first.lora.B.fill_(1.0)
    expected = once + first.lora.A.sum(0) / 2
    merge_lora(backbone)
    torch.testing.assert_close(first.weight, expected)


@torch.no_grad()
def test_merging_without_loras_changes_nothing(backbone):
    before = [parameter.clone() for parameter in backbone.parameters()]
    merge_lora(backbone)
    assert all(map(torch.equal, before, backbone.parameters()))


@torch.no_grad()
def test_loras_and_adapters_stand_side_by_side(backbone):
    plain = backbone(images(backbone))
    shake(inject_adapters(backbone.blocks, bottleneck=4))
    with_adapters = backbone(images(backbone))
    shake(inject_lora(backbone, rank=4))
    both = backbone(images(backbone))
    merge_lora(backbone)
    torch.testing.assert_close(backbone(images(backbone)), both, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(plain, with_adapters, rtol=1e-2) and not torch.allclose(with_adapters, both, rtol=1e-2)


def test_blocks_without_two_linear_layers_are_refused_and_left_alone():
    net = VisionTransformer(img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0)
    net.blocks[1] = Block(16, 2, mlp_layer=SwiGLU)
    backbone = VitBackbone(net, TINY_PREPROCESS)
    with pytest.raises(WeightsError, match=r"Block.*two linear layers"):
        inject_lora(backbone)
    assert not loras(backbone)


# beside the attention


def joint_weights(backbone) -> list[nn.Parameter]:
    """The weights of queries, keys and values, by the names that the libraries give them."""
    found = []
    for block in backbone.blocks:
        parameters = dict(block.named_parameters())
        names = [name for name in parameters if name.endswith(("attn.qkv.weight", ".in_proj_weight"))]
        assert len(names) == 1
        found.append(parameters[names[0]])
    return found


@pytest.mark.parametrize("mode", ["train", "eval", "eval with gradients"])
def test_an_attentions_lora_is_its_matrix_added_to_the_joint_weight(backbone, mode):
    backbone.train(mode == "train")
    twin = twin_of(backbone).double()
    shake(inject_lora(backbone, rank=5, alpha=2.0, position="attention"))
    backbone.double()
    with torch.set_grad_enabled(mode != "eval"):  # without gradients torch's attention takes a fused kernel
        plain = twin(images(twin))
        for place, weight in zip(lora_places(backbone), joint_weights(twin), strict=True):
            matrix = sum(torch.outer(place.lora.B[:, i], place.lora.A[i]) for i in range(5)) * 2.0 / 5
            torch.testing.assert_close(place.lora.weight(), matrix)
            weight.data += matrix.detach()
        torch.testing.assert_close(backbone(images(backbone)), twin(images(twin)), rtol=1e-9, atol=1e-9)
        assert not torch.allclose(backbone(images(backbone)), plain, rtol=1e-3)


@torch.no_grad()
def test_fresh_loras_of_attentions_change_nothing_and_no_name(backbone):
    batch, names = images(backbone), [name for name, _ in backbone.named_parameters()]
    before = {mode: backbone.train(mode)(batch) for mode in (True, False)}
    groups = inject_lora(backbone, rank=3, position="attention")
    for mode, features in before.items():  # the same sums, on weights that may lie otherwise in memory
        torch.testing.assert_close(backbone.train(mode)(batch), features, rtol=1e-5, atol=1e-5)
    after = [name for name, _ in backbone.named_parameters()]
    assert [name for name in after if ".lora." not in name] == names
    new = {name for name in after if ".lora." in name}
    assert len(new) == 2 * len(backbone.blocks) and new == set(backbone.state_dict()) & new
    for group, weight in zip(groups, joint_weights(backbone), strict=True):
        out, width = weight.shape
        assert [list(matrix.shape) for matrix in group] == [[3, width], [out, 3]] and out == 3 * width


def test_only_an_attentions_loras_get_gradients_where_the_rest_is_frozen(backbone):
    backbone.requires_grad_(False)
    groups = inject_lora(backbone, rank=4, position="attention")
    shake(groups)
    weights = joint_weights(backbone)
    total = backbone(images(backbone)).square().sum()
    slopes = torch.autograd.grad(total, [parameter for group in groups for parameter in group])
    assert all(slope.isfinite().all() and slope.any() for slope in slopes)
    assert all(
        now is then and not now.requires_grad for now, then in zip(joint_weights(backbone), weights, strict=True)
    )


@torch.no_grad()
def test_a_copy_with_loras_beside_attentions_is_independent(backbone):
    shake(inject_lora(backbone, rank=4, position="attention"))
    batch = images(backbone)
    before, twin = backbone(batch), twin_of(backbone)
    torch.testing.assert_close(twin(batch), before, rtol=1e-5, atol=1e-5)
    for lora in loras(twin):
        lora.B.mul_(3)
    torch.testing.assert_close(backbone(batch), before, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(twin(batch), before, rtol=1e-2)
    remove_lora(twin)
    torch.testing.assert_close(backbone(batch), before, rtol=1e-5, atol=1e-5)
    assert loras(backbone) and not loras(twin)


@torch.no_grad()
def test_a_forward_that_fails_leaves_the_weights_in_their_place(backbone):
    inject_lora(backbone, position="attention")
    weights = joint_weights(backbone)
    block, batch = backbone.blocks[0], images(backbone)
    attention = getattr(block, "attn", None) or block.self_attention
    with pytest.raises(TypeError):
        attention(batch, no_such_option=True)
    assert all(now is then for now, then in zip(joint_weights(backbone), weights, strict=True))
    backbone(batch)
    assert all(now is then for now, then in zip(joint_weights(backbone), weights, strict=True))


@pytest.mark.parametrize("position", ["ffn", "attention"])
@torch.no_grad()
def test_merging_and_removing_leave_what_was_learned_and_the_librarys_own_names(backbone, position):
    names, batch = list(backbone.state_dict()), images(backbone)
    shake(inject_lora(backbone, rank=2, position=position))
    trained = backbone(batch)
    merge_lora(backbone)
    torch.testing.assert_close(backbone(batch), trained, rtol=1e-4, atol=1e-5)
    shake(lora_groups(backbone).values())
    remove_lora(backbone)  # what was not merged goes with them
    torch.testing.assert_close(backbone(batch), trained, rtol=1e-4, atol=1e-5)
    assert list(backbone.state_dict()) == names and lora_places(backbone) == []
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())


@torch.no_grad()
def test_other_deltas_are_merged_in_the_place_of_the_loras_own(backbone):
    shake(inject_lora(backbone, rank=2))
    own = deltas(backbone)
    for delta, place in zip(own, lora_places(backbone), strict=True):
        torch.testing.assert_close(delta, place.lora.B @ place.lora.A / 2)
    before = [place.weight.clone() for place in lora_places(backbone)]
    given = [torch.full_like(delta, float(number)) for number, delta in enumerate(own)]
    with pytest.raises(ValueError, match=f"{len(given) - 1} deltas for {len(given)} LoRAs"):
        merge_lora(backbone, given[1:])
    merge_lora(backbone, given)
    for number, (place, weight) in enumerate(zip(lora_places(backbone), before, strict=True)):
        torch.testing.assert_close(place.weight.data, weight + number)
        assert not place.lora.B.any()


def test_groups_by_block_by_layer_and_by_matrix(backbone):
    inject_lora(backbone, rank=2)
    first, second = ffn_layers(backbone.blocks[1])
    own = [first.lora.A, first.lora.B, second.lora.A, second.lora.B]
    layers = next(
        pair for pair in (("fc1", "fc2"), ("c_fc", "c_proj"), ("0", "3")) if hasattr(backbone.blocks[1].mlp, pair[0])
    )
    counts = {"block": 1, "lora": 2, "matrix": 4}
    for kind, count in counts.items():
        groups = lora_groups(backbone, kind)
        assert len(groups) == count * len(backbone.blocks)
        names = {
            "block": ["block 1"],
            "lora": [f"block 1 mlp.{layer}" for layer in layers],
            "matrix": [f"block 1 mlp.{layer} {letter}" for layer in layers for letter in "AB"],
        }[kind]
        assert list(groups)[count : 2 * count] == names
        found = [[id(parameter) for parameter in groups[name]] for name in names]
        size = 4 // count
        assert found == [[id(parameter) for parameter in own[i : i + size]] for i in range(0, 4, size)]
    with pytest.raises(ValueError, match="block, lora, matrix, got 'layer'"):
        lora_groups(backbone, "layer")


def test_the_places_name_the_weights_as_the_net_does(backbone):
    inject_lora(backbone, position="attention")
    parameters = dict(backbone.net.named_parameters())
    for number, place in enumerate(lora_places(backbone)):
        assert place.block == number and parameters[place.name] is place.weight
    with pytest.raises(ValueError, match="ffn, attention, got 'mlp'"):
        inject_lora(backbone, position="mlp")


def test_attentions_without_a_joint_weight_are_refused_and_left_alone():
    net = VisionTransformer(img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0)
    net.blocks[1].attn.qkv = nn.Sequential(nn.Linear(16, 48))
    backbone = VitBackbone(net, TINY_PREPROCESS)
    with pytest.raises(WeightsError, match=r"Block.*no joint weight.*'lora_pos' to \"ffn\""):
        inject_lora(backbone, position="attention")
    assert not loras(backbone)


@torch.no_grad()
def test_a_weight_that_is_read_without_calling_its_layer_has_its_lora_too():
    torch.manual_seed(0)
    backbone = build_vit("beit_base_patch16_224", "random").eval()  # timm passes qkv.weight and a bias of two halves
    del backbone.net.blocks[1:]
    batch = images(backbone)
    before = backbone(batch)
    shake(inject_lora(backbone, rank=4, position="attention"))
    after = backbone(batch)
    merge_lora(backbone)
    assert not torch.allclose(after, before, atol=1e-2)
    torch.testing.assert_close(backbone(batch), after, rtol=1e-4, atol=1e-5)
