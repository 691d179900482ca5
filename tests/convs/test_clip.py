"""open_clip's models: text features, names, weights from files, activations, towers of timm."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from convs import clip_models
from convs.backbone import Preprocess
from convs.clip_models import build_clip
from utils.errors import WeightsError

VISION = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
CONFIGS = {
    "nano": {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT},
    "nano-quickgelu": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
    "nano-resnet": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
        "text_cfg": TEXT,
    },
    "nano-timm": {
        "embed_dim": 24,
        "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160},
        "text_cfg": TEXT,
    },
}


@pytest.fixture(autouse=True)
def nano(monkeypatch):
    """Miniatures among open_clip's own architectures."""
    for name, config in CONFIGS.items():
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)


@pytest.fixture
def batch():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_a_model_of_open_clip_by_name():
    backbone = build_clip("ViT-S-32-alt", "random", 64).eval()
    assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, backbone.dim) == (1, 256)
    assert backbone.encode_text(["a", "b"]).shape == (2, 256)
    assert (len(backbone.blocks), backbone.preprocess.size) == (12, 64)
    assert backbone.preprocess.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))


@torch.no_grad()
def test_ensemble_features_step_by_step():
    torch.manual_seed(0)
    backbone = build_clip("nano", "random").eval()
    names, templates = ["red car", "{odd} name"], ("a photo of a {}.", "my {}!", "{}")
    expected = []
    for name in names:
        texts = [template.replace("{}", name) for template in templates]
        single = [backbone.net.encode_text(backbone.tokenizer([text]))[0].double() for text in texts]
        mean = sum(feature / feature.norm() for feature in single) / 3
        expected.append(mean / mean.norm())
    torch.testing.assert_close(
        backbone.name_features(names, templates).double(), torch.stack(expected), rtol=1e-5, atol=1e-6
    )


@torch.no_grad()
def test_texts_are_encoded_in_batches(monkeypatch):
    backbone = build_clip("nano", "random").eval()
    texts = [f"text {i}" for i in range(5)]
    whole = backbone.encode_text(texts)
    monkeypatch.setattr("convs.clip.TEXT_BATCH", 2)
    torch.testing.assert_close(backbone.encode_text(texts), whole)


@torch.no_grad()
def test_the_scale_is_a_constant():
    backbone = build_clip("nano", "random")
    assert backbone.scale.item() == pytest.approx(1 / 0.07)
    assert not backbone.scale.requires_grad


@torch.no_grad()
def test_width_and_blocks_of_other_towers():
    over_timm = build_clip("nano-timm", "random").eval()
    assert over_timm(torch.zeros(1, 3, 160, 160)).shape == (1, over_timm.dim) == (1, 24)
    assert len(over_timm.blocks) == 6
    resnet = build_clip("nano-resnet", "random").eval()
    assert resnet(torch.zeros(1, 3, 32, 32)).shape == (1, resnet.dim) == (1, 24)
    with pytest.raises(WeightsError, match=r"ModifiedResNet.*no transformer blocks"):
        _ = resnet.blocks


@pytest.mark.parametrize(("name", "tag"), [("ViT-B-32", "openai"), ("ViT-L-14", "openai"), ("ViT-B-16", "dfn2b")])
def test_a_tag_of_another_activation_is_refused_before_anything_is_fetched(monkeypatch, name, tag):
    monkeypatch.setattr(open_clip, "create_model", lambda *args, **options: pytest.fail("was built"))
    with pytest.raises(WeightsError, match=f"'{tag}'.*QuickGELU.*use '{name}-quickgelu'"):
        build_clip(name, tag)


def test_files_that_tell_their_activation(tmp_path, batch):
    source = build_clip("nano-quickgelu", "random").eval()
    for name in ("nano-quickgelu.safetensors", "vit_openai.safetensors", "mine.safetensors"):
        save_file(source.net.state_dict(), tmp_path / name)
        with torch.no_grad():
            loaded = build_clip("nano-quickgelu", str(tmp_path / name)).eval()
            assert torch.equal(loaded(batch), source(batch))
    for name in ("nano-quickgelu.safetensors", "vit_openai.safetensors"):
        with pytest.raises(WeightsError, match=f"{name}.*QuickGELU.*use 'nano-quickgelu'"):
            build_clip("nano", str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("ViT-B-31", "openai", "unknown to open_clip; did you mean 'ViT-B-32'"),
        ("ViT-B-32", "opena", "'opena' of 'ViT-B-32' are neither a file nor a tag.*laion2b_s34b_b79k"),
        ("ViT-B-32", None, "neither a file nor a tag"),
        ("nano", "/no/such/file.pt", "neither a file nor a tag of open_clip; tags: none"),
        ("hf-hub:me/model", "/no/such/file.pt", "no such weights file"),
        ("lit:vit_tinny_patch16_224", "random", "unknown to timm; did you mean 'vit_tiny_patch16_224'"),
        ("lit:test_vit", "/no/such/file.pt", "no such weights file"),
        ("tiny_clip", "/no/such/file.pt", "no such weights file"),
    ],
)
def test_names_and_weights_that_are_not_there(name, weights, message):
    with pytest.raises(WeightsError, match=message) as caught:
        build_clip(name, weights)
    assert "\n" not in str(caught.value)


def test_a_failed_download_ends_with_one_line_that_says_what_to_do(monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("Failed to download weights\nfor tag")

    monkeypatch.setattr(open_clip, "create_model", fail)
    with pytest.raises(WeightsError) as caught:
        build_clip("ViT-B-32-quickgelu", "openai")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("ViT-B-32-quickgelu (openai)", "Failed to download", '"weights": "/path/to/ViT-B-32-quickgelu'):
        assert part in message


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@torch.no_grad()
def test_local_weights(tmp_path, batch, suffix):
    torch.manual_seed(7)
    source = build_clip("nano", "random").eval()
    file = tmp_path / f"mine.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(source.net.state_dict(), file)
    loaded = build_clip("nano", str(file)).eval()
    assert torch.equal(loaded(batch), source(batch))
    assert torch.equal(loaded.encode_text(["a cat"]), source.encode_text(["a cat"]))


def test_a_file_says_how_its_images_looked_by_the_config_beside_it(tmp_path, caplog):
    file = tmp_path / "mine.pt"
    torch.save(build_clip("nano", "random").net.state_dict(), file)
    usual = build_clip("nano", str(file)).preprocess
    assert usual.mean == open_clip.OPENAI_DATASET_MEAN and "normalised" not in caplog.text  # it has no others
    cfg = {"mean": [0.5, 0.5, 0.4], "std": [0.25, 0.5, 0.5], "interpolation": "bilinear", "resize_mode": "squash"}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {}, "preprocess_cfg": cfg}))
    told = build_clip("nano", str(file)).preprocess
    assert (told.mean, told.std, told.interpolation) == ((0.5, 0.5, 0.4), (0.25, 0.5, 0.5), "bilinear")
    assert (told.size, told.crop_pct) == (usual.size, usual.crop_pct)
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"open_clip_config\.json: does not say how images are to look"):
        build_clip("nano", str(file))


def test_weights_that_may_have_looked_otherwise_are_told_of(tmp_path, caplog):
    usual = Preprocess(224, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    assert clip_models._look_of(tmp_path / "a.pt", "ViT-B-32", usual) is usual and not caplog.records
    assert clip_models._look_of(tmp_path / "a.pt", "ViT-L-14", usual) is usual
    assert "taken for mean 0.481, 0.458, 0.408, but weights of 'ViT-L-14' such as 'laion2b_s32b_b82k'" in caplog.text


def test_a_file_of_another_architecture_is_refused(tmp_path):
    torch.save(build_clip("nano-timm", "random").net.state_dict(), tmp_path / "other.pt")
    ours = {f"net.{name}": value for name, value in build_clip("nano", "random").net.state_dict().items()}
    save_file(ours, tmp_path / "ours.safetensors")
    cases = (("nano", "other.pt"), ("nano-timm", "ours.safetensors"), ("tiny_clip", "ours.safetensors"))
    for name, file in cases:
        with pytest.raises(WeightsError, match="does not fit") as caught:
            build_clip(name, str(tmp_path / file))
        assert file in str(caught.value)
        assert "\n" not in str(caught.value)


@torch.no_grad()
def test_a_folder_with_architecture_and_weights(tmp_path, batch):
    source = build_clip("nano", "random").eval()
    save_file(source.net.state_dict(), tmp_path / "open_clip_model.safetensors")
    look = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear"}
    about = {"model_cfg": CONFIGS["nano"], "preprocess_cfg": look}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(about))
    loaded = build_clip(f"local-dir:{tmp_path}").eval()
    assert torch.equal(loaded(batch), source(batch))
    assert loaded.preprocess.mean == (0.1, 0.2, 0.3)
    assert (loaded.preprocess.size, loaded.preprocess.interpolation) == (32, "bilinear")
    with pytest.raises(WeightsError, match="local-dir:/no/such"):
        build_clip("local-dir:/no/such")


@torch.no_grad()
def test_a_locked_tower_beside_a_text_tower(small_lit, batch):
    torch.manual_seed(0)
    backbone = build_clip("lit:test_vit", "random", 32).eval()
    assert backbone(batch).shape == (2, 64)
    assert backbone.encode_text(["a cat", "a dog", "a cow"]).shape == (3, 64)
    tower = backbone.net.visual.trunk
    assert torch.equal(backbone(batch), tower.forward_head(tower.forward_features(batch), pre_logits=True))
    assert (backbone.dim, len(backbone.blocks), backbone.preprocess.size) == (64, 6, 32)


@torch.no_grad()
def test_files_of_a_locked_tower_alone_and_of_both(small_lit, tmp_path, batch):
    torch.manual_seed(0)
    source = build_clip("lit:test_vit", "random", 32).eval()
    torch.save(source.net.visual.trunk.state_dict(), tmp_path / "tower.pt")
    tower = build_clip("lit:test_vit", str(tmp_path / "tower.pt"), 32).eval()
    assert torch.equal(tower(batch), source(batch))
    assert not torch.equal(tower.encode_text(["cat"]), source.encode_text(["cat"]))
    both = {f"net.{name}": value for name, value in source.net.state_dict().items()}
    save_file(both, tmp_path / "both.safetensors")
    whole = build_clip("lit:test_vit", str(tmp_path / "both.safetensors"), 32).eval()
    assert torch.equal(whole(batch), source(batch))
    assert torch.equal(whole.encode_text(["cat"]), source.encode_text(["cat"]))
