"""One interface over both kinds of backbones."""

import math

import pytest
import torch
import torch.nn.functional as F

from convs.model import freeze


@pytest.fixture
def batch():
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_vit_logits_are_scaled_cosines(tiny_model, batch):
    model = tiny_model().eval()
    rows = {level: model.grow(level, names) for level, names in (("fine", ["a", "b", "c"]), ("coarse", ["x"]))}
    output = model(batch)
    assert torch.equal(output.features, model.backbone.net(batch))
    assert output.logits.keys() == rows.keys()
    for level, weight in rows.items():
        expected = 20 * F.cosine_similarity(output.features[:, None].double(), weight[None].double(), dim=-1)
        torch.testing.assert_close(output.logits[level].double(), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_clips_scale_is_its_own_and_its_rows_are_text(tiny_model, batch):
    model = tiny_model("tiny_clip").eval()
    model.backbone.net.logit_scale.fill_(math.log(7.0))
    rows = model.grow("fine", ["cat", "dog"])
    assert torch.equal(rows, model.backbone.name_features(["cat", "dog"], model.templates))
    features = model.backbone(batch)
    expected = 7 * F.normalize(features.double(), dim=-1) @ F.normalize(rows.double(), dim=-1).T
    torch.testing.assert_close(model(batch).logits["fine"].double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.classify(features).logits["fine"], model(batch).logits["fine"])


def test_fresh_vit_rows_are_small_and_differ(tiny_model):
    model = tiny_model()
    first = model.grow("fine", [str(i) for i in range(80)])
    second = model.grow("fine", ["more"])
    assert first.std().item() == pytest.approx(0.02, rel=0.03)  # 10,240 values
    assert first.requires_grad and second.shape == (1, 128)
    assert not torch.equal(first[0], first[1])
    assert len(model.head("fine")) == 81


def test_no_names_make_no_rows(tiny_model):
    model = tiny_model()
    assert model.grow("coarse", []) is None
    assert model.classify(torch.zeros(1, 128)).logits == {}


def test_the_trainable_state_leaves_out_what_is_frozen(tiny_model):
    model = tiny_model()
    assert model.trainable_state().keys() == dict(model.named_parameters()).keys()
    freeze(model.backbone)
    assert model.trainable_state() == {}
    model.grow("fine", ["a"])
    assert model.trainable_state().keys() == {"heads.fine.rows.0"}


@torch.no_grad()
def test_a_state_travels_to_a_fresh_model(tiny_model, batch):
    source = tiny_model().eval()
    for session in range(12):  # more than ten, so that positions have two digits
        source.grow("fine", ["new"] * (1 + session % 3))
    source.grow("coarse", ["parent"])
    for parameter in source.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))
    target = tiny_model().eval()
    target.load_trainable_state(source.trainable_state())
    assert [len(rows) for rows in target.head("fine").rows] == [1, 2, 3] * 4
    for level, logits in source(batch).logits.items():
        assert torch.equal(target(batch).logits[level], logits)
    target.load_trainable_state(source.trainable_state())  # again, over what is already there
    assert len(target.head("fine")) == 24


def test_a_state_of_another_model_is_refused(tiny_model):
    frozen, free = tiny_model(), tiny_model()
    freeze(frozen.backbone)
    with pytest.raises(ValueError, match="other parameters"):
        frozen.load_trainable_state(free.trainable_state())
    with pytest.raises(ValueError, match="other parameters"):
        free.load_trainable_state(frozen.trainable_state())
