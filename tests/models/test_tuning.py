"""What an unlearner may move: by names of parameters, and bit by bit after a request."""

import pytest
import torch

from convs.clip_models import build_clip
from convs.model import Model
from models.tuning import tuned_part
from models.unlearner import HingeLearner
from tests.models.requests import REQUESTS, cut, differing, frozen_copy, knowing, shipped, step_through
from utils.errors import ConfigError

SIZES = {"ffn_num": 3, "adapter_scale": 0.5, "adapter_dropout": 0.0, "lora_rank": 2, "lora_alpha": 4.0}
IMAGE = "backbone.net.visual."
LAYERS = {"tiny_vit": ("mlp.fc1", "mlp.fc2"), "tiny_clip": ("mlp.c_fc", "mlp.c_proj")}


def expected(name: str, tune: str, before: set[str]) -> set[str]:
    """The parameters that may move, by what they are called."""
    clip = name == "tiny_clip"
    blocks = [f"{IMAGE}transformer.resblocks.{i}" if clip else f"backbone.net.blocks.{i}" for i in range(4)]
    if tune == "adapter":
        parts = ("adapter.down.weight", "adapter.down.bias", "adapter.up.weight", "adapter.up.bias")
        return {f"{block}.{part}" for block in blocks for part in parts}
    if tune == "lora":
        return {f"{block}.{layer}.lora.{part}" for block in blocks for layer in LAYERS[name] for part in "AB"}
    towers = {each for each in before if each.startswith("backbone.") and each != "backbone.net.logit_scale"}
    if tune == "all" or not clip:
        return towers
    return {each for each in towers if each.startswith(IMAGE) == (tune == "image")}


CASES = [(name, tune) for name in LAYERS for tune in ("all", "image", "text", "adapter", "lora")]
CASES.remove(("tiny_vit", "text"))


@pytest.mark.parametrize(("name", "tune"), CASES)
def test_which_parameters_a_part_has(toymini, name, tune):
    model = knowing(shipped(name), cut(toymini, REQUESTS["fine"]))
    before = {each for each, _ in model.named_parameters()}
    part = tuned_part(model, tune, **SIZES)
    names = {id(parameter): each for each, parameter in model.named_parameters()}
    found = [names[id(parameter)] for parameter in part]
    assert len(found) == len(set(found)) and set(found) == expected(name, tune, before)
    assert {each for each, parameter in model.named_parameters() if parameter.requires_grad} == set(found)


@pytest.mark.parametrize(("name", "tune"), CASES)
def test_nothing_else_moves_in_a_request(toymini, recipe, name, tune):
    manager = cut(toymini, REQUESTS["hybrid"])
    session, model = manager.sessions()[0], knowing(shipped(name), manager)
    named = {each for each, _ in model.named_parameters()}
    forget = recipe(epochs=3, lr=1e-3, optimizer="adamw", weight_decay=0.1, batch_size=15)
    learner = HingeLearner(model, recipe(), recipe(), forget, tune=tune, **SIZES)
    before = frozen_copy(model)
    step_through(learner, session)
    free = expected(name, tune, named)
    moved = differing(model, before)
    worded = {"heads.fine.rows.0", "heads.coarse.rows.0"} if name == "tiny_clip" and tune in ("all", "text") else set()
    assert free <= moved | unused(model, free) and moved <= free | worded and worded <= moved
    assert not any(parameter.requires_grad for each, parameter in model.named_parameters() if each not in free)


def unused(model, names: set[str]) -> set[str]:
    """Parameters on which no output depends."""
    model.train()
    parameters = dict(model.named_parameters())
    backbone, some = model.backbone, sorted(names)
    total = backbone(torch.rand(2, 3, 64, 64)).sum()
    total = total + (backbone.encode_text(["a", "b"]).sum() if hasattr(backbone, "encode_text") else 0)
    slopes = torch.autograd.grad(total, [parameters[name] for name in some], allow_unused=True)
    model.eval()
    return {name for name, slope in zip(some, slopes, strict=True) if slope is None}


@pytest.mark.parametrize("tune", ["adapter", "lora"])
@pytest.mark.parametrize("name", LAYERS)
def test_what_is_added_changes_nothing_at_first_and_has_the_asked_size(toymini, name, tune):
    manager = cut(toymini, REQUESTS["fine"])
    model = knowing(shipped(name), manager)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(images).features
        part = tuned_part(model, tune, **SIZES)
        assert torch.equal(model.eval()(images).features, before)
    sizes = {tuple(parameter.shape) for parameter in part}
    adapter, lora = {(3, 128), (3,), (128, 3), (128,)}, {(2, 128), (512, 2), (2, 512), (128, 2)}
    assert sizes == (adapter if tune == "adapter" else lora)
    added = model.backbone.blocks[0]
    module = added.adapter if tune == "adapter" else added.get_submodule(LAYERS[name][0]).lora
    assert module.scale == (0.5 if tune == "adapter" else 4.0 / 2)


def test_a_vit_has_no_text_tower_to_tune(toymini):
    model = knowing(shipped("tiny_vit"), cut(toymini, REQUESTS["fine"]))
    with pytest.raises(ConfigError, match=r"^key 'tune': \"text\" needs a text tower; choose a CLIP"):
        tuned_part(model, "text", **SIZES)


def test_towers_of_a_locked_image_model(small_lit):
    backbone = build_clip("lit:vit_tiny_patch16_224", "random", 32)
    named = {name for name, _ in backbone.net.named_parameters()}
    image = {name for name in named if name.startswith("visual.")}
    for tune, wanted in (("image", image), ("text", named - image - {"logit_scale"}), ("all", named - {"logit_scale"})):
        part = {id(parameter) for parameter in tuned_part(Model(backbone), tune, **SIZES)}
        assert {name for name, parameter in backbone.net.named_parameters() if id(parameter) in part} == wanted
