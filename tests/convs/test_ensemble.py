"""Towers side by side, and copies of a tower."""

import pytest
import torch

from convs.adapter import inject_adapters
from convs.ensemble import Ensemble, Succession, adapted_twin, copied, twin
from convs.factory import build_backbone


@pytest.fixture(params=["tiny_vit", "tiny_clip"])
def tower(request):
    torch.manual_seed(0)
    return build_backbone(request.param, "random").eval()


@pytest.fixture
def images():
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_features_stand_side_by_side(tower, images):
    other = copied(tower)
    for parameter in other.parameters():
        parameter.mul_(1.1)
    pair = Ensemble((tower, other)).eval()
    assert pair.dim == 2 * tower.dim and pair.preprocess == tower.preprocess and pair.scale == tower.scale
    features = pair(images)
    assert torch.equal(features[:, : tower.dim], tower(images)) and torch.equal(features[:, tower.dim :], other(images))
    assert not torch.equal(tower(images), other(images))
    assert pair.blocks == tower.blocks + other.blocks


@torch.no_grad()
def test_a_copy_has_weights_of_its_own(tower, images):
    before, other = tower(images), copied(tower)
    assert torch.equal(other(images), before)
    for parameter in other.parameters():
        parameter.zero_()
    assert torch.equal(tower(images), before)


@torch.no_grad()
def test_a_twin_shares_the_weights_but_not_what_is_put_in(tower, images):
    before, other = tower(images), twin(tower)
    assert {id(p) for p in other.parameters()} == {id(p) for p in tower.parameters()}
    groups = inject_adapters(other.blocks, 4, 1.0, 0.0)
    assert torch.equal(other(images), before)
    for group in groups:
        for parameter in group:
            parameter.fill_(0.05)
    assert torch.equal(tower(images), before) and not torch.allclose(other(images), before)
    assert not [name for name, _ in tower.named_parameters() if "adapter" in name]
    pair = Ensemble((tower, other))
    counted = sum(p.numel() for p in pair.parameters())
    added = sum(p.numel() for group in groups for p in group)
    assert counted == sum(p.numel() for p in tower.parameters()) + added


@torch.no_grad()
def test_of_a_succession_the_last_tower_is_asked_and_all_can_be(tower, images):
    adapted, fresh = adapted_twin(tower, 4, 1.0, 0.0)
    for parameter in fresh:
        parameter.fill_(0.05)
    line = Succession((tower, adapted)).eval()
    assert line.dim == tower.dim and line.blocks == tower.blocks + adapted.blocks
    expected = [tower(images), adapted(images)]
    assert torch.equal(line(images), expected[1]) and not torch.allclose(*expected)
    assert torch.equal(line.views(images), torch.stack(expected, 1))


def test_an_adapted_twin_has_adapters_in_every_block_and_shares_the_rest(tower):
    adapted, fresh = adapted_twin(tower, 4, 0.5, 0.0)
    own = {id(parameter) for parameter in tower.parameters()}
    assert {id(p) for p in adapted.parameters()} - own == {id(p) for p in fresh}
    assert len(fresh) == 4 * len(tower.blocks) and not adapted.training
    assert all(block.adapter.scale == 0.5 for block in adapted.blocks)
