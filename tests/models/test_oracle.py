"""The oracle: its weights and its rows take over, what it never saw stays a candidate, and what it must not be."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import trainer
from convs.factory import build_backbone
from convs.model import Model
from models.oracle import OracleLearner
from tests.forgetting import COMET, FALCON, FORGET, MEADOW
from tests.models.requests import (
    NAMES,
    REQUESTS,
    cut,
    forget,
    frozen_copy,
    hybrid,
    knowing,
    shipped,
    step_through,
    text_rows,
)
from tests.support import assert_same_run, cut_after_writing, experiment, lethe, log_of, only_run, outcome
from utils.checkpoint import write_tensors
from utils.errors import ConfigError, WeightsError

UNSEEN = {"fine": {"Veltro Arrow", "Ostara Falcon"}, "coarse": set()}


def written(file: Path, name: str, order=None, unseen=UNSEEN, levels=("fine", "coarse")) -> Path:
    """A file as `pretrain` writes it: a random tower and, of a ViT, random rows of all names but some."""
    torch.manual_seed(11)
    backbone = build_backbone(name, "random")
    tensors, names = {f"net.{key}": value for key, value in backbone.net.state_dict().items()}, {}
    if order:
        names = {k: [each for each in reversed(getattr(order, k)) if each not in unseen[k]] for k in levels}
        tensors |= {f"heads.{k}": torch.randn(len(some), backbone.dim) for k, some in names.items()}
    write_tensors(file, tensors, {"classes": json.dumps(names)})
    return file


@pytest.fixture
def serve(toymini, recipe, tmp_path):
    """A function that makes a learner and the sessions of some requests."""

    def make(name: str, *requests, model: Model | None = None, weights=None, **options):
        manager = cut(toymini, *requests)
        order = manager.order if name == "tiny_vit" else None
        source = weights or str(written(tmp_path / "oracle.safetensors", name, order, **options))
        learner = OracleLearner(
            knowing(model or shipped(name), manager), recipe(), recipe(), recipe(), oracle_weights=source
        )
        return learner, manager.sessions()

    return make


def test_a_vit_takes_over_the_tower_and_the_rows_it_knows(serve, tmp_path):
    learner, (session,) = serve("tiny_vit", REQUESTS["fine"])
    before = frozen_copy(learner.model)
    learner.check(session)
    assert not [name for name, value in learner.model.state_dict().items() if not torch.equal(value, before[name])]
    assert step_through(learner, session) == []
    after, stored = learner.model.state_dict(), load_file(tmp_path / "oracle.safetensors")
    tower = {name.removeprefix("backbone."): value for name, value in after.items() if name.startswith("backbone.")}
    assert all(torch.equal(value, stored[name]) for name, value in tower.items()) and len(tower) > 40
    for level in ("fine", "coarse"):
        rows, names = learner.model.rows()[level], getattr(session.order, level)
        known = [name for name in reversed(names) if name not in UNSEEN[level]]
        assert len(rows) == len(names)
        for row, old, name in zip(rows, before[f"heads.{level}.rows.0"], names, strict=True):
            if name in known:
                assert torch.equal(row, stored[f"heads.{level}"][known.index(name)])
            else:
                assert 0 < row.norm() < 1 and not torch.equal(row, old)  # small and random


def test_a_clip_is_worded_by_the_oracles_text_tower(serve, tmp_path):
    learner, (session,) = serve("tiny_clip", REQUESTS["coarse"])
    learner.check(session)
    assert step_through(learner, session) == []
    fresh = Model(build_backbone("tiny_clip", str(tmp_path / "oracle.safetensors")), templates=learner.model.templates)
    for name, value in fresh.backbone.state_dict().items():
        assert torch.equal(learner.model.backbone.state_dict()[name], value)
    rows = text_rows(fresh, {"fine": session.order.fine, "coarse": session.order.coarse})
    for level, expected in rows.items():
        torch.testing.assert_close(learner.model.rows()[level].detach(), expected, atol=1e-5, rtol=1e-4)


def test_names_outside_the_stream_can_still_be_asked_for(serve):
    """Those of general sets: the original's weights know them, the oracle's may not."""
    learner, (session,) = serve("tiny_vit", REQUESTS["fine"])
    names = learner.model.backbone.trained_heads["fine"].names
    step_through(learner, session)
    assert len(names) > 40
    assert learner.model.known_rows("fine", names).shape == (len(names), learner.model.backbone.dim)


def test_later_requests_find_the_same_model(serve):
    requests = [forget("Veltro Arrow"), forget("Ostara Falcon")]
    for name in ("tiny_vit", "tiny_clip"):
        learner, sessions = serve(name, *requests)
        ends = []
        for session in sessions:
            learner.check(session)
            step_through(learner, session)
            ends.append(frozen_copy(learner.model))
        assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


def test_random_weights_have_seen_nothing(serve):
    """What a dry run takes."""
    learner, (session,) = serve("tiny_vit", hybrid(("Ostara Falcon",), ("Veltro",)), weights="random")
    before = frozen_copy(learner.model)
    learner.check(session)
    step_through(learner, session)
    assert {level: len(rows) for level, rows in learner.model.rows().items()} == {"fine": 8, "coarse": 4}
    rows = learner.model.rows()["fine"]
    assert (rows != before["heads.fine.rows.0"]).float().mean() > 0.999 and rows.norm(dim=1).max() < 0.5


@pytest.mark.parametrize(
    ("request_", "options", "message"),
    [
        ("fine", {"unseen": {"fine": {"Ostara Falcon"}, "coarse": set()}}, "a row of 'Veltro Arrow', which session 0"),
        ("coarse", {"unseen": {"fine": set(NAMES[:3]), "coarse": set()}}, "a row of 'Veltro', which session 0"),
        ("fine", {"levels": ("fine",)}, "knows none of the coarse classes that are to stay, such as 'Veltro'"),
        ("fine", {"levels": ()}, "knows none of the fine classes that are to stay, such as 'Veltro Harbor'"),
        ("fine", {"unseen": {"fine": set(NAMES), "coarse": set()}}, "knows none of the fine classes"),
    ],
)
def test_a_vit_that_is_no_oracle_is_refused(serve, request_, options, message):
    learner, (session,) = serve("tiny_vit", REQUESTS[request_], **options)
    with pytest.raises(WeightsError, match=rf"key 'oracle_weights': .*oracle\.safetensors .*{message}") as caught:
        learner.check(session)
    assert "\n" not in str(caught.value)


def test_the_weights_must_be_named(toymini, recipe):
    manager = cut(toymini, REQUESTS["fine"])
    learner = OracleLearner(knowing(shipped("tiny_vit"), manager), recipe(), recipe())
    with pytest.raises(ConfigError, match=r"key 'oracle_weights': .*never seen.*'pretrain'"):
        learner.check(manager.sessions()[0])


@pytest.mark.parametrize("name", ["tiny_vit", "tiny_clip"])
def test_weights_that_are_not_there_or_of_another_tower_are_refused_at_once(serve, recipe, tmp_path, name):
    with pytest.raises(WeightsError, match=r"key 'oracle_weights': .*none\.safetensors: no such weights file"):
        OracleLearner(shipped(name), recipe(), recipe(), oracle_weights=str(tmp_path / "none.safetensors"))
    other = written(tmp_path / "other.safetensors", "face_vit_small")
    with pytest.raises(WeightsError, match=r"key 'oracle_weights': .*other\.safetensors: does not fit") as caught:
        OracleLearner(shipped(name), recipe(), recipe(), oracle_weights=str(other))
    assert "\n" not in str(caught.value)


# whole runs

SETTINGS = FORGET | {
    "model_name": "oracle",
    "oracle_weights": "oracle.safetensors",
    "sessions": [{"forget": {"classes": [name], "exemplars": 2}} for name in (MEADOW, FALCON)],
}


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    monkeypatch.setattr(trainer.plots, "curves", lambda *_: None)
    monkeypatch.setattr(trainer.request_plots, "requests", lambda *_: None)


def test_a_run_that_was_cut_ends_as_if_it_had_not_been(workplace, monkeypatch):
    """Also where general sets ask for names that only the original's weights know."""
    known = SimpleNamespace(**{level: head.names for level, head in build_backbone("tiny_vit").trained_heads.items()})
    written(Path("oracle.safetensors"), "tiny_vit", known, {"fine": {MEADOW, FALCON, COMET}, "coarse": set()})
    settings = SETTINGS | {"convnet_type": "tiny_vit", "exclude": [*SETTINGS["exclude"], COMET]}
    assert lethe("--config", experiment(settings, logs="whole")) == 0
    file = experiment(settings, logs="cut")
    with monkeypatch.context() as patch:
        cut_after_writing(patch, "session")
        assert lethe("--config", file) == 130
    assert lethe("--config", file, "--resume") == 0
    assert_same_run(only_run(workplace / "whole"), only_run(workplace / "cut"))
    rows, _ = outcome(only_run(workplace / "whole"))
    assert len(rows) == 2 and "Request (fine)" in log_of(only_run(workplace / "whole"))


def test_a_dry_run_needs_no_weights(workplace):
    file = experiment(SETTINGS | {"oracle_weights": "not/there.safetensors"})
    assert lethe("--config", file, "--smoke") == 0


def test_a_missing_file_is_one_line_before_anything_is_written(refused):
    message = refused("--config", experiment(SETTINGS))
    assert message == "key 'oracle_weights': oracle.safetensors: no such weights file"
    assert not Path("logs").exists()
