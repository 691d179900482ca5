"""How a tower computes: in bfloat16, with its activations computed twice, compiled; what it says stays the same."""

import shutil

import pytest
import torch

from convs.adapter import inject_adapters
from convs.clip import ClipBackbone
from convs.factory import build_backbone

NAMES = ("tiny_vit", "face_vit_small", "tiny_clip", "lit:test_vit")


def built(name: str):
    torch.manual_seed(0)
    return build_backbone(name, "random").eval()


def pixels(backbone, count: int = 2) -> torch.Tensor:
    size = backbone.preprocess.size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_towers_give_single_precision_features_close_to_the_others(name, small_lit):
    backbone = built(name)
    images = pixels(backbone)
    exact = backbone(images)
    backbone.half = True
    rounded = backbone(images)
    assert rounded.dtype is torch.float32 and not torch.equal(rounded, exact)
    assert torch.cosine_similarity(rounded, exact).min() > 0.999
    if isinstance(backbone, ClipBackbone):
        backbone.half = False
        exact = backbone.encode_text(["a car"])
        backbone.half = True
        rounded = backbone.encode_text(["a car"])
        assert rounded.dtype is torch.float32 and torch.cosine_similarity(rounded, exact).min() > 0.999


def gradients(backbone) -> dict[str, torch.Tensor]:
    """Of what moves, in training mode, the loss being a fixed function of the features."""
    backbone.train()
    backbone(pixels(backbone)).square().mean().backward()
    return {name: value.grad.clone() for name, value in backbone.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("adapters", [False, True], ids=["all moves", "adapters move"])
@pytest.mark.parametrize("name", NAMES)
def test_activations_computed_twice_give_the_same_gradients(name, adapters, small_lit):
    found = []
    for twice in (False, True):
        backbone = built(name)
        if adapters:
            backbone.requires_grad_(False)
            groups = inject_adapters(backbone.blocks, 4, 1.0, 0.0)
            for parameter in (parameter for group in groups for parameter in group):
                torch.nn.init.constant_(parameter.requires_grad_(True), 0.01)
        if twice:
            backbone.checkpoint_activations()
        found.append(gradients(backbone))
    assert found[0] and found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, msg=key)


def test_less_is_kept_for_the_backward_pass():
    kept = []
    for twice in (False, True):
        backbone, sizes = built("tiny_vit").train(), []
        if twice:
            backbone.checkpoint_activations()
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            backbone(pixels(backbone, 8))
        kept.append(sum(sizes))
    assert kept[1] < 0.4 * kept[0]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++, which is not here")
def test_a_compiled_tower_says_the_same():
    backbone = built("tiny_vit")
    images, names = pixels(backbone), list(backbone.state_dict())
    exact = backbone(images)
    backbone.compile()
    torch.testing.assert_close(backbone(images), exact, rtol=1e-4, atol=1e-5)
    assert list(backbone.state_dict()) == names
