"""From names to learners."""

import subprocess
import sys

import pytest

from models import LEARNERS, accepted, get_model, learner_class
from models.adapter import AdapterLearner
from models.learner import Learner
from utils.errors import ConfigError


@pytest.mark.parametrize("name", LEARNERS)
def test_every_name_has_a_learner_and_one_line(name):
    method = learner_class(name)
    assert issubclass(method, Learner)
    assert method.kinds <= {"learn", "forget"} and method.kinds
    assert LEARNERS[name][2] and "\n" not in LEARNERS[name][2]


@pytest.mark.parametrize(("name", "hint"), [("adaptor", "did you mean 'adapter'"), ("icarl", "known: adapter, ")])
def test_an_unknown_name_offers_others(name, hint):
    with pytest.raises(ConfigError, match=f"'{name}'.*{hint}"):
        learner_class(name)


def test_only_what_the_constructor_takes_is_accepted():
    options = {"ffn_num": 3, "margin": 0.1, "tune": "text", "dataset": "cars", "model_name": "adapter"}
    assert accepted("adapter", options) == {"ffn_num": 3, "margin": 0.1}
    assert accepted("pretrain", options) == {"tune": "text"}
    assert accepted("finetune", options) == {}


def test_options_reach_the_learner(tiny_model, recipe):
    learner = get_model("adapter", tiny_model(), first=recipe(), later=recipe(epochs=2), ffn_num=3, ssca=False)
    assert isinstance(learner, AdapterLearner)
    assert not learner.ssca
    assert all(group[0].shape == (3, 128) for group in learner.groups)


def test_listing_imports_no_library():
    code = "import sys, models; print([name for name in ('torch', 'timm', 'open_clip') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
