"""A backbone that begins anew: nothing pre-trained is left, and what is drawn is what its library draws."""

from pathlib import Path

import pytest
import torch

from convs.factory import build_backbone
from utils.errors import WeightsError

# timm's, the face transformer's, open_clip's and a locked image tower's
NAMES = ("tiny_vit", "test_vit", "face_vit_small", "tiny_clip", "lit:test_vit")


@torch.no_grad()
def scarred(name: str):
    """A backbone of which every number says that it was trained."""
    torch.manual_seed(1)
    backbone = build_backbone(name, "random")
    for value in backbone.state_dict().values():
        if value.is_floating_point():
            value.copy_(7 + torch.rand(value.shape))
    return backbone


@pytest.mark.parametrize("name", NAMES)
def test_no_trained_number_survives(name, small_lit):
    backbone = scarred(name)
    before = {key: value.clone() for key, value in backbone.state_dict().items() if value.is_floating_point()}
    names, modules = list(backbone.state_dict()), list(backbone.modules())
    backbone.reset()
    after = backbone.state_dict()
    assert list(after) == names and all(map(lambda a, b: a is b, backbone.modules(), modules))
    assert len(before) > 10 and all((after[key] != value).all() for key, value in before.items())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_is_spread_as_in_a_new_one(name, small_lit):
    backbone = scarred(name)
    backbone.reset()
    torch.manual_seed(2)
    found, fresh = backbone.state_dict(), build_backbone(name, "random").state_dict()
    for key, value in fresh.items():
        value, own = value.float(), found[key].float()
        if value.numel() < 2 or value.std() == 0:
            assert torch.equal(own, value), key  # what starts at a constant
        elif value.numel() > 1000:
            assert own.std().item() == pytest.approx(value.std().item(), rel=0.1), key
            assert abs(own.mean() - value.mean()) < 0.2 * value.std(), key
            assert not torch.equal(own, value), key


def test_the_draw_follows_the_seed():
    ends = []
    for _ in range(2):
        backbone = scarred("tiny_vit")
        torch.manual_seed(5)
        backbone.reset()
        ends.append(backbone.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


def test_the_size_of_the_input_stays():
    backbone = build_backbone("test_vit", "random", 64)
    backbone.reset()
    assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, backbone.dim)
    assert backbone.rebuilt("random").preprocess.size == 64


def test_other_weights_of_the_same_tower(tmp_path):
    backbone = build_backbone("tiny_vit", "random")
    shipped = Path("convs/weights/tiny_vit.safetensors")
    other = backbone.rebuilt(str(Path(__file__).resolve().parents[2] / shipped))
    assert set(other.trained_heads) == {"fine", "coarse"} and not backbone.trained_heads
    assert other.state_dict().keys() == backbone.state_dict().keys()
    with pytest.raises(WeightsError, match="no such weights file"):
        backbone.rebuilt(str(tmp_path / "none.safetensors"))
