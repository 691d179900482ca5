"""What the README shows works as it stands there."""

import json
import re

import pytest
import torch

from models import LEARNERS
from tests.support import ROOT
from utils.config import Config, load_config
from utils.requests import Forget, expand_requests

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def test_the_example_method_learns_two_sessions(tiny_model, tiny_sessions, recipe, train):
    (source,) = blocks("python")
    names = {}
    exec(compile(source, "README.md", "exec"), names)
    learner = names["LinearProbe"](tiny_model(), recipe(), recipe())
    before = {name: value.clone() for name, value in learner.model.backbone.state_dict().items()}
    for number, session in enumerate(tiny_sessions(3, 2)):
        assert train(learner, session) == {"probe": {f"heads.fine.rows.{number}"}}
    assert len(learner.model.head("fine")) == 5
    after = learner.model.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_example_experiment_loads(tmp_path):
    experiment, _, tasks, record = blocks("json")
    (tmp_path / "x.json").write_text(experiment)
    config = load_config(tmp_path / "x.json").config
    assert config.model_name in LEARNERS and config.seed == (1993, 1996, 1997)
    assert set(re.findall(r'"(\w+)":', record)) == {"img_path", "coarse_label", "fine_label"}
    names = {key: getattr(config, key) for key in ("dataset", "model_name", "convnet_type")}
    assert [request.classes for request in expand_requests(Config(**names, **json.loads(tasks)), 100)] == [20] * 4


def test_the_example_request_parses():
    (request,) = [Forget.model_validate_json(block) for block in blocks("json") if '"forget"' in block]
    assert request.forget.classes == ("Audi A7", "Audi A5 coupe") and request.forget.exemplars == 50


def test_every_learner_is_listed():
    table = {name for row in re.findall(r"^\| (`.*?) \|", README, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert set(LEARNERS) <= table


LINKS = re.findall(r"\]\(((?!http)[^)]+)\)", README)
EXPERIMENTS = {*re.findall(r"exps/\w+\.json", README)} - {"exps/a.json", "exps/b.json"}  # these stand for any


@pytest.mark.parametrize("file", sorted({*LINKS, *EXPERIMENTS}))
def test_what_it_points_to_is_there(file):
    assert (ROOT / file).exists()
