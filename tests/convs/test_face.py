"""The face transformer: the published forward written out plainly, its checkpoints, and what is refused."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from convs.adapter import inject_adapters
from convs.backbone import Preprocess
from convs.face import SHAPES, Shape, build_face
from convs.factory import build_backbone
from convs.lora import ffn_layers, inject_lora
from convs.names import FACES, describe
from utils.checkpoint import write_tensors
from utils.errors import WeightsError

SIDE = 112
NARROW = Shape(2, dim=64, heads=8)


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Two more face transformers, for tests: the published ones, but narrow and shallow."""
    monkeypatch.setitem(SHAPES, "face_narrow", NARROW)
    monkeypatch.setitem(SHAPES, "face_narrow_overlap", replace(NARROW, overlap=True))


def published(shape: Shape, seed: int = 0) -> dict[str, torch.Tensor]:
    """A random state dict with the names and shapes of the authors' model, a CosFace head of three classes on it."""
    dice, dim = torch.Generator().manual_seed(seed), shape.dim
    usual = 0.9 * dim**-0.5

    def draw(*size: int, spread: float = usual) -> torch.Tensor:
        return spread * torch.randn(*size, generator=dice)

    def norm(name: str) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": 1 + draw(dim, spread=0.2), f"{name}.bias": draw(dim, spread=0.2)}

    state = {
        "pos_embedding": draw(1, 197, dim, spread=1.0),
        "cls_token": draw(1, 1, dim, spread=1.0),
        "patch_to_embedding.weight": draw(dim, 3 * (144 if shape.overlap else 64)),
        "patch_to_embedding.bias": draw(dim),
    }
    for layer in range(shape.depth):
        attention, mlp = (f"transformer.layers.{layer}.{part}.fn" for part in (0, 1))
        state |= norm(f"{attention}.norm") | norm(f"{mlp}.norm")
        state |= {
            f"{attention}.fn.to_qkv.weight": draw(3 * dim, dim),
            f"{attention}.fn.to_out.0.weight": draw(dim, dim),
            f"{attention}.fn.to_out.0.bias": draw(dim),
            f"{mlp}.fn.net.0.weight": draw(4 * dim, dim),
            f"{mlp}.fn.net.0.bias": draw(4 * dim),
            f"{mlp}.fn.net.3.weight": draw(dim, 4 * dim),
            f"{mlp}.fn.net.3.bias": draw(dim),
        }
    return state | norm("mlp_head.0") | {"loss.weight": draw(3, dim)}


def plain_patches(images: torch.Tensor) -> torch.Tensor:
    """[B, 3, 112, 112] → [B, 196, 192]: patch by patch; in a patch row by row, the colours of a pixel together."""
    rows = []
    for top in range(0, SIDE, 8):
        for left in range(0, SIDE, 8):
            patch = images[:, :, top : top + 8, left : left + 8]
            rows.append(torch.stack([patch[:, c, y, x] for y in range(8) for x in range(8) for c in range(3)], 1))
    return torch.stack(rows, 1)


def overlapping_patches(images: torch.Tensor) -> torch.Tensor:
    """[B, 3, 112, 112] → [B, 196, 432]: windows of 12 pixels every 8, a border of 4 zeros; colour after colour."""
    padded = F.pad(images, (4, 4, 4, 4))
    windows = [padded[:, :, y : y + 12, x : x + 12].flatten(1) for y in range(0, SIDE, 8) for x in range(0, SIDE, 8)]
    return torch.stack(windows, 1)


def forward(state: dict[str, torch.Tensor], images: torch.Tensor, shape: Shape) -> torch.Tensor:
    """The published model in evaluation mode, from its description."""

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        spread = ((x - x.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True)
        x = (x - x.mean(-1, keepdim=True)) / (spread + 1e-5).sqrt()
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)

    def attend(name: str, x: torch.Tensor) -> torch.Tensor:
        query, key, value = linear(f"{name}.to_qkv", x).split(shape.dim, dim=-1)
        heads, width = [], shape.dim // shape.heads
        for head in range(shape.heads):
            one = slice(width * head, width * head + width)
            share = (query[..., one] @ key[..., one].transpose(1, 2) / math.sqrt(shape.dim)).softmax(-1)
            heads.append(share @ value[..., one])
        return linear(f"{name}.to_out.0", torch.cat(heads, -1))

    def think(name: str, x: torch.Tensor) -> torch.Tensor:
        hidden = linear(f"{name}.net.0", x)
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        return linear(f"{name}.net.3", hidden)

    x = linear("patch_to_embedding", (overlapping_patches if shape.overlap else plain_patches)(images))
    x = torch.cat([state["cls_token"].expand(len(images), 1, shape.dim), x], 1) + state["pos_embedding"]
    for layer in range(shape.depth):
        attention, mlp = (f"transformer.layers.{layer}.{part}.fn" for part in (0, 1))
        x = x + attend(f"{attention}.fn", norm(f"{attention}.norm", x))
        x = x + think(f"{mlp}.fn", norm(f"{mlp}.norm", x))
    return norm("mlp_head.0", x[:, 0])


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "fused"),
    [("face_vit_p8_d6", True), ("face_narrow", True), ("face_narrow", False), ("face_narrow_overlap", True)],
)
@torch.no_grad()
def test_a_published_checkpoint_computes_what_it_did(tmp_path, images, name, fused):
    state = published(SHAPES[name])
    torch.save(state, tmp_path / "faces.pth")
    backbone = build_face(name, str(tmp_path / "faces.pth")).eval()
    for block in backbone.blocks:
        block.attn.fused_attn = fused
    doubled = {key: value.double() for key, value in state.items()}
    expected = forward(doubled, images.double(), SHAPES[name])
    torch.testing.assert_close(backbone(images).double(), expected, atol=1e-5, rtol=1e-5)
    assert (backbone.preprocess.mean, backbone.preprocess.std) == ((0.0,) * 3, (1.0,) * 3)
    assert backbone.trained_heads == {}


def test_the_comparison_sees_a_wrong_scale_and_colours_in_another_order(images):
    state = {name: value.double() for name, value in published(NARROW).items()}
    usual = forward(state, images.double(), NARROW)
    query, patch = "transformer.layers.0.0.fn.fn.to_qkv.weight", "patch_to_embedding.weight"
    factors = torch.ones(3 * NARROW.dim, 1, dtype=torch.float64)
    factors[: NARROW.dim] = math.sqrt(NARROW.heads)  # as if divided by the root of the head's width
    colours = state[patch].view(NARROW.dim, 64, 3).mT.flatten(1)
    for other in ({query: factors * state[query]}, {patch: colours}):
        assert (forward(state | other, images.double(), NARROW) - usual).abs().max() > 1e-3


def test_the_names_beside_a_checkpoint_name_its_rows(tmp_path):
    state, file = published(NARROW), tmp_path / "faces.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, file)
    (tmp_path / "faces.txt").write_text("Ann\nBo\n\nCy Dee\n", encoding="utf-8")
    head = build_face("face_narrow", str(file)).trained_heads["fine"]
    assert head.names == ("Ann", "Bo", "Cy Dee") and torch.equal(head.rows, state["loss.weight"])
    torch.save(state | {"loss.bias": torch.arange(3.0)}, file)  # the plain softmax head is linear
    rows = build_face("face_narrow", str(file)).trained_heads["fine"].rows
    assert torch.equal(rows, torch.cat([state["loss.weight"], torch.tensor([[0.0], [1.0], [2.0]])], 1))
    torch.save(state, file)
    (tmp_path / "faces.txt").write_text("Ann\nBo\n", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"faces\.txt: 2 names for the 3 classifier rows of faces\.pth"):
        build_face("face_narrow", str(file))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("face_narrow", published(replace(NARROW, depth=3)), "does not fit.*blocks.2"),
        ("face_narrow_overlap", {}, "does not fit.*patch_embed.proj"),
        ("face_narrow", {"pos_embedding": torch.zeros(3)}, "does not fit"),
        ("face_narrow", {"transformer.layers.0.1.fn.fn.net.0.lora_A": torch.zeros(1)}, "holds LoRA"),
        ("face_narrow", {"transformer.layers.0.2.fn": torch.zeros(1)}, "does not fit.*layers.0.2.fn"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path, name, change, message):
    torch.save(published(NARROW) | change, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=message) as caught:
        build_face(name, str(tmp_path / "other.pth"))
    assert "other.pth" in str(caught.value) and "\n" not in str(caught.value)


def test_a_foreign_or_missing_file_is_refused(tmp_path):
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "foreign.pth")
    with pytest.raises(WeightsError, match=r"foreign\.pth: does not fit.*Missing key"):
        build_face("face_narrow", str(tmp_path / "foreign.pth"))
    with pytest.raises(WeightsError, match="no such weights file"):
        build_face("face_narrow", str(tmp_path / "missing.pth"))


def test_another_image_size_resamples_the_positions(tmp_path):
    state = published(NARROW)
    state["pos_embedding"][:] = torch.linspace(-1, 1, 64)  # the same everywhere: so must it be on any other grid
    torch.save(state, tmp_path / "faces.pth")
    backbone = build_face("face_narrow", str(tmp_path / "faces.pth"), 64)
    places = backbone.net.pos_embed[0]
    assert places.shape == (65, 64) and backbone.preprocess.size == 64
    torch.testing.assert_close(places, torch.linspace(-1, 1, 64).expand_as(places))


def test_every_name_is_listed_and_has_a_shape():
    assert FACES.keys() == {name for name in SHAPES if "narrow" not in name} and FACES.keys() <= describe().keys()
    depths = {name: shape.depth for name, shape in SHAPES.items()}
    assert depths["face_vit_p8_d18_overlap"] == 18 and depths["face_vit_p8_d12"] == 12
    assert {name for name, shape in SHAPES.items() if shape.overlap} == {
        name for name in SHAPES if "overlap" in name
    } | {"face_vit_small"}


@pytest.mark.parametrize("name", ["face_vit_p8_d6_overlap", "face_vit_small"])
@torch.no_grad()
def test_the_parts_that_adapters_and_lora_need(name):
    backbone = build_backbone(name, "random").eval()
    shape, look = SHAPES[name], backbone.preprocess
    assert (look.size, look.mean, look.std, look.crop_pct) == (shape.size, (0.5,) * 3, (0.5,) * 3, 1.0)
    assert len(backbone.blocks) == shape.depth and backbone.dim == shape.dim
    for block in backbone.blocks:
        assert block.attn.qkv.bias is None and block.attn.proj.bias is not None
        assert [layer.out_features for layer in ffn_layers(block)] == [4 * shape.dim, shape.dim]
        assert {block.attn.proj_drop.p, block.mlp.drop1.p, block.mlp.drop2.p} == {0.1}
    assert backbone.net.pos_drop.p == 0.1 and backbone.net.blocks[0].attn.attn_drop.p == 0.0
    batch = torch.rand(2, 3, shape.size, shape.size)
    before = backbone(batch)
    assert before.shape == (2, shape.dim)
    assert len(inject_adapters(backbone.blocks)) == len(inject_lora(backbone, 2)) == shape.depth
    torch.testing.assert_close(backbone(batch), before)


def test_rank_8_is_the_published_share():
    backbone = build_face("face_vit_p8_d6", "random")
    whole = sum(parameter.numel() for parameter in backbone.parameters())
    added = sum(parameter.numel() for group in inject_lora(backbone, 8) for parameter in group)
    assert 100 * added / whole == pytest.approx(1.28, abs=0.01)


@torch.no_grad()
def test_a_file_of_the_pretrain_learner_loads_back(tmp_path):
    torch.manual_seed(0)
    source = build_face("face_vit_small", "random").eval()
    tensors = {f"net.{name}": value for name, value in source.net.state_dict().items()}
    rows = torch.randn(2, source.dim)
    write_tensors(tmp_path / "face.safetensors", tensors | {"heads.fine": rows}, {"classes": '{"fine": ["a", "b"]}'})
    loaded = build_face("face_vit_small", str(tmp_path / "face.safetensors")).eval()
    batch = torch.rand(2, 3, 48, 48)
    assert torch.equal(loaded(batch), source(batch))
    assert loaded.trained_heads["fine"].names == ("a", "b") and torch.equal(loaded.trained_heads["fine"].rows, rows)
    assert loaded.preprocess.mean == (0.5,) * 3
    look = {"mean": [0.0] * 3, "std": [1.0] * 3, "crop_pct": 0.5, "interpolation": "bicubic"}
    write_tensors(tmp_path / "raw.safetensors", tensors, {"preprocess": json.dumps(look)})
    told = build_face("face_vit_small", str(tmp_path / "raw.safetensors")).preprocess
    assert told == Preprocess(loaded.preprocess.size, (0.0,) * 3, (1.0,) * 3, 0.5, "bicubic")
    with pytest.raises(WeightsError, match="does not fit"):
        build_face("face_narrow", str(tmp_path / "face.safetensors"))


@pytest.mark.parametrize(
    ("name", "weights", "img_size", "message"),
    [
        ("face_vit_small", None, None, "'face_vit_small' has no weights of its own to fetch; set 'weights' to a file"),
        ("face_vit_small", "random", 60, "img_size 60: .* multiple of 8"),
        ("face_vit_p8_d7", "random", None, "did you mean 'face_vit_p8_d6'"),
    ],
)
def test_what_cannot_be_built(name, weights, img_size, message):
    with pytest.raises(WeightsError, match=message):
        build_face(name, weights, img_size)
