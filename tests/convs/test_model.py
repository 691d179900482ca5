"""One interface over both kinds of backbones."""

import math

import pytest
import torch
import torch.nn.functional as F

from convs.backbone import TrainedHead
from convs.model import freeze
from utils.errors import WeightsError


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


def test_rows_are_those_of_the_levels_that_have_any(tiny_model):
    model = tiny_model()
    assert model.rows() == {}
    fine = [model.grow("fine", ["a", "b"]), model.grow("fine", ["c"])]
    assert model.rows().keys() == {"fine"}
    assert torch.equal(model.rows()["fine"], torch.cat(fine))
    model.grow("coarse", ["x"])
    assert list(model.rows()) == ["fine", "coarse"]
    model.reset_heads()
    assert model.rows() == {} and model.trainable_state().keys().isdisjoint({"heads.fine.rows.0"})


# what a backbone knows of names


ROWS = {
    "fine": TrainedHead(("Ford", "Opel Astra", "Skoda"), torch.arange(3 * 128.0).reshape(3, 128).half()),
    "coarse": TrainedHead(("car",), torch.ones(1, 128).half()),
}


@pytest.fixture
def taught(tiny_model):
    """A ViT whose weights brought rows."""
    model = tiny_model()
    model.backbone.trained_heads = dict(ROWS)
    return model


def test_a_clip_says_its_text_features_without_a_graph(tiny_model):
    model = tiny_model("tiny_clip")
    found = model.known_rows("coarse", ("cat", "dog"))
    with torch.no_grad():
        assert torch.equal(found, model.backbone.name_features(["cat", "dog"], model.templates))
    assert not found.requires_grad  # a thousand names by eighty templates would not fit into memory with one
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    model.check_known("fine", ["any name"])


def test_a_vit_says_the_rows_its_weights_came_with_in_the_order_asked(taught):
    found = taught.known_rows("fine", ["Skoda", "Ford"])
    assert torch.equal(found, ROWS["fine"].rows[[2, 0]].float()) and found.dtype == torch.float32
    assert torch.equal(taught.known_rows("coarse", ["car"]), torch.ones(1, 128))
    taught.check_known("fine", ["Opel Astra"])


@pytest.mark.parametrize("ask", ["known_rows", "check_known", "recall"])
def test_a_name_that_a_vit_does_not_know(taught, tiny_model, ask):
    line = r"the weights know no fine class 'Opel Asta'; did you mean 'Opel Astra'\?; teach it in a learn session first"
    with pytest.raises(WeightsError, match=line):
        getattr(taught, ask)("fine", ["Ford", "Opel Asta"])
    assert taught.rows() == {}
    with pytest.raises(WeightsError, match="the weights know no coarse class 'car'; teach it"):
        getattr(tiny_model(), ask)("coarse", ["car"])


@torch.no_grad()
def test_recalled_rows_are_what_the_backbone_knows(taught, batch):
    taught.eval()
    taught.recall("fine", [])
    assert len(taught.head("fine")) == 0
    taught.recall("fine", ["Skoda", "Opel Astra"])
    assert torch.equal(taught.head("fine").weight, ROWS["fine"].rows[[2, 1]].float())
    taught.head("fine").replace({0: torch.zeros(128)})
    assert torch.equal(taught.known_rows("fine", ["Skoda"]), ROWS["fine"].rows[[2]].float())  # not what was edited
    taught.grow("fine", ["new"])
    assert taught(batch).logits["fine"].shape == (3, 3)


@torch.no_grad()
def test_a_clip_grows_by_what_it_knows(tiny_model):
    one, other = tiny_model("tiny_clip"), tiny_model("tiny_clip")
    one.recall("coarse", ["cat", "dog"])
    other.grow("coarse", ["cat", "dog"])
    assert torch.equal(one.head("coarse").weight, other.head("coarse").weight)


@torch.no_grad()
def test_a_class_gets_a_fresh_row(taught, tiny_model):
    taught.grow("fine", ["a", "b"])
    taught.grow("fine", ["c"])
    before = taught.head("fine").weight.clone()
    taught.renew("fine", 1, "Ford")
    after = taught.head("fine").weight
    assert (after != before).any(1).tolist() == [False, True, False]
    assert 0.01 < after[1].std() < 0.03  # drawn, not the row its weights once had
    clip = tiny_model("tiny_clip")
    clip.grow("fine", ["cat", "dog"])
    clip.head("fine").replace({0: -clip.head("fine").weight[0]})
    clip.renew("fine", 0, "cat")
    torch.testing.assert_close(clip.head("fine").weight, clip.known_rows("fine", ["cat", "dog"]))


@torch.no_grad()
def test_frozen_rows_travel_with_the_state(tiny_model):
    source = tiny_model("tiny_clip")
    source.recall("fine", ["cat", "dog"])
    freeze(source)
    source.head("fine").replace({1: torch.full((128,), 0.5)})  # as a tuned text tower would word them
    state = source.trainable_state()
    assert state.keys() == {"heads.fine.rows.0"}
    target = tiny_model("tiny_clip")
    target.recall("fine", ["cat", "dog"])
    freeze(target)
    target.load_trainable_state(state)
    assert torch.equal(target.head("fine").weight, source.head("fine").weight)
    assert not target.head("fine").rows[0].requires_grad


# weights with a linear classifier of their own


LINEAR = torch.randn(3, 129, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def linear(tiny_model):
    """A function that builds a ViT whose weights brought a linear classifier."""

    def build():
        model = tiny_model().eval()
        model.backbone.trained_heads = {"fine": TrainedHead(("Ford", "Opel Astra", "Skoda"), LINEAR)}
        return model

    return build


@torch.no_grad()
def test_recalled_linear_rows_give_the_classifiers_own_logits(linear, batch):
    model = linear()
    model.grow("coarse", ["car", "lorry"])
    model.recall("fine", ["Skoda", "Ford"])
    output = model(batch)
    expected = output.features.double() @ LINEAR[[2, 0], :-1].double().T + LINEAR[[2, 0], -1].double()
    torch.testing.assert_close(output.logits["fine"].double(), expected, rtol=1e-5, atol=1e-5)
    assert output.logits["coarse"].abs().max() <= 20  # cosines, as before


def test_no_other_class_is_taught_beside_linear_rows(linear):
    model = linear()
    model.check_growth("fine")
    model.grow("fine", ["a class of a session"])  # nothing recalled: rows of cosines as over any ViT
    assert model.rows()["fine"].shape == (1, 128)
    model.reset_heads()
    model.recall("fine", ["Ford"])
    for teach in (
        lambda: model.grow("fine", ["a class of a session"]),
        lambda: model.renew("fine", 0, "Ford"),
        lambda: model.check_growth("fine"),
    ):
        with pytest.raises(WeightsError, match=r"the fine classes known so far were recalled.*linear.*learn session"):
            teach()
    assert model.grow("fine", []) is None
    model.check_growth("coarse")


@torch.no_grad()
def test_linear_rows_travel_with_the_state(linear, batch):
    source = linear()
    source.recall("fine", ["Ford", "Skoda"])
    freeze(source)
    source.head("fine").replace({1: -source.head("fine").weight[1]})
    recalled, plain = linear(), linear()
    recalled.recall("fine", ["Ford", "Skoda"])
    for target in (recalled, plain):
        freeze(target)
        target.load_trainable_state(source.trainable_state())
        assert torch.equal(target(batch).logits["fine"], source(batch).logits["fine"])
    taught = linear()
    freeze(taught)
    taught.reset_heads()
    taught.grow("fine", ["Ford", "Skoda"])
    recalled.load_trainable_state(taught.trainable_state())  # as where a retrained model is resumed
    assert torch.equal(recalled(batch).logits["fine"], taught(batch).logits["fine"])
