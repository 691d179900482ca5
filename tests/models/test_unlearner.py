"""The baselines of unlearning: which loss sees which logits, and what a request leaves behind."""

import pytest
import torch

from models import get_model
from models.unlearn_losses import LOSSES, build_loss
from models.unlearner import Unlearner
from tests.models.requests import (
    ABSENT,
    ARROW,
    BOLT,
    NAMES,
    REQUESTS,
    SUMMIT,
    VELTRO,
    by_hand,
    cut,
    differing,
    encoded,
    forget,
    frozen_copy,
    hybrid,
    knowing,
    learn,
    shipped,
    step_through,
    text_rows,
    top1,
)
from utils.errors import ConfigError
from utils.loop import Phase

PLAIN = ("ga", "gdiff", "kl", "npo", "hinge", "relabeling", "me")


@pytest.fixture
def build(recipe):
    """A function that makes an unlearner by name over a model; two steps unless said otherwise."""

    def make(name: str, model, **options) -> Unlearner:
        forget = options.pop("forget", None) or recipe(epochs=2, lr=1e-3, optimizer="adamw", weight_decay=0.1)
        return get_model(name, model, first=recipe(), later=recipe(), forget=forget, **options)

    return make


def first_phase(learner: Unlearner, session) -> Phase:
    torch.manual_seed(3)
    return next(learner.phases(session))


@torch.no_grad()
def shaken(model) -> None:
    """Every weight of the towers a little different, as in the midst of training."""
    dice = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if not name.startswith("heads.") and not name.endswith("logit_scale"):
            parameter.add_(0.05 * parameter.std(correction=0) * torch.randn(parameter.shape, generator=dice))


@pytest.mark.parametrize("request_level", REQUESTS)
def test_the_losses_over_a_vit(toymini, build, request_level):
    manager = cut(toymini, REQUESTS[request_level])
    session, model = manager.sessions()[0], knowing(shipped("tiny_vit"), manager)
    phases = {name: first_phase(build(name, model), session) for name in PLAIN}
    batches = {name: next(phase.streams["forget"].batches(9, 1)) for name, phase in phases.items()}
    image = batches["ga"]["image"]
    with torch.no_grad():
        original = model(image).logits
        shaken(model)
        logits = model(image).logits
        found = {name: phase.loss({"forget": batches[name]}) for name, phase in phases.items()}
    assert (logits["fine"] - original["fine"]).abs().max() > 0.05
    for name, terms in found.items():
        assert torch.equal(batches[name]["image"], image)
        expected = by_hand(build_loss(name), session, logits, original, batches[name])
        assert {key: value.item() for key, value in terms.items()} == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("request_level", REQUESTS)
def test_a_clip_words_its_names_by_one_template_a_step(toymini, build, request_level):
    manager = cut(toymini, REQUESTS[request_level])
    session, model = manager.sessions()[0], knowing(shipped("tiny_clip"), manager)
    learner = build("hinge", model, kl_fine=3.0, kl_coarse=7.0, margin_fine=1.5, margin_coarse=2.5)
    rule = build_loss("hinge", kl_fine=3.0, kl_coarse=7.0, margin_fine=1.5, margin_coarse=2.5)
    phase = first_phase(learner, session)
    batch = next(phase.streams["forget"].batches(9, 1))
    names, scale = {"fine": session.order.fine, "coarse": session.order.coarse}, model.scale
    with torch.no_grad():
        image = torch.nn.functional.normalize(model.backbone(batch["image"]), dim=-1)
        original = {level: scale * image @ rows.T for level, rows in text_rows(model, names).items()}
        shaken(model)
        image = torch.nn.functional.normalize(model.backbone(batch["image"]), dim=-1)
        expected = []
        for template in model.templates:
            logits = {level: scale * image @ rows.T for level, rows in text_rows(model, names, template).items()}
            expected.append(by_hand(rule, session, logits, original, batch))
        steps = [phase.loss({"forget": batch}) for _ in range(12)]
    used = set()
    for terms in steps:
        near = [i for i, one in enumerate(expected) if terms["forget"].item() == pytest.approx(one["forget"], rel=1e-4)]
        assert len(near) == 1
        assert terms["keep"].item() == pytest.approx(expected[near[0]]["keep"], rel=1e-3)
        used |= set(near)
    assert used == {0, 1}


@pytest.mark.parametrize("tune", ["all", "text", "image", "adapter"])
def test_the_rows_are_worded_anew_where_the_text_tower_moved(toymini, build, tune):
    manager = cut(toymini, REQUESTS["fine"])
    session, model = manager.sessions()[0], knowing(shipped("tiny_clip"), manager)
    before = {level: rows.detach().clone() for level, rows in model.rows().items()}
    learner = build("hinge", model, tune=tune)
    assert step_through(learner, session) == ["forget"]
    now = text_rows(model, {"fine": session.order.fine, "coarse": session.order.coarse})
    for level, rows in model.rows().items():
        assert torch.equal(rows, before[level]) == (tune in ("image", "adapter"))
        torch.testing.assert_close(rows.detach(), now[level], atol=1e-5, rtol=1e-4)


def test_a_frozen_image_tower_is_asked_once(toymini, build):
    manager = cut(toymini, REQUESTS["fine"])
    session, model = manager.sessions()[0], knowing(shipped("tiny_clip"), manager)
    learner = build("kl", model, tune="text")
    features = encoded(learner, session)
    phase = first_phase(learner, session)
    rows = [batch for seed in (1, 2) for batch in phase.streams["forget"].batches(5, seed)]
    assert all("image" not in batch for batch in rows) and len(phase.streams["forget"]) == len(features)
    orders = torch.cat([batch["feature"] for batch in rows]).split(len(features))
    assert not torch.equal(*orders)  # shuffled
    labels = session.stream("plain").labels("fine")
    for batch in rows:
        for feature, label in zip(batch["feature"], batch["fine"], strict=True):
            place = (features - feature).norm(dim=1).argmin()
            torch.testing.assert_close(feature, features[place])
            assert labels[place] == label


def test_wrong_names_are_drawn_once_and_never_right(toymini, build):
    manager = cut(toymini, REQUESTS["hybrid"])
    session, model = manager.sessions()[0], knowing(shipped("tiny_vit"), manager)
    phase = first_phase(build("relabeling", model), session)
    passes = [set().union(*map(told, phase.streams["forget"].batches(7, seed))) for seed in (1, 2)]
    assert passes[0] == passes[1] and len(passes[0]) == len(phase.streams["forget"])
    for batch in phase.streams["forget"].batches(100, 0):
        for level, count in (("fine", 8), ("coarse", 4)):
            wrong = batch[f"wrong.{level}"]
            assert (wrong != batch[level]).all() and wrong.min() >= 0 and wrong.max() < count
    torch.manual_seed(4)
    other = next(build("relabeling", model).phases(session))  # the same request, with another seed
    assert passes[0] != set().union(*map(told, other.streams["forget"].batches(7, 1)))


def told(batch) -> set[tuple[int, int, int]]:
    """Each item with its wrong labels."""
    fields = (batch[name].tolist() for name in ("item", "wrong.fine", "wrong.coarse"))
    return set(zip(*fields, strict=True))


def test_each_exemplar_has_the_goal_of_its_concept(toymini, build):
    manager = cut(toymini, REQUESTS["hybrid"])
    session, model = manager.sessions()[0], knowing(shipped("tiny_vit"), manager)
    phase = first_phase(build("hinge", model), session)
    for batch in phase.streams["forget"].batches(100, 0):
        assert torch.equal(batch["goal"], (batch["coarse"] == VELTRO).long())  # 1: the parent too
        assert set(batch["fine"].tolist()) == set(session.classes)


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_clip"])
def test_hinge_forgets_and_keeps_the_rest(toymini, build, recipe, name):
    manager = cut(toymini, REQUESTS["fine"])
    session, model = manager.sessions()[0], knowing(shipped(name), manager)
    learner = build("hinge", model, forget=recipe(epochs=8, lr=1e-4, batch_size=12, optimizer="adamw"))
    assert min(top1(learner, session)) > 0.8
    step_through(learner, session)
    gone, kept = top1(learner, session)
    assert gone <= 0.25 and kept >= 0.8
    assert min(top1(learner, session, "coarse")) >= 0.8


def test_a_second_request_starts_from_the_first(toymini, build):
    manager = cut(toymini, forget("Veltro Arrow"), forget("Ostara Falcon"))
    one, two = manager.sessions()
    model = knowing(shipped("tiny_clip"), manager)
    learner = build("kl", model)
    step_through(learner, one)
    between, rows = frozen_copy(model), text_rows(model, {"fine": NAMES})["fine"]
    phase = first_phase(learner, two)
    batch = next(phase.streams["forget"].batches(6, 0))
    with torch.no_grad():
        image = torch.nn.functional.normalize(model.backbone(batch["image"]), dim=-1)
    torch.testing.assert_close(batch["original.fine"], model.scale * image @ rows.T, atol=1e-3, rtol=1e-4)
    assert not differing(model, between)
    step_through(learner, two)
    assert "heads.fine.rows.0" in differing(model, between)


@pytest.mark.parametrize("level", ["fine", "coarse"])
def test_a_one_level_set_has_one_level_to_forget(draw_set, tmp_path, tiny_model, build, recipe, level):
    flat = draw_set(tmp_path / "flat", classes=[(name, name) for name in ("ash", "elm", "oak")])
    manager = cut(flat, forget("elm", level=level), exclude=())
    session = manager.sessions()[0]
    for name in (*PLAIN, "salun", "task_vector"):
        model = tiny_model()
        model.grow("fine", manager.order.fine)
        before = frozen_copy(model)
        learner = build(name, model.eval(), forget=recipe(lr=1e-3))
        learner.check(session)
        step_through(learner, session)
        assert list(model.rows()) == ["fine"] and differing(model, before)


NEEDY = {"hinge", "relabeling", "salun"}


def test_the_only_parent_has_no_rival(toymini, build):
    others = [each for each in NAMES if not each.startswith("Veltro")]
    manager = cut(toymini, forget("Veltro", level="coarse"), exclude=(*ABSENT, *others))
    session, model = manager.sessions()[0], knowing(shipped("tiny_vit"), manager)
    (fine,) = cut(toymini, forget("Veltro Arrow"), exclude=(*ABSENT, *others)).sessions()
    for name in (*PLAIN, "salun", "task_vector"):
        learner = build(name, model)
        learner.check(fine)
        if name not in NEEDY:
            learner.check(session)
            assert torch.isfinite(sum(one_step(learner, session).values()))
            continue
        with pytest.raises(ConfigError, match=r"session 0.*'Veltro', the only coarse class.*choose one of: ga, gdiff"):
            learner.check(session)


def one_step(learner: Unlearner, session) -> dict[str, torch.Tensor]:
    phase = first_phase(learner, session)
    return phase.loss({"forget": next(phase.streams["forget"].batches(9, 0))})


def test_rivals_are_counted_as_of_the_request(toymini, build):
    manager = cut(toymini, learn("Veltro Arrow"), forget("Veltro Arrow"), learn("Corvane Bolt"), known="none")
    _, request, _ = manager.sessions()
    learner = build("hinge", shipped("tiny_vit"))
    with pytest.raises(ConfigError, match="session 1 asks to forget 'Veltro Arrow', the only fine class"):
        learner.check(request)
    mixed = cut(toymini, hybrid(("Brandle Summit",), ("Corvane",)), known=[NAMES[SUMMIT], NAMES[BOLT]]).sessions()[0]
    learner = build("hinge", knowing(shipped("tiny_vit"), cut(toymini, REQUESTS["fine"])))
    learner.check(mixed)


def test_every_loss_has_a_learner_of_its_own():
    from models import learner_class

    assert set(PLAIN) == set(LOSSES)
    assert {name: learner_class(name).loss for name in PLAIN} == {name: name for name in PLAIN}
    assert all(learner_class(name).kinds == {"forget"} for name in (*PLAIN, "salun", "task_vector", "head_only"))


def test_a_request_that_grants_no_retained_images_gets_along_without(toymini, build):
    manager = cut(toymini, forget("Veltro Arrow", exemplars=2))
    session = manager.sessions()[0]
    with pytest.raises(PermissionError):
        session.stream("retain")
    model = knowing(shipped("tiny_vit"), manager)
    seen = []

    def watch(phase):
        seen.extend(batch["fine"].tolist() for batch in phase.streams["forget"].batches(10, 0))

    step_through(build("me", model), session, before=watch)
    assert seen == [[ARROW, ARROW]]
