"""Continual forgetting by replay: what a request must grant, what the teacher says, and what never moves."""

import pytest
import torch

from models.replay import ReplayLearner
from tests.models.replaying import LEVELS, REPLAYS, built, ce_by_hand, copied, kd_by_hand, served
from tests.models.requests import (
    NAMES,
    REQUESTS,
    cut,
    differing,
    forget,
    frozen_copy,
    knowing,
    learn,
    shipped,
    step_through,
)
from utils.errors import ConfigError

METHODS = ("lwf", "der", "der_pp", "fdr", "lirf", "scrub", "scrub_s")


class Still(ReplayLearner):
    """Does nothing."""

    def phases(self, session):
        """None."""
        return iter(())


@pytest.fixture
def still(recipe):
    """A function that makes a learner over a model."""
    return lambda model: Still(model, recipe(), recipe(), recipe())


def every(stream, size: int = 5, seed: int = 1) -> dict[int, dict[str, torch.Tensor]]:
    """A pass of a stream: item → its fields."""
    found = {}
    for batch in stream.batches(size, seed):
        for place, item in enumerate(batch["item"].tolist()):
            found[item] = {name: value[place] for name, value in batch.items()}
    return found


@pytest.mark.parametrize("backbone", ["tiny_vit", "tiny_clip"])
@pytest.mark.parametrize("level", REPLAYS)
@torch.no_grad()
def test_each_image_comes_with_what_the_model_said_of_it(toymini, still, level, backbone):
    session, model = served(toymini, level, backbone)
    learner, before = still(model), copied(model)
    streams = {name: learner.taught(session, name) for name in ("forget", "retain")}
    for parameter in learner.part:
        parameter.mul_(1.5)
    for name, stream in streams.items():
        plain = every(session.stream({"forget": "plain", "retain": "retain_plain"}[name]))
        found = every(stream)
        assert set(found) == set(plain) and len(stream) == len(plain)
        for item, row in found.items():
            assert torch.equal(row["image"], plain[item]["image"]) and row["fine"] == plain[item]["fine"]
            feature = before.backbone(row["image"][None])[0].double()
            torch.testing.assert_close(row["teacher.feature"].double(), feature, atol=1e-4, rtol=1e-4)
            for k in LEVELS[level]:
                rows = before.rows()[k].double()
                cosines = [(feature @ each / feature.norm() / each.norm()).item() for each in rows]
                logits = torch.tensor(cosines) * float(before.scale)
                torch.testing.assert_close(row[f"teacher.{k}"], logits, atol=2e-3, rtol=1e-4)
            assert {key for key in row if "." in key} == {"teacher.feature"} | {
                f"{kind}.{k}" for kind in ("teacher", "wrong") for k in LEVELS[level]
            }


def test_wrong_labels_are_never_right_and_drawn_once(toymini, still):
    session, model = served(toymini, "coarse", "tiny_vit")
    learner = still(model)
    torch.manual_seed(3)
    first, again = (learner.taught(session, "forget") for _ in range(2))
    passes = [{i: wrong(row) for i, row in every(first, size, seed).items()} for size, seed in ((5, 1), (3, 2))]
    assert passes[0] == passes[1] and len(passes[0]) == 6
    assert passes[0] != {i: wrong(row) for i, row in every(again).items()}  # another draw of the random numbers
    torch.manual_seed(3)
    assert passes[0] == {i: wrong(row) for i, row in every(learner.taught(session, "forget")).items()}
    for row in every(first).values():
        assert row["wrong.fine"] != row["fine"] and 0 <= row["wrong.fine"] < len(NAMES)
        assert row["wrong.coarse"] != row["coarse"] and 0 <= row["wrong.coarse"] < 4


def wrong(row) -> tuple[int, int]:
    return row["wrong.fine"].item(), row["wrong.coarse"].item()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (REQUESTS["fine"], r"session 0 shows no image of what is to stay.*\"retain\": \{\"ratio\": 0.1\}"),
        (REQUESTS["hybrid"].model_copy(update={"retain": "all"}), "session 0 is hybrid.*two requests"),
        (forget(*NAMES, retain="all"), "session 0 leaves no class.*forget fewer.*'hinge'"),
    ],
)
def test_what_it_cannot_serve_is_refused_in_one_line(toymini, still, request_, message):
    manager = cut(toymini, request_)
    (session,), learner = manager.sessions(), still(shipped("tiny_vit"))
    with pytest.raises(ConfigError, match=message) as caught:
        learner.check(session)
    assert "\n" not in str(caught.value)


def test_what_it_can_serve_is_not_refused(toymini, still):
    learner = still(shipped("tiny_vit"))
    for session in cut(toymini, REPLAYS["fine"], learn("Veltro Arrow"), REPLAYS["coarse"]).sessions():
        assert learner.check(session) is None


def test_the_levels_follow_from_the_request_and_the_names(toymini, still, draw_set, tmp_path, tiny_model):
    for level in REPLAYS:
        session, model = served(toymini, level, "tiny_vit")
        assert still(model).levels(session) == LEVELS[level]
    flat = draw_set(tmp_path / "flat", classes=[(name, name) for name in ("ash", "elm", "oak")])
    manager = cut(flat, forget("elm", level="coarse", retain="all"), exclude=())
    model = tiny_model()
    model.grow("fine", manager.order.fine)
    assert still(model).levels(manager.sessions()[0]) == ("fine",)


@torch.no_grad()
def test_one_pass_for_all_streams_says_the_same(toymini, still):
    session, model = served(toymini, "fine", "tiny_vit")
    batches = {name: next(session.stream(name).batches(size, 0)) for name, size in (("forget", 3), ("retain", 5))}
    passes = []
    model.backbone.register_forward_hook(lambda *_: passes.append(1))
    found = still(model).outputs(batches)
    assert passes == [1] and list(found) == ["forget", "retain"]
    for name, output in found.items():
        alone = model(batches[name]["image"])
        torch.testing.assert_close(output.features, alone.features)
        for level in ("fine", "coarse"):
            torch.testing.assert_close(output.logits[level], alone.logits[level])


@pytest.mark.parametrize("level", REPLAYS)
@torch.no_grad()
def test_ce_and_kd_are_summed_over_the_levels(toymini, still, level):
    session, model = served(toymini, level, "tiny_vit")
    learner, teacher = still(model), copied(model)
    batch = next(learner.taught(session, "retain").batches(6, 0))
    for parameter in learner.part:
        parameter.mul_(1.1)
    output, before = model(batch["image"]), teacher(batch["image"])
    for prefix in ("", "wrong."):
        expected = ce_by_hand(output, batch, LEVELS[level], prefix)
        assert learner.ce(session, output, batch, prefix).item() == pytest.approx(expected, rel=1e-5)
    expected = sum(kd_by_hand(output.logits[k], before.logits[k], 2.0) for k in LEVELS[level])
    assert expected > 1e-3
    assert learner.kd(session, output, batch, 2.0).item() == pytest.approx(expected, rel=1e-4)


def test_images_of_missing_classes_are_not_replayed(toymini, still):
    request = REPLAYS["fine"].model_copy(update={"missing": 2})
    manager = cut(toymini, request)
    session, model = manager.sessions()[0], knowing(shipped("tiny_vit"), manager)
    rows = every(still(model).taught(session, "retain")).values()
    shown = {row["fine"].item() for row in rows}
    assert shown == set(session.alive) - set(session.missing) and len(session.missing) == 2 and len(rows) == 4


@pytest.mark.parametrize(("backbone", "level"), [("tiny_vit", "fine"), ("tiny_clip", "coarse")])
@pytest.mark.parametrize("name", METHODS)
def test_only_the_image_tower_moves(toymini, name, level, backbone):
    session, model = served(toymini, level, backbone)
    learner, before = built(name, model), frozen_copy(model)
    learner.check(session)
    assert step_through(learner, session) == ["forget"]
    moved = differing(model, before)
    tower = "backbone.net.visual." if backbone == "tiny_clip" else "backbone.net."
    assert moved and all(each.startswith(tower) for each in moved)
    assert moved <= {each for each, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(learner.state_dict()) >= moved
    assert 0 < learner.tunable_ratio() < 1


@pytest.mark.parametrize("name", METHODS)
def test_the_settings_reach_the_learner(toymini, name):
    _, model = served(toymini, "fine", "tiny_vit")
    usual = {"lwf": (0.5, 10), "der": (0.01,), "der_pp": (0.005, 0.005), "fdr": (50,)}
    usual |= {"lirf": (300, 5), "scrub": (None, 0.99), "scrub_s": (0.05, 0.99)}
    keys = [key for key, value in zip(("reg_weight", "retain_weight"), usual[name], strict=False) if value is not None]
    assert [getattr(built(name, model), key) for key in keys] == [value for value in usual[name] if value is not None]
    learner = built(name, model, **dict.fromkeys(keys, 0.0))
    assert all(getattr(learner, key) == 0.0 for key in keys)
