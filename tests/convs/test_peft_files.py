"""LoRAs on disk: what peft itself makes of them."""

import copy
import json

import pytest
import torch
from torch import nn

from convs.clip_models import build_clip
from convs.lora import inject_lora, lora_places, merge_lora
from convs.peft_files import CONFIG, TENSORS, Factors, factors, read_lora, write_lora
from convs.vit import build_vit
from utils.errors import WeightsError

BUILD = {"tiny_vit": build_vit, "tiny_clip": build_clip}


def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def teach(backbone) -> list[Factors]:
    """LoRAs as a task might leave them."""
    for place in lora_places(backbone):
        nn.init.normal_(place.lora.B, std=0.2)
    return [Factors(place.name, place.lora.A, place.lora.B) for place in lora_places(backbone)]


def together(net: nn.Module, folders) -> nn.Module:
    """The original with the adapters of all tasks, as a user of peft loads them."""
    peft = pytest.importorskip("peft")
    model = peft.PeftModel.from_pretrained(net, folders[0], adapter_name="task0")
    for number, folder in enumerate(folders[1:], 1):
        model.load_adapter(folder, f"task{number}")
    model.base_model.set_adapter([f"task{number}" for number in range(len(folders))])
    return model.eval()


@pytest.fixture
def original(request):
    torch.manual_seed(0)
    return BUILD[request.param](request.param).eval()


def twin_of(backbone):
    tokenizer = getattr(backbone, "tokenizer", None)
    return copy.deepcopy(backbone, {id(tokenizer): tokenizer})


@pytest.mark.filterwarnings("ignore:Already following adapters were merged")  # peft's own, of attentions
@pytest.mark.parametrize("position", ["ffn", "attention"])
@pytest.mark.parametrize("original", BUILD, indirect=True)
@torch.no_grad()
def test_peft_puts_the_loras_of_all_tasks_onto_the_original(original, position, tmp_path):
    ours, before, folders = twin_of(original), original(images()), [tmp_path / "0", tmp_path / "1"]
    inject_lora(ours, rank=3, alpha=2.0, position=position)
    for folder in folders:
        write_lora(folder, teach(ours), lora_places(ours)[0].lora.scale)
        merge_lora(ours)
    after, alone = ours(images()), twin_of(original)
    together(original.net, folders)  # peft changes the net in place
    torch.testing.assert_close(original(images()), after, atol=1e-4, rtol=1e-4)
    together(alone.net, folders[:1])
    for other in (before, alone(images())):
        assert not torch.allclose(after, other, atol=0.05)
    if hasattr(original, "name_features"):
        texts = ["a", "b"], ("{}",)
        torch.testing.assert_close(original.name_features(*texts), ours.name_features(*texts))


@pytest.mark.parametrize("original", BUILD, indirect=True)
@torch.no_grad()
def test_averaged_deltas_travel_by_their_factors(original, tmp_path):
    """What a running average adds has another rank in every layer, and none where the average is zero."""
    ours = twin_of(original)
    inject_lora(ours, rank=2)
    sums = []
    for number, place in enumerate(lora_places(ours)):
        parts = [torch.randn(len(place.weight), 1) @ torch.randn(1, place.weight.shape[1]) for _ in range(number)]
        sums.append(0.01 * sum(parts, torch.zeros_like(place.weight)))
    names = [place.name for place in lora_places(ours)]
    write_lora(tmp_path, [Factors(name, *factors(delta)) for name, delta in zip(names, sums, strict=True)])
    assert json.loads((tmp_path / CONFIG).read_text())["r"] == len(sums) - 1
    merge_lora(ours, sums)
    together(original.net, [tmp_path])
    torch.testing.assert_close(original(images()), ours(images()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_factors_give_the_matrix_at_its_rank(rank):
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(7, rank, generator=generator) @ torch.randn(rank, 40, generator=generator)
    A, B = factors(delta)
    assert A.shape == (max(1, rank), 40) and B.shape == (7, max(1, rank)) and A.dtype == B.dtype == torch.float32
    torch.testing.assert_close(B @ A, delta, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(A.norm(), B.norm())


def test_what_is_written_is_read(tmp_path):
    layers = [
        Factors("a.attn.in_proj_weight", torch.ones(1, 4), torch.full((12, 1), 2.0)),
        Factors("a.mlp.fc1.weight", torch.arange(8.0).view(2, 4), torch.arange(6.0).view(3, 2)),
    ]
    write_lora(tmp_path, layers, scale=0.25)
    found, scale = read_lora(tmp_path)
    assert scale == 0.25 and [layer.name for layer in found] == [layer.name for layer in layers]
    for layer, read in zip(layers, found, strict=True):
        assert read.A.shape[0] == read.B.shape[1] == 2
        assert torch.equal(read.B @ read.A, layer.B @ layer.A)
    config = json.loads((tmp_path / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (2, 0.5, ["a.attn", "a.mlp.fc1"])


def test_nothing_to_write(tmp_path):
    with pytest.raises(ValueError, match="no LoRAs"):
        write_lora(tmp_path, [])


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(WeightsError, match=r"adapter_config\.json: not the configuration of a peft adapter"):
        read_lora(tmp_path)
    write_lora(tmp_path, [Factors("x.weight", torch.ones(1, 2), torch.ones(2, 1))])
    good = json.loads((tmp_path / CONFIG).read_text())
    for change, message in (
        ({"peft_type": "LOHA"}, "not the configuration of a LoRA"),
        ({"rank_pattern": {"x": 4}}, "key 'rank_pattern' is set; only plain LoRA"),
    ):
        (tmp_path / CONFIG).write_text(json.dumps(good | change))
        with pytest.raises(WeightsError, match=message):
            read_lora(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps(good))
    (tmp_path / TENSORS).write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"adapter_model\.safetensors: damaged"):
        read_lora(tmp_path)
