"""Making backbones: what moves, what the losses are, and that the files load back."""

import math

import pytest
import torch
from safetensors.torch import load_file

from convs.clip_models import build_clip
from convs.factory import build_backbone
from convs.model import Model
from convs.vit import build_vit
from data.manager import DataManager
from data.transforms import test_transform as plain_transform
from data.transforms import train_transform
from models.pretrain import PretrainLearner
from utils.errors import ConfigError
from utils.requests import LearnRequest
from utils.streams import TensorStream


@pytest.fixture
def session(tiny_sessions):
    return tiny_sessions(4)[0]


@pytest.fixture
def build(tiny_model, recipe):
    def make(name: str, **options) -> PretrainLearner:
        return PretrainLearner(tiny_model(name), recipe(lr=1e-3, optimizer="adamw"), recipe(), **options)

    return make


def parameters(learner, prefix: str = "") -> set[str]:
    return {name for name, _ in learner.model.named_parameters() if name.startswith(prefix)}


def test_a_vit_is_trained_whole_at_both_levels(build, session, train):
    learner = build("tiny_vit")
    checked = []

    @torch.no_grad()
    def watch(phase):
        learner.model.eval()
        batch = next(phase.streams["train"].batches(6, 0))
        terms = phase.loss({"train": batch})
        for level, logits in learner.model(batch["image"]).logits.items():
            by_hand = [
                math.log(math.fsum(map(math.exp, row))) - row[label]
                for row, label in zip(logits.double().tolist(), batch[level].tolist(), strict=True)
            ]
            assert terms[level].item() == pytest.approx(math.fsum(by_hand) / 6, rel=1e-5)
            checked.append((level, logits.shape[1]))

    moved = train(learner, session, watch)
    assert moved == {"supervise": parameters(learner)}
    assert checked == [("fine", 4), ("coarse", 2)]


def test_a_clip_is_trained_whole_and_its_rows_are_worded_afterwards(build, session, train):
    learner = build("tiny_clip")
    before = parameters(learner)
    assert train(learner, session) == {"contrast": before}
    model, order = learner.model, session.order
    with torch.no_grad():
        for level in ("fine", "coarse"):
            expected = model.backbone.name_features(list(getattr(order, level)), model.templates)
            assert torch.equal(model.head(level).weight, expected)


def test_with_a_locked_image_the_text_tower_alone_moves(build, session, train):
    learner = build("tiny_clip", tune="text")
    kinds = []

    @torch.no_grad()
    def watch(phase):
        stream = phase.streams["train"]
        learner.model.eval()
        plain = next(session.stream("plain").batches(1000, 0))
        torch.testing.assert_close(stream.fields["feature"], learner.model.backbone(plain["image"]))
        assert all(torch.equal(stream.fields[level], plain[level]) for level in ("fine", "coarse"))
        kinds.append(type(stream))

    moved = train(learner, session, watch)["contrast"]
    visual = parameters(learner, "backbone.net.visual.")
    assert moved == parameters(learner, "backbone.") - visual
    assert kinds == [TensorStream]
    assert not visual & learner.state_dict().keys()


def test_a_vit_has_no_text_tower_to_tune(build):
    with pytest.raises(ConfigError, match=r"'tune'.*needs a text tower"):
        build("tiny_vit", tune="text")


@pytest.mark.parametrize("tune", ["image", "adapter", "lora"])
def test_no_other_part_is_made_anew(build, tune):
    with pytest.raises(ConfigError, match=rf"key 'tune': learner 'pretrain' trains \"all\" or .*, not \"{tune}\"$"):
        build("tiny_clip", tune=tune)


def test_all_classes_come_in_one_session(build, tiny_sessions, train):
    learner = build("tiny_vit")
    with pytest.raises(ConfigError, match="all classes in one session"):
        train(learner, tiny_sessions(2, 2)[0])


@torch.no_grad()
def test_the_contrast_pairs_images_with_the_names_of_their_classes(build, session):
    learner = build("tiny_clip", alias_share=0.0)
    learner.model.templates = ("{}",)
    phase = next(learner.phases(session))
    learner.model.eval()
    batch = next(phase.streams["train"].batches(9, 0))
    terms = phase.loss({"train": batch})
    images = learner.model.backbone(batch["image"])
    for level, fewest in (("fine", 3), ("coarse", 2)):
        labels = batch[level].tolist()
        present = sorted(set(labels))
        assert len(present) >= fewest
        texts = learner.model.backbone.encode_text([getattr(session.order, level)[label] for label in present])
        positive = [[label == other for other in present] for label in labels]
        expected = contrast(images.double(), texts.double(), positive, learner.model.backbone.scale.item())
        assert terms[level].item() == pytest.approx(expected, rel=1e-4)


def contrast(images: torch.Tensor, texts: torch.Tensor, positive: list[list[bool]], scale: float) -> float:
    """Half the two directions' mean cross-entropies against the uniform distribution over the positives."""
    logits = [[scale * torch.cosine_similarity(i, t, dim=0).item() for t in texts] for i in images]

    def direction(rows, hits) -> float:
        losses = []
        for row, hit in zip(rows, hits, strict=True):
            total = math.log(math.fsum(map(math.exp, row)))
            losses.append(math.fsum(total - z for z, true in zip(row, hit, strict=True) if true) / sum(hit))
        return math.fsum(losses) / len(losses)

    return (direction(logits, positive) + direction(list(zip(*logits)), list(zip(*positive)))) / 2  # noqa: B905


@pytest.mark.parametrize("share", [0.0, 1.0])
@torch.no_grad()
def test_classes_go_by_their_aliases_as_often_as_asked(build, session, monkeypatch, share):
    learner = build("tiny_clip", alias_share=share)
    heard = []
    encode = learner.model.backbone.encode_text
    monkeypatch.setattr(learner.model.backbone, "encode_text", lambda texts: heard.extend(texts) or encode(texts))
    phase = next(learner.phases(session))
    phase.loss({"train": next(phase.streams["train"].batches(100, 0))})
    order = session.order
    names = [other for name in order.fine for other in order.aliases[name]] if share else order.fine
    wordings = {template.format(name) for name in (*names, *order.coarse) for template in learner.model.templates}
    assert len(heard) == 4 + 2
    assert set(heard) <= wordings


def halved(net) -> dict[str, torch.Tensor]:
    state = net.state_dict().items()
    return {name: value.half().float() if value.is_floating_point() else value for name, value in state}


def saved(learner, session, folder):
    ((name, write),) = learner.products(session).items()
    assert name == "weights.safetensors"
    write(folder / name)
    tensors = load_file(folder / name)
    assert {value.dtype for value in tensors.values() if value.is_floating_point()} == {torch.float16}
    return str(folder / name)


def assert_same(net, expected: dict[str, torch.Tensor]) -> None:
    assert net.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in net.state_dict().items())


def test_a_vits_file_loads_back_with_its_rows(build, session, train, tmp_path):
    learner = build("tiny_vit")
    train(learner, session)
    backbone = build_vit("tiny_vit", saved(learner, session, tmp_path))
    assert_same(backbone.net, halved(learner.model.backbone.net))
    assert {level: head.names for level, head in backbone.trained_heads.items()} == {
        "fine": session.order.fine,
        "coarse": session.order.coarse,
    }
    for level, head in backbone.trained_heads.items():
        assert torch.equal(head.rows, learner.model.head(level).weight.half().float())


def test_a_clips_file_loads_back(build, session, train, tmp_path):
    learner = build("tiny_clip")
    train(learner, session)
    backbone = build_clip("tiny_clip", saved(learner, session, tmp_path))
    assert_same(backbone.net, halved(learner.model.backbone.net))
    assert backbone.trained_heads == {}


def test_a_locked_towers_file_loads_back(small_lit, recipe, session, train, tmp_path):
    backbone = build_clip("lit:test_vit", "random", 64)
    learner = PretrainLearner(Model(backbone), recipe(), recipe(), tune="text")
    moved = train(learner, session)["contrast"]
    assert moved and not any(".visual." in name for name in moved)
    loaded = build_clip("lit:test_vit", saved(learner, session, tmp_path), 64)
    assert_same(loaded.net, halved(backbone.net))


def first_terms(learner, session) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The losses of the first phase's first batch, and the batch, and the model's logits of it."""
    phase = next(learner.phases(session))
    learner.model.eval()
    batch = next(phase.streams["train"].batches(6, 0))
    return phase.loss({"train": batch}), batch, learner.model(batch["image"]).logits


@torch.no_grad()
def test_without_a_margin_it_is_the_cross_entropy_to_the_last_bit(build, session):
    terms, batch, logits = first_terms(build("tiny_vit"), session)
    assert terms.keys() == {"fine", "coarse"}
    for level, value in terms.items():
        assert torch.equal(value, torch.nn.functional.cross_entropy(logits[level], batch[level]))


@pytest.mark.parametrize(
    ("head", "margin", "used"), [("cosface", 0.0, 0.35), ("cosface", 0.1, 0.1), ("arcface", 0.0, 0.5)]
)
@torch.no_grad()
def test_a_margin_head_raises_the_loss_of_both_levels_and_leaves_the_logits(build, session, head, margin, used):
    terms, batch, logits = first_terms(build("tiny_vit", margin_head=head, margin=margin), session)
    for level, value in terms.items():
        total = 0.0
        for row, label in zip(logits[level].double().tolist(), batch[level].tolist(), strict=True):
            cosine = row[label] / 20
            lowered = list(row)
            lowered[label] = 20 * (cosine - used if head == "cosface" else math.cos(math.acos(cosine) + used))
            total += math.log(math.fsum(map(math.exp, lowered))) - lowered[label]
        assert value.item() == pytest.approx(total / 6, rel=1e-5)


@torch.no_grad()
def test_sface_weighs_every_cosine(build, session):
    terms, batch, logits = first_terms(build("tiny_vit", margin_head="sface"), session)
    total = 0.0
    for row, label in zip(logits["fine"].double().tolist(), batch["fine"].tolist(), strict=True):
        for column, logit in enumerate(row):
            angle = math.acos(logit / 20)
            pull, push = 1 / (1 + math.exp(-80 * (angle - 0.8))), 1 / (1 + math.exp(80 * (angle - 1.22)))
            total += -pull * logit if column == label else push * logit
    assert terms["fine"].item() == pytest.approx(total / 6, rel=1e-3)  # the steep sigmoids see the fp32 angles


@pytest.mark.parametrize("head", ["cosface", "arcface", "sface"])
def test_every_margin_head_trains(build, session, train, head):
    learner = build("tiny_vit", margin_head=head)
    assert train(learner, session) == {"supervise": parameters(learner)}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tiny_vit", {"margin_head": "cosfce"}, "key 'margin_head': no head 'cosfce'; did you mean 'cosface'"),
        ("tiny_vit", {"margin_head": "sface", "margin": 0.2}, "key 'margin': the head 'sface' has no margin"),
        ("tiny_vit", {"margin": 0.2}, "key 'margin': the head 'softmax' has no margin"),
        ("tiny_clip", {"margin_head": "arcface"}, "key 'margin_head': an image–text model is trained by contrast"),
    ],
)
def test_heads_and_margins_that_do_not_go_together(build, name, options, message):
    with pytest.raises(ConfigError, match=message):
        build(name, **options)


@pytest.fixture
def one_level(draw_set, tmp_path):
    """A session over classes whose coarse names are their fine ones."""
    indexed = draw_set(tmp_path, (("ann", "ann"), ("bo", "bo"), ("cy", "cy")))
    look = (64, "bilinear")
    transforms = {"train": train_transform(*look), "test": plain_transform(*look, 1.0)}
    return DataManager(indexed, [LearnRequest(classes=3)], shuffle=False, **transforms).sessions()[0]


def test_where_both_levels_have_the_same_names_one_is_trained(build, one_level, train, tmp_path):
    learner = build("tiny_vit", margin_head="cosface")
    assert train(learner, one_level) == {"supervise": parameters(learner)}
    assert {level: len(head) for level, head in learner.model.heads.items()} == {"fine": 3, "coarse": 0}
    heads = build_vit("tiny_vit", saved(learner, one_level, tmp_path)).trained_heads
    assert {level: head.names for level, head in heads.items()} == {"fine": ("ann", "bo", "cy")}


def test_a_face_transformer_is_trained_and_loads_back(recipe, one_level, train, tmp_path):
    torch.manual_seed(0)
    model = Model(build_backbone("face_vit_small", "random", 64), scale=64.0)
    learner = PretrainLearner(model, recipe(lr=1e-3, optimizer="adamw"), recipe(), margin_head="arcface")
    assert train(learner, one_level) == {"supervise": parameters(learner)}
    backbone = build_backbone("face_vit_small", saved(learner, one_level, tmp_path), 64)
    assert_same(backbone.net, halved(model.backbone.net))
    assert backbone.trained_heads.keys() == {"fine"}
