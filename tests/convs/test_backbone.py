"""A backbone that begins anew: nothing pre-trained is left, and what is drawn is what its library draws.

And one cut in two below the first block that is tuned: together the parts are the whole, bit for bit.
"""

from pathlib import Path

import pytest
import torch

from convs.adapter import inject_adapters
from convs.clip import ClipBackbone
from convs.factory import build_backbone
from convs.lora import inject_lora, lora_places
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


@torch.no_grad()
@pytest.mark.parametrize("name", ["tiny_vit", "tiny_clip"])
def test_eight_bits_are_normalised_as_the_weights_were_made_for(name):
    backbone = build_backbone(name, "random").eval()
    look, side = backbone.preprocess, backbone.preprocess.size
    images = torch.randint(256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values, dtype=torch.double)[:, None, None] for values in (look.mean, look.std))
    by_hand = (images.double() / 255 - mean) / std
    torch.testing.assert_close(look.normalised(images).double(), by_hand, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(backbone(images), backbone(by_hand.float()), rtol=1e-4, atol=1e-5)
    assert look.normalised(by_hand) is by_hand


# what is below the first tuned block

SPLIT = ("tiny_vit", "test_vit", "tiny_clip", "lit:test_vit")


def tuned(name: str, blocks: int | None = 1, put=inject_adapters):
    """A frozen backbone with adapters or LoRA that change something, in training mode."""
    torch.manual_seed(1)
    backbone = build_backbone(name, "random").requires_grad_(False).train()
    backbone.tune_blocks = blocks
    for group in put(backbone.tuned, dropout=0.0) if put is inject_adapters else put(backbone):
        for parameter in group:
            torch.nn.init.normal_(parameter, std=0.3)
    return backbone


def pixels(backbone) -> torch.Tensor:
    """Of eight bits, as a data set streams them."""
    shape = (3, 3, *[backbone.preprocess.size] * 2)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("put", [inject_adapters, inject_lora])
@pytest.mark.parametrize("name", SPLIT)
def test_both_parts_are_the_whole(name, put, half, small_lit):
    backbone = tuned(name, put=put)
    backbone.half = half
    images, entered = pixels(backbone), []
    backbone.tuned[0].register_forward_pre_hook(lambda block, inputs: entered.append(inputs[0]))
    whole = backbone(images)
    hidden = backbone.prefix(images)
    assert torch.equal(hidden, entered[0]) and hidden.dim() == 3
    assert torch.equal(backbone.resume(hidden), whole) and torch.equal(backbone(hidden), whole)
    assert backbone(hidden).dtype is torch.float32 and backbone.prefix_state() is not None


@pytest.mark.parametrize("put", [inject_adapters, inject_lora])
@pytest.mark.parametrize("name", ["tiny_vit", "tiny_clip"])
def test_only_the_last_blocks_take_something(name, put):
    backbone = tuned(name, 3, put)
    named = {name for name, value in backbone.named_parameters() if ".adapter." in name or ".lora." in name}
    assert {part for name in named for part in name.split(".") if part.isdigit()} == {"1", "2", "3"}
    assert [place.block for place in lora_places(backbone)] == ([1, 1, 2, 2, 3, 3] if put is inject_lora else [])


def test_of_a_text_tower_as_many():
    backbone = build_backbone("tiny_clip", "random")
    assert len(backbone.tuned_text) == 3 and len(backbone.tuned) == 4
    backbone.tune_blocks = 2
    assert backbone.tuned_text == backbone.text_blocks[1:] and backbone.tuned == backbone.blocks[2:]


def learning(backbone):
    backbone.blocks[0].norm1.weight.requires_grad_(True)


def at_random(backbone):
    backbone.net.pos_drop.p = 0.1


CHANGES = {
    "all blocks are tuned": lambda backbone: setattr(backbone, "tune_blocks", None),
    "something below learns": learning,
    "something below is drawn": at_random,
    "activations are computed again": lambda backbone: backbone.checkpoint_activations(),
    "compiled": lambda backbone: backbone.compile(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_where_there_is_no_prefix_to_rely_on(change):
    backbone = tuned("tiny_vit")
    CHANGES[change](backbone)
    assert backbone.prefix_state() is None


@pytest.mark.parametrize("name", ["face_vit_small", "eva02_tiny_patch14_224"])
def test_towers_that_drop_or_do_more_than_hand_on_tokens_have_none(name):
    backbone = build_backbone(name, "random").requires_grad_(False)
    backbone.tune_blocks = 1
    assert backbone.prefix_state() is None


@torch.no_grad()
def test_the_state_follows_the_weights_below_alone():
    backbone = tuned("tiny_clip", 2)
    before = backbone.prefix_state()
    for untouched in (backbone.blocks[2].adapter.up.weight, backbone.text_blocks[0].ln_1.weight):
        untouched.add_(1)
    assert isinstance(backbone, ClipBackbone) and backbone.prefix_state() == before
    backbone.blocks[1].ln_1.weight.add_(1)
    changed = backbone.prefix_state()
    assert changed != before
    backbone.load_state_dict({name: value.clone() for name, value in backbone.state_dict().items()})
    assert backbone.prefix_state() != changed
