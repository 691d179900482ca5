"""LIRF: which half moves, on three kinds of blocks, what it attends to, and its terms."""

import math

import pytest
import torch

from convs.face import build_face
from convs.model import Model
from models.lirf import attention, heard, upstream
from tests.models.replaying import (
    LEVELS,
    REPLAYS,
    built,
    ce_by_hand,
    copied,
    figures,
    flat_gradient,
    kd_by_hand,
    one_step,
    served,
)
from tests.models.requests import cut, differing, frozen_copy, step_through

BLOCKS = ("transformer.resblocks.0.", "transformer.resblocks.1.")
LOWER = {
    "tiny_vit": ("cls_token", "pos_embed", "patch_embed.", "blocks.0.", "blocks.1."),
    "tiny_clip": ("class_embedding", "positional_embedding", "conv1.", "ln_pre.", *BLOCKS),
}
LOWER["face_vit_small"] = LOWER["tiny_vit"]
TOWER = {"tiny_clip": "backbone.net.visual."}


def known(indexed, level: str, backbone: str):
    """As `served`, of a face transformer, too, which knows nothing."""
    if backbone != "face_vit_small":
        return served(indexed, level, backbone)
    manager = cut(indexed, REPLAYS[level])
    torch.manual_seed(0)
    model = Model(build_face(backbone, "random", 64)).eval()
    for name in ("fine", "coarse"):
        model.grow(name, getattr(manager.order, name))
    return manager.sessions()[0], model


def tokens_of(model, image):
    """The tokens behind the second of four blocks, by the library's own modules."""
    with heard(model.backbone.blocks[1]) as tokens:
        model(image)
    return tokens[0]


def attention_by_hand(tokens: torch.Tensor) -> list[list[float]]:
    """Image by image: the mean of the squares over the tokens, L2-normalised, zero below 0.005."""
    found = []
    for image in tokens.double().tolist():
        energy = [sum(token[d] ** 2 for token in image) / len(image) for d in range(len(image[0]))]
        norm = math.sqrt(sum(value**2 for value in energy))
        found.append([value / norm if value / norm >= 0.005 else 0.0 for value in energy])
    return found


def test_attention_is_the_formula():
    tokens = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1))
    tokens[..., 2] *= 0.01  # a crumb
    found = attention(tokens)
    torch.testing.assert_close(found.double(), torch.tensor(attention_by_hand(tokens), dtype=torch.float64))
    assert (found[:, 2] == 0).all() and (found[:, :2] > 0).all()
    assert torch.equal(attention(tokens.unflatten(1, (2, 2))), found)  # tokens that keep their grid


@pytest.mark.parametrize("backbone", LOWER)
def test_the_lower_half_moves(toymini, backbone):
    session, model = known(toymini, "fine", backbone)
    before = frozen_copy(model)
    learner = built("lirf", model)
    prefix = TOWER.get(backbone, "backbone.net.")
    names = {name for name, _ in model.named_parameters() if name.startswith(prefix)}
    lower = {name for name in names if name.removeprefix(prefix).startswith(LOWER[backbone])}
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == lower
    assert {id(parameter) for parameter in learner.part} == {id(model.get_parameter(name)) for name in lower}
    assert not differing(model, before)
    step_through(learner, session)
    assert differing(model, before) <= lower
    assert any(".1." in name for name in differing(model, before))


def test_the_middle_of_an_odd_number_is_trained(toymini, tiny_model):
    model = tiny_model()
    model.backbone.net.blocks = model.backbone.net.blocks[:3]
    learner = built("lirf", model)
    assert learner.middle is model.backbone.blocks[1]
    assert not any(parameter.requires_grad for parameter in model.backbone.blocks[2].parameters())


@pytest.mark.parametrize("backbone", LOWER)
def test_tokens_come_image_by_image(toymini, backbone):
    session, model = known(toymini, "fine", backbone)
    image = next(session.stream("plain").batches(3, 0))["image"]
    with torch.no_grad():
        tokens = tokens_of(model, image)
        alone = tokens_of(model, image[1:2])
    assert tokens.shape == (3, 65, 128)
    torch.testing.assert_close(tokens[1:2], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backbone", LOWER)
@pytest.mark.parametrize("level", REPLAYS)
def test_the_terms(toymini, level, backbone):
    session, model = known(toymini, level, backbone)
    teacher = copied(model)
    step = one_step(built("lirf", model), session)
    forget, levels = step.batches["forget"], LEVELS[level]
    with torch.no_grad():
        new, old = (attention_by_hand(tokens_of(each, forget["image"])) for each in (model.eval(), teacher))
    gaps = [(a - b) ** 2 for x, y in zip(new, old, strict=True) for a, b in zip(x, y, strict=True)]
    kept = {"fine": list(session.alive), "coarse": [1, 2, 3]}  # Veltro, whose children go, is 0
    said = [step.student["forget"].logits, step.teacher["forget"].logits]
    distilled = sum(kd_by_hand(said[0][k][:, kept[k]], said[1][k][:, kept[k]], 10.0) for k in levels)
    assert sum(gaps) > 1e-6 and distilled > 1e-7
    expected = {
        "forget": 0.9 * ce_by_hand(step.student["forget"], forget, levels, "wrong."),
        "attention": -300 * sum(gaps) / len(gaps),
        "keep": 10 * 0.1 * 100 * distilled,
        "retain": 5 * ce_by_hand(step.student["retain"], step.batches["retain"], levels),
    }
    assert figures(step.terms) == pytest.approx(expected, rel=2e-3, abs=1e-5)


def test_a_step_downhill_is_a_step_apart(toymini):
    session, model = served(toymini, "fine", "tiny_vit")
    step = one_step(built("lirf", model), session)
    slopes = torch.autograd.grad(step.terms["attention"], step.phase.params)
    with torch.no_grad():
        for parameter, slope in zip(step.phase.params, slopes, strict=True):
            parameter.sub_(1e-2 * slope)
        after = step.phase.loss(step.batches)["attention"].item()
    assert after < step.terms["attention"].item() < 0


def test_at_the_teacher_the_gradient_is_finite(toymini):
    session, model = served(toymini, "coarse", "tiny_clip")
    step = one_step(built("lirf", model), session, shake=0.0)
    assert abs(step.terms["attention"].item()) < 1e-6 and abs(step.terms["keep"].item()) < 1e-4
    assert flat_gradient(step).isfinite().all()


def test_no_hook_stays(toymini):
    session, model = served(toymini, "fine", "tiny_vit")
    learner = built("lirf", model)
    phase = next(learner.phases(session))
    batches = {name: next(stream.batches(2, 0)) for name, stream in phase.streams.items()}
    phase.loss(batches)
    with pytest.raises(ValueError, match="no image"), heard(learner.middle):
        raise ValueError("no image")
    assert not any(module._forward_hooks for module in model.modules())


def test_upstream_of_the_last_block_is_all_but_the_norm(toymini, tiny_model):
    backbone = tiny_model().backbone
    named = dict(backbone.net.named_parameters())
    found = {id(each) for each in upstream(backbone, backbone.blocks[-1], list(named.values()))}
    assert {name for name, each in named.items() if id(each) not in found} == {"norm.weight", "norm.bias"}
