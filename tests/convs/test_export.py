"""Models as other libraries' files: towers by their libraries' names, heads by their formulas, LoRAs as factors."""

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from convs.adapter import inject_adapters
from convs.export import lora_layers, make_plain, write_heads, write_open_clip, write_timm
from convs.factory import build_backbone
from convs.lora import inject_lora, lora_places, merge_lora
from utils.errors import ConfigError, WeightsError

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def with_lora(name: str, size: int | None = 32, **options):
    """A tower of random weights, its LoRAs not zero."""
    backbone = build_backbone(name, "random", size).requires_grad_(False).eval()
    inject_lora(backbone, 2, **options)
    for place in lora_places(backbone):
        torch.nn.init.normal_(place.lora.B, std=0.1)
    return backbone.requires_grad_(False)


@pytest.mark.parametrize("position", ["ffn", "attention"])
def test_a_tower_of_timm_with_its_loras_merged(tmp_path, position):
    backbone = with_lora("vit_tiny_patch16_224", position=position)
    before = backbone(IMAGES)
    make_plain(backbone, "timm")
    assert not lora_places(backbone)
    write_timm(backbone, tmp_path)
    read = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.allclose(read(IMAGES), before, atol=1e-4)
    look = timm.data.resolve_model_data_config(read)
    assert (look["input_size"], list(look["mean"]), look["crop_pct"]) == ((3, 32, 32), [0.5, 0.5, 0.5], 0.875)


def test_a_locked_tower_with_its_text_tower(tmp_path, small_lit):
    backbone, images = with_lora("lit:vit_tiny_patch16_224", None), torch.randn(2, 3, 224, 224)
    before, text = backbone(images), backbone.encode_text(["a cat", "a dog"])
    make_plain(backbone, "open_clip")
    write_open_clip(backbone, tmp_path)
    folder = f"local-dir:{tmp_path}"
    read = open_clip.create_model(folder).eval()
    assert torch.allclose(read.encode_image(images), before, atol=1e-4)
    assert torch.allclose(read.encode_text(open_clip.get_tokenizer(folder)(["a cat", "a dog"])), text, atol=1e-5)


def test_a_size_that_the_library_cannot_set_is_refused(tmp_path, small_lit):
    with pytest.raises(WeightsError, match="open_clip cannot read this model back"):
        write_open_clip(build_backbone("lit:vit_tiny_patch16_224", "random", 32).eval(), tmp_path)


def test_files_that_are_read_as_another_model_are_refused(tmp_path):
    backbone = build_backbone("vit_tiny_patch16_224", "random", 32).eval()
    backbone.blueprint = {**backbone.blueprint, "model_args": {"img_size": 32, "num_heads": 6}}  # as wide, not the same
    with pytest.raises(WeightsError, match="timm builds another model of these files"):
        write_timm(backbone, tmp_path)


@pytest.mark.parametrize("name", ["face_vit_small", "torchvision:vit_b_32", "tiny_clip"])
def test_what_timm_alone_cannot_build_is_refused(name):
    with pytest.raises(ConfigError, match="torchscript and onnx hold any model"):
        make_plain(build_backbone(name, "random"), "timm")


def test_adapters_are_refused_before_anything_is_merged():
    backbone = with_lora("tiny_vit")
    inject_adapters(backbone.blocks, 4)
    with pytest.raises(ConfigError, match="cannot be merged"):
        make_plain(backbone, "timm")
    assert lora_places(backbone)


@pytest.mark.parametrize("width", [128, 129])
def test_heads_by_their_formulas(tiny_model, tmp_path, width):
    model = tiny_model()
    rows = torch.randn(3, width)
    model._make_room("fine", rows)
    model.head("fine").grow(rows)
    kinds = write_heads(model, tmp_path)
    found, features = load_file(tmp_path / "heads.safetensors"), torch.randn(4, 128)
    if width == 128:
        logits = F.normalize(features, dim=-1) @ found["fine.weight"].T
    else:
        logits = features @ found["fine.weight"].T + found["fine.bias"]
    assert kinds == {"fine": "cosine" if width == 128 else "linear"}
    assert torch.allclose(logits, model.classify(features).logits["fine"], atol=1e-4)


def test_merged_and_unmerged_loras_as_one_each():
    backbone = with_lora("tiny_vit")
    originals = [place.weight.clone() for place in lora_places(backbone)]
    wanted = [place.lora.weight().clone() for place in lora_places(backbone)]
    exact = lora_layers(backbone, originals, 2)
    assert all(torch.allclose(layer.B @ layer.A, delta, atol=1e-7) for layer, delta in zip(exact, wanted, strict=True))
    merge_lora(backbone)
    for place, delta in zip(lora_places(backbone), wanted, strict=True):
        torch.nn.init.normal_(place.lora.B, std=0.1)
        delta += place.lora.weight()
    both = lora_layers(backbone, originals, 4)
    assert {len(layer.A) for layer in both} == {4}  # rounding in the sums has full rank
    assert all(torch.allclose(layer.B @ layer.A, delta, atol=1e-5) for layer, delta in zip(both, wanted, strict=True))


def test_no_lora_no_file():
    with pytest.raises(ConfigError, match="the run has no LoRA"):
        lora_layers(build_backbone("tiny_vit", "random"), [], 1)
