"""A run's state, given back to a learner: only with the names it was trained by, only where it fits."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.sessions import ClassOrder
from models.runs import look_of, names_of, restore, trained
from models.simplecil import SimpleCilLearner
from utils.checkpoint import Saved
from utils.config import Config
from utils.errors import CheckpointError

ORDER = ClassOrder(("a", "b"), ("x", "y"), (0, 1))


class Listening:
    """A learner that notes what it is given, and has room for two numbers."""

    def load_state_dict(self, state):
        self.state = state["w"].view(2)


def test_a_state_goes_to_a_learner_of_the_same_names():
    learner = Listening()
    restore(learner, Saved({"w": torch.tensor([1.0, 2.0])}, {"names": names_of(ORDER)}), ORDER, Path("run"))
    assert learner.state.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("other", [("b", "a"), ("a", "c"), ("a", "b", "c")])
def test_of_other_names_it_is_refused(other):
    saved, learner = Saved({"w": torch.tensor([1.0, 2.0])}, {"names": names_of(ORDER)}), Listening()
    with pytest.raises(CheckpointError, match="run: the data set's index has other classes than when the run was"):
        restore(learner, saved, ClassOrder(other, ("x", "y"), (0, 1, 1)[: len(other)]), Path("run"))
    assert not hasattr(learner, "state")


def test_images_that_were_kept_must_be_the_same():
    saved, learner = Saved({"w": torch.zeros(2)}, {"names": names_of(ORDER), "images": "1f"}), Listening()
    with pytest.raises(CheckpointError, match="run: the data set's index has other training images than when the run"):
        restore(learner, saved, ORDER, Path("run"), "2e")
    restore(learner, saved, ORDER, Path("run"), "1f")
    restore(learner, Saved(saved.tensors, {"names": names_of(ORDER)}), ORDER, Path("run"), "1f")  # an older version's
    restore(learner, saved, ORDER, Path("run"))


def test_images_must_look_the_same(tiny_model, recipe):
    learner = SimpleCilLearner(tiny_model(), recipe(), recipe())
    notes = {"names": names_of(ORDER), "look": look_of(learner)}
    restore(learner, Saved(learner.state_dict(), json.loads(json.dumps(notes))), ORDER, Path("run"))
    backbone = learner.model.backbone
    backbone.preprocess = replace(backbone.preprocess, mean=(0.1, 0.5, 0.5))
    with pytest.raises(CheckpointError, match=r"run: images looked otherwise .*config beside the weights"):
        restore(learner, Saved(learner.state_dict(), notes), ORDER, Path("run"))


def test_what_does_not_fit_is_one_line():
    saved = Saved({"w": torch.zeros(3)}, {"names": names_of(ORDER)})
    with pytest.raises(CheckpointError, match="run: does not fit the model"):
        restore(Listening(), saved, ORDER, Path("run"))


def test_a_checkpoint_that_is_gone_is_missed(tmp_path):
    config = Config(dataset="toymini", model_name="finetune", convnet_type="tiny_vit", init_cls="all")
    with pytest.raises(CheckpointError, match="the checkpoint of this run is not there any more; train it again"):
        trained(tmp_path, config)
