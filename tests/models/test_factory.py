"""From names to learners."""

import subprocess
import sys

import pytest

from models import LEARNERS, accepted, get_model, learner_class
from models.adapter import AdapterLearner
from models.learner import Learner
from tests.models.requests import shipped
from utils.errors import ConfigError
from utils.schema import Config


@pytest.mark.parametrize("name", LEARNERS)
def test_every_name_has_a_learner_and_one_line(name):
    method = learner_class(name)
    assert issubclass(method, Learner)
    assert method.kinds <= {"learn", "forget"} and method.kinds
    assert LEARNERS[name][2] and "\n" not in LEARNERS[name][2]


@pytest.mark.parametrize(("name", "hint"), [("adaptor", "did you mean 'adapter'"), ("foster", "known: adapter, ")])
def test_an_unknown_name_offers_others(name, hint):
    with pytest.raises(ConfigError, match=f"'{name}'.*{hint}"):
        learner_class(name)


def test_only_what_the_constructor_takes_is_accepted():
    options = {"ffn_num": 3, "margin": 0.1, "tune": "text", "dataset": "cars", "model_name": "adapter"}
    assert accepted("adapter", options) == {"ffn_num": 3, "margin": 0.1}
    assert accepted("pretrain", options) == {"tune": "text", "margin": 0.1}
    assert accepted("finetune", options) == {}


# what every unlearner takes, and what some take beside
TUNING = {"tune", "ffn_num", "adapter_scale", "adapter_dropout", "lora_rank", "lora_alpha"}
LOSS = {"kl_fine", "kl_coarse", "npo_beta", "margin_fine", "margin_coarse"}
LEARNING = {"margin", "coarse_weight", "ssca", "ca", "ca_epochs", "ca_samples", "sigma", "ridge"}
RECIPES = {"model", "first", "later", "forget"}
OWN = {
    "adapter": LOSS
    | LEARNING
    | (TUNING - {"tune", "lora_rank", "lora_alpha"})
    | {"unlearn_loss", "feature_weight", "name_weight", "adapter_towers"},
    "salun": TUNING | LOSS | {"salun_share"},
    "task_vector": TUNING | LOSS | {"negation_scale", "negation_coarse"},
    "head_only": set(),
    **dict.fromkeys(("ga", "gdiff", "kl", "npo", "hinge", "me", "relabeling"), TUNING | LOSS),
}


@pytest.mark.parametrize("name", OWN)
def test_options_are_found_behind_what_is_handed_on(name):
    everything = dict.fromkeys(TUNING | LOSS | LEARNING | RECIPES | set(Config.model_fields) | {"self"}, 1)
    everything.pop("self")
    assert set(accepted(name, everything)) == OWN[name] | RECIPES


@pytest.fixture
def options(recipe):
    """What the trainer offers to every learner."""
    config = Config(
        dataset="toycars",
        model_name="hinge",
        convnet_type="tiny_clip",
        init_cls=1,
        kl_fine=3.0,
        kl_coarse=4.0,
        npo_beta=0.25,
        margin_fine=1.5,
        margin_coarse=2.5,
        salun_share=0.2,
        negation_scale=0.7,
        negation_coarse=0.3,
        unlearn_loss="npo",
        ffn_num=3,
        coarse_weight=0.5,
    )
    return config.model_dump() | {"first": recipe(), "later": recipe(epochs=2), "forget": recipe(epochs=3)}


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_can_be_made_from_the_trainers_options(options, name):
    learner = get_model(name, shipped("tiny_clip"), **accepted(name, options))
    assert isinstance(learner, learner_class(name)) and 0 <= learner.tunable_ratio() <= 1
    assert (learner.first.epochs, learner.later.epochs) == (1, 2)
    assert "forget" not in learner.kinds or learner.forget.epochs == 3


def test_the_settings_of_unlearning_reach_their_learners(options):
    def made(name: str):
        return get_model(name, shipped("tiny_clip"), **accepted(name, options))

    assert made("kl").rule.kl == {"fine": 3.0, "coarse": 4.0}
    assert made("npo").rule.beta == 0.25 and made("npo").rule.kl == {"fine": 3.0, "coarse": 4.0}
    assert made("hinge").rule.margins == {"fine": 1.5, "coarse": 2.5}
    assert made("salun").share == 0.2
    assert (made("task_vector").scale, made("task_vector").rule.share) == (0.7, 0.3)
    adapter = made("adapter")
    assert type(adapter.rule).__name__ == "NPO" and adapter.rule.beta == 0.25 and adapter.weights["coarse"] == 0.5


def test_what_is_not_said_is_the_losss_own(options):
    options |= {"kl_fine": None, "kl_coarse": None}
    rules = {name: get_model(name, shipped("tiny_clip"), **accepted(name, options)).rule for name in ("hinge", "npo")}
    assert rules["hinge"].kl == {"fine": 20.0, "coarse": 10.0} and rules["npo"].kl == {"fine": 20.0, "coarse": 5.0}


def test_options_reach_the_learner(tiny_model, recipe):
    learner = get_model("adapter", tiny_model(), first=recipe(), later=recipe(epochs=2), ffn_num=3, ssca=False)
    assert isinstance(learner, AdapterLearner)
    assert not learner.ssca
    assert all(group[0].shape == (3, 128) for group in learner.groups)


def test_listing_imports_no_library():
    code = "import sys, models; print([name for name in ('torch', 'timm', 'open_clip') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
