"""timm's towers: names, weights from files, and one line for whatever is wrong."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from convs.model import Model
from convs.vit import build_vit
from utils.checkpoint import write_tensors
from utils.errors import WeightsError
from utils.imagenet import imagenet_names

NAME = "test_vit"  # timm's own miniature: six blocks, 64 wide, 16-pixel patches


@pytest.fixture(scope="module")
def source():
    """A random tower with a classifier, as timm's own files have one."""
    torch.manual_seed(3)
    return timm.create_model(NAME, img_size=32, num_classes=10).eval()


@pytest.fixture(scope="module")
def batch():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_features_are_timms_own(source, batch):
    backbone = build_vit(NAME, "random", 32).eval()
    backbone.net.load_state_dict({k: v for k, v in source.state_dict().items() if not k.startswith("head.")})
    assert torch.equal(backbone(batch), source.forward_head(source.forward_features(batch), pre_logits=True))
    assert (backbone.dim, len(backbone.blocks), backbone.scale) == (64, 6, None)


def test_the_input_is_what_the_weights_were_made_for():
    config = timm.get_pretrained_cfg(NAME)
    look = build_vit(NAME, "random").preprocess
    assert (look.size, look.mean, look.std) == (config.input_size[-1], tuple(config.mean), tuple(config.std))
    assert look.interpolation == config.interpolation
    assert build_vit(NAME, "random", 48).preprocess.size == 48


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("pretrained_vit_b16_224", "vit_base_patch16_224.augreg_in21k_ft_in1k"),
        ("pretrained_vit_b16_224_in21k", "vit_base_patch16_224.augreg_in21k"),
        ("pretrained_vit_b16_224_in21k_adapter", "vit_base_patch16_224.augreg_in21k"),
        ("vit_base_patch16_224_adapter", "vit_base_patch16_224.augreg_in21k_ft_in1k"),
        ("vit_small_patch16_224.dino", "vit_small_patch16_224.dino"),
    ],
)
def test_pilots_names(monkeypatch, name, meant):
    asked = []
    small = timm.create_model(NAME, num_classes=0)
    monkeypatch.setattr("convs.vit.timm.create_model", lambda name, **options: asked.append((name, options)) or small)
    build_vit(name)
    classifier = {} if meant.endswith("in1k") else {"num_classes": 0}  # ImageNet-1k's comes along, no other
    assert asked == [(meant, {"pretrained": True} | classifier)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_bse_patch16_224", "unknown to timm; did you mean 'vit_base_patch16_224'"),
        ("vit_tiny_patch16_224.augreg_in21", "did you mean 'vit_tiny_patch16_224.augreg_in21k'"),
        ("test_efficientnet", "no transformer blocks"),
        ("test_convnext", "no transformer blocks"),
    ],
)
def test_names_that_mean_no_vit(name, message):
    with pytest.raises(WeightsError, match=message) as caught:
        build_vit(name, "random")
    assert name in str(caught.value)


def test_a_failed_download_ends_with_one_line_that_says_what_to_do(monkeypatch):
    def fail(*args, **options):
        raise OSError("no network\nat all")

    monkeypatch.setattr("convs.vit.timm.create_model", fail)
    with pytest.raises(WeightsError) as caught:
        build_vit("pretrained_vit_b16_224")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("vit_base_patch16_224.augreg_in21k_ft_in1k", "no network", '"weights": "/path/to/', '"random"'):
        assert part in message
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@torch.no_grad()
def test_local_weights_with_a_classifier_that_is_dropped(tmp_path, source, batch, suffix):
    file = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(source.state_dict(), file)
    backbone = build_vit(NAME, str(file), 32).eval()
    expected = source.forward_head(source.forward_features(batch), pre_logits=True)
    assert torch.equal(backbone(batch), expected)


@pytest.mark.parametrize("origin", ["hub", "file"])
@pytest.mark.parametrize("name", [NAME, "test_vit3"])  # class token; attention pooling
@torch.no_grad()
def test_a_classifier_of_imagenet_becomes_rows_of_its_classes(monkeypatch, tmp_path, batch, origin, name):
    torch.manual_seed(0)
    whole = timm.create_model(name, img_size=32, num_classes=1000).eval()
    expected, head = whole(batch), {part: value.clone() for part, value in whole.head.named_parameters()}
    file = None
    if origin == "file":
        torch.save(whole.state_dict(), tmp_path / "weights.pt")
        file = str(tmp_path / "weights.pt")
    else:
        monkeypatch.setattr("convs.vit.timm.create_model", lambda *_, **__: whole)
    model = Model(build_vit(name, file, 32)).eval()
    trained = model.backbone.trained_heads["fine"]
    assert torch.equal(trained.rows, torch.cat([head["weight"], head["bias"][:, None]], 1))
    assert trained.names == tuple(imagenet_names().values())
    some = [1, 0, 999]
    model.recall("fine", [trained.names[place] for place in some])
    torch.testing.assert_close(model(batch).logits["fine"], expected[:, some], rtol=1e-5, atol=1e-5)


def test_other_classifiers_bring_no_rows(tmp_path):
    for name, classes in ((NAME, 10), ("deit_tiny_distilled_patch16_224", 1000)):  # the latter averages two
        torch.save(timm.create_model(name, img_size=32, num_classes=classes).state_dict(), tmp_path / "weights.pt")
        assert build_vit(name, str(tmp_path / "weights.pt"), 32).trained_heads == {}


def test_position_embeddings_are_resampled(tmp_path, source):
    state = {name: value.clone() for name, value in source.state_dict().items()}
    state["pos_embed"][:] = torch.linspace(-1, 1, 64)  # the same everywhere: so must it be on any other grid
    torch.save(state, tmp_path / "weights.pt")
    backbone = build_vit(NAME, str(tmp_path / "weights.pt"), 80)
    tokens = backbone.net.pos_embed[0]
    assert tokens.shape == (25 + state["pos_embed"].shape[1] - 4, 64)
    torch.testing.assert_close(tokens, torch.linspace(-1, 1, 64).expand_as(tokens))


@torch.no_grad()
def test_a_file_of_the_pretrain_learner_loads_into_any_tower(tmp_path, source, batch):
    file = tmp_path / "weights.safetensors"
    tower = {f"net.{k}": v for k, v in source.state_dict().items() if not k.startswith("head.")}
    rows = torch.arange(128.0).view(2, 64)
    write_tensors(file, tower | {"heads.fine": rows}, {"classes": '{"fine": ["cat", "dog"], "coarse": ["pet"]}'})
    backbone = build_vit(NAME, str(file), 32).eval()
    assert torch.equal(backbone(batch), source.forward_head(source.forward_features(batch), pre_logits=True))
    assert backbone.trained_heads.keys() == {"fine"}
    assert backbone.trained_heads["fine"].names == ("cat", "dog")
    assert torch.equal(backbone.trained_heads["fine"].rows, rows)


def test_a_file_of_another_architecture_is_refused(tmp_path, source):
    tiny = build_vit("tiny_vit", "random")
    torch.save(tiny.net.state_dict(), tmp_path / "tiny.pt")
    save_file({f"net.{name}": value for name, value in source.state_dict().items()}, tmp_path / "other.safetensors")
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "foreign.pt")
    cases = ((NAME, "tiny.pt"), (NAME, "foreign.pt"), ("tiny_vit", "other.safetensors"), ("tiny_vit", "tiny.pt"))
    for name, file in cases:
        with pytest.raises(WeightsError, match="does not fit") as caught:
            build_vit(name, str(tmp_path / file), None if name == "tiny_vit" else 32)
        assert file in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="no such weights file"):
        build_vit(NAME, str(tmp_path / "missing.pt"))


@torch.no_grad()
def test_the_miniature():
    backbone = build_vit("tiny_vit", "random").eval()
    assert backbone(torch.zeros(2, 3, 64, 64)).shape == (2, backbone.dim) == (2, 128)
    assert (len(backbone.blocks), backbone.preprocess.size, backbone.trained_heads) == (4, 64, {})
