"""torchvision's towers, their classifier as rows of named classes, adapters in their blocks."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torchvision.models import VisionTransformer, ViT_B_32_Weights, ViT_L_16_Weights

from convs.adapter import inject_adapters
from convs.factory import build_backbone
from convs.heads import LinearHead
from convs.lora import inject_lora, lora_places
from convs.model import Model
from convs.torchvision_vit import TorchvisionBackbone, build_torchvision_vit
from convs.vit import TINY_PREPROCESS
from data.transforms import test_transform as plain_transform
from utils.checkpoint import write_tensors
from utils.errors import WeightsError
from utils.imagenet import imagenet_names

NAME = "torchvision:vit_b_32"


def small(**options) -> VisionTransformer:
    net = VisionTransformer(
        **{"image_size": 64, "patch_size": 32, "num_layers": 2, "num_heads": 4} | options, hidden_dim=32, mlp_dim=64
    )
    torch.nn.init.normal_(net.heads.head.weight)
    torch.nn.init.normal_(net.heads.head.bias)
    return net.eval()


@pytest.fixture(autouse=True)
def small_nets(monkeypatch):
    """The architecture behind every name at a size for tests."""
    monkeypatch.setattr(
        "convs.torchvision_vit.get_model", lambda name, weights, image_size: small(image_size=image_size)
    )


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(3)
    return small()


@pytest.fixture(scope="module")
def batch():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def file(source, tmp_path):
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@torch.no_grad()
def test_a_feature_is_what_the_classifier_was_given(source, batch, tmp_path, suffix):
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(source.state_dict(), path)
    backbone = build_backbone(NAME, str(path), 64).eval()
    features = backbone(batch)
    assert features.shape == (2, backbone.dim) and len(backbone.blocks) == 2 and backbone.scale is None
    torch.testing.assert_close(source.heads(features), source(batch))
    torch.testing.assert_close(features, source.encoder(tokens(source, batch))[:, 0])


def tokens(net, batch):
    patches = net.conv_proj(batch).flatten(2).transpose(1, 2)
    return torch.cat([net.class_token.expand(len(batch), -1, -1), patches], dim=1)


def test_published_names_of_the_mlp_are_known(source, batch, tmp_path):
    """The files that torchvision offers are older than its own code."""
    old = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): value
        for name, value in source.state_dict().items()
    }
    torch.save(old, tmp_path / "old.pth")
    backbone = build_torchvision_vit(NAME, str(tmp_path / "old.pth"), 64).eval()
    with torch.no_grad():
        torch.testing.assert_close(source.heads(backbone(batch)), source(batch))


@pytest.mark.parametrize(("name", "published"), [(NAME, ViT_B_32_Weights), ("torchvision:vit_l_16", ViT_L_16_Weights)])
def test_the_input_is_what_torchvision_makes_of_an_image(name, published):
    look = build_torchvision_vit(name, "random").preprocess
    image = torch.randint(256, (3, 310, 270), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours = look.normalised(plain_transform(look.size, look.interpolation, look.crop_pct)(image))
    torch.testing.assert_close(ours, published.IMAGENET1K_V1.transforms()(image), atol=0.02, rtol=0)


def test_position_embeddings_are_resampled(source, file):
    backbone = build_torchvision_vit(NAME, file, 128)
    assert backbone.net.encoder.pos_embedding.shape == (1, 17, 32) and backbone.preprocess.size == 128
    assert torch.equal(backbone.net.encoder.pos_embedding[0, 0], source.encoder.pos_embedding[0, 0])


def test_names_sizes_and_files_that_do_not_fit(tmp_path, source, file):
    with pytest.raises(WeightsError, match=r"'torchvision:vit_b_61' is unknown; did you mean 'vit_b_16'"):
        build_torchvision_vit("torchvision:vit_b_61")
    with pytest.raises(WeightsError, match=r"'img_size': 100 is no multiple of 32"):
        build_torchvision_vit(NAME, "random", 100)
    for change in ({"more": torch.zeros(1)}, {"encoder.ln.weight": torch.zeros(5)}, {"encoder.pos_embedding": None}):
        state = {name: value for name, value in (source.state_dict() | change).items() if value is not None}
        torch.save(state, tmp_path / "wrong.pth")
        with pytest.raises(WeightsError, match=r"wrong\.pth: does not fit this ViT") as caught:
            build_torchvision_vit(NAME, str(tmp_path / "wrong.pth"), 64)
        assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="no such weights file"):
        build_torchvision_vit(NAME, str(tmp_path / "none.pth"))


def test_a_failed_download_says_what_to_do(monkeypatch):
    def fail(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(WeightsError, match=r"torchvision:vit_b_32 could not be downloaded.*/path/to/vit_b_32\.pth"):
        build_torchvision_vit(NAME)


def test_a_download_is_loaded_with_its_classifier(monkeypatch, source):
    asked = []
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda url, **_: asked.append(url) or source.state_dict()
    )
    backbone = build_torchvision_vit(NAME, None, 64).eval()
    assert asked == [ViT_B_32_Weights.IMAGENET1K_V1.url]
    assert len(backbone.trained_heads["fine"].names) == 1000


@torch.no_grad()
def test_a_file_of_the_pretrain_learner(source, batch, tmp_path):
    tower = {f"net.{name}": value for name, value in source.state_dict().items() if not name.startswith("heads.")}
    path = tmp_path / "ours.safetensors"
    write_tensors(path, tower | {"heads.fine": torch.ones(2, 32)}, {"classes": '{"fine": ["cat", "dog"]}'})
    backbone = build_torchvision_vit(NAME, str(path), 64).eval()
    torch.testing.assert_close(source.heads(backbone(batch)), source(batch))
    assert backbone.trained_heads["fine"].names == ("cat", "dog")


# the head cut to some classes, and restored for the others


@torch.no_grad()
def test_some_recalled_classes_have_the_classifiers_own_logits_and_so_have_the_others(source, batch, file):
    model = Model(build_torchvision_vit(NAME, file, 64)).eval()
    everything = list(imagenet_names().values())
    places = torch.randperm(1000, generator=torch.Generator().manual_seed(1))
    some, others = places[:100], places[100:]
    model.recall("fine", [everything[place] for place in some])
    output, expected = model(batch), source(batch)
    torch.testing.assert_close(output.logits["fine"], expected[:, some], rtol=1e-5, atol=1e-5)
    assert isinstance(model.head("fine"), LinearHead) and model.rows()["fine"].shape == (100, 33)
    rows = {"fine": model.known_rows("fine", [everything[place] for place in others])}
    restored = model.logits(output.features, rows)["fine"]
    torch.testing.assert_close(restored, expected[:, others], rtol=1e-5, atol=1e-5)


def test_the_names_are_in_the_order_of_torchvisions_classifier():
    """Its categories are lemmas of the synsets that we name, two misspelt ones aside."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    categories = ViT_B_32_Weights.IMAGENET1K_V1.meta["categories"]
    lemmas = [info.label_name_to_description(wnid).split(", ") for wnid in imagenet_names()]
    assert sum(one in some for one, some in zip(categories, lemmas, strict=True)) == 998
    assert list(imagenet_names()) == sorted(imagenet_names())


def test_a_classifier_of_unknown_classes_brings_no_rows(tmp_path):
    torch.save(small(num_classes=10).state_dict(), tmp_path / "ten.pth")
    assert build_torchvision_vit(NAME, str(tmp_path / "ten.pth"), 64).trained_heads == {}
    assert build_torchvision_vit(NAME, "random", 64).trained_heads == {}


# what is put into the blocks


@torch.no_grad()
def test_a_parallel_adapter_stands_beside_the_mlp():
    torch.manual_seed(0)
    backbone = TorchvisionBackbone(small(), TINY_PREPROCESS).eval()
    inject_adapters(backbone.blocks, bottleneck=4, scale=0.5)
    for block in backbone.blocks:
        torch.nn.init.normal_(block.adapter.up.weight)
        x = torch.randn(2, 5, 32)
        normed = block.ln_1(x)
        x_mid = x + block.self_attention(normed, normed, normed, need_weights=False)[0]
        beside = 0.5 * block.adapter.up(F.relu(block.adapter.down(x_mid)))
        torch.testing.assert_close(block(x), x_mid + block.mlp(block.ln_2(x_mid)) + beside)


@pytest.mark.parametrize(
    ("position", "names"),
    [("ffn", ["mlp.0.weight", "mlp.3.weight"]), ("attention", ["self_attention.in_proj_weight"])],
)
def test_loras_stand_beside_its_own_weights(position, names):
    backbone = TorchvisionBackbone(small(), TINY_PREPROCESS)
    inject_lora(backbone, position=position)
    expected = [f"encoder.layers.encoder_layer_{number}.{name}" for number in range(2) for name in names]
    assert [place.name for place in lora_places(backbone)] == expected
