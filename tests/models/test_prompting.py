"""What all prompt learners do: a frozen tower, rows of the session's classes, states that travel, runs that go on."""

import numpy as np
import pytest
import torch

from convs.export import write_torchscript
from models import get_model
from models.inference import Answers
from models.prompting import chosen_blocks, distance
from tests.models.requests import cut, knowing, learn, shipped
from tests.models.travelling import assert_state_travels
from tests.support import ADAPTER, ROOT, assert_same_run, cut_after_writing, experiment, lethe, only_run
from utils.errors import ConfigError

OPTIONS = {
    "l2p": {"prompt_pool_size": 4, "prompt_length": 2, "prompt_top_k": 2},
    "dualprompt": {"g_prompt_length": 2, "prompt_length": 3},
    "coda_prompt": {"prompt_param": (24, 4, 0.1)},
}
OWN = {"l2p": 0, "dualprompt": 2, "coda_prompt": 3}  # parameters that a session appends


@pytest.fixture(params=OPTIONS)
def name(request):
    return request.param


@pytest.fixture
def build(tiny_model, recipe, name):
    def make(backbone: str = "tiny_vit"):
        twice = recipe(epochs=2)
        return get_model(name, tiny_model(backbone).eval(), first=twice, later=twice, **OPTIONS[name])

    return make


@pytest.fixture
def sessions(tiny_sessions):
    return tiny_sessions(2, 2)


@pytest.mark.parametrize("backbone", ["tiny_vit", "tiny_clip"])
def test_prompts_and_new_rows_move_and_nothing_else(build, sessions, train, name, backbone):
    learner = build(backbone)
    tower = {key: value.clone() for key, value in learner.model.backbone.net.state_dict().items()}
    for number, session in enumerate(sessions):
        moved = train(learner, session)["prompt"]
        rows = {key for key in moved if key.startswith("heads.")}
        assert rows == {f"heads.fine.rows.{number}"}
        assert moved - rows and all(key.startswith("backbone.prompts.") for key in moved - rows)
        lists = [key for key in moved - rows if key.rsplit(".", 1)[1].isdigit()]
        assert len(lists) == OWN[name] and all(key.endswith(f".{number}") for key in lists)
    assert all(torch.equal(value, tower[key]) for key, value in learner.model.backbone.net.state_dict().items())
    assert set(learner.state_dict()) == {key for key, _ in learner.model.named_parameters() if ".net." not in key}


def test_the_loss_is_cross_entropy_over_the_sessions_classes_and_the_methods_terms(build, sessions, train, name):
    learner = build()
    train(learner, sessions[0])
    checked = []

    @torch.no_grad()
    def watch(phase):
        learner.model.eval()
        batch = next(phase.streams["train"].batches(8, 0))
        backbone = learner.model.backbone
        prompts, terms = learner.asked(backbone.query(batch["image"]))
        features = backbone.prompted(batch["image"], prompts).double().numpy()
        rows = phase.params[-1].double().numpy()
        unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (features, rows)]
        logits = 20 * unit[0] @ unit[1].T
        losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(8), batch["fine"].numpy() - 2]
        found = phase.loss({"train": batch})
        assert found["ce"].item() == pytest.approx(losses.mean(), rel=1e-5)
        assert {key: value.item() for key, value in terms.items()} == {
            key: pytest.approx(value.item(), rel=1e-5) for key, value in found.items() if key != "ce"
        }
        checked.append(set(found))

    train(learner, sessions[1], watch)
    assert checked == [{"ce", "overlap" if name == "coda_prompt" else "pull"}]


def test_a_state_travels_and_the_next_session_is_the_same(build, sessions, train):
    assert_state_travels(build, train, sessions[:1], sessions[1])


def test_what_an_image_is_taken_for_does_not_depend_on_its_neighbours(build, sessions, train):
    learner = build()
    train(learner, sessions[0])
    images = next(sessions[0].stream("test").batches(6, 0))["image"]
    with torch.no_grad():
        together = learner.predict(images).logits["fine"]
        alone = torch.cat([learner.predict(image[None]).logits["fine"] for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("learner", [*OPTIONS, "mos"])
def test_an_export_serves_any_number_of_images(tiny_model, recipe, sessions, train, tmp_path, learner):
    made = get_model(learner, tiny_model().eval(), first=recipe(), later=recipe(), **OPTIONS.get(learner, {}))
    for session in sessions:
        train(made, session)
    answers = Answers(made.model, sessions[0].order, made.predict).eval()
    write_torchscript(answers, 64, tmp_path)
    images = made.model.backbone.preprocess.normalised(next(sessions[1].stream("test").batches(5, 0))["image"])
    with torch.no_grad():
        said = torch.jit.load(tmp_path / "model.pt")(images), answers(images)
    for pair in zip(*said, strict=True):
        torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-4)


def test_classes_without_images_are_refused(toymini, recipe, name):
    manager = cut(toymini, learn("Veltro Comet"), known=["Veltro Arrow"])
    learner = get_model(name, knowing(shipped("tiny_clip"), manager), first=recipe(), later=recipe(), **OPTIONS[name])
    with pytest.raises(ConfigError, match="key 'known': 'Veltro Arrow' is known before"):
        learner.check(manager.sessions()[0])


@pytest.mark.parametrize("learner", [*OPTIONS, "mos"])
def test_a_run_cut_at_every_checkpoint_ends_the_same(workplace, monkeypatch, learner):
    settings = ADAPTER | {"model_name": learner, "init_epochs": 1, "inc_epochs": 1, "ca_epochs": 1}
    settings |= OPTIONS.get(learner, {}) | {"init_cls": None, "increment": None, "sessions": [{"learn": 2}] * 2}
    file = experiment(settings)
    assert lethe("--config", file, "--set", "logs=whole") == 0
    cut_after_writing(monkeypatch)
    for _ in range(20):
        if lethe("--config", file, "--resume") == 0:
            break
    assert_same_run(only_run(), only_run(workplace / "whole"))


@pytest.mark.parametrize("learner", [*OPTIONS, "mos"])
def test_its_experiment_runs_in_short(workplace, learner):
    assert lethe("--config", f"{ROOT}/exps/{learner}_toynew.json", "--smoke", "--device", "cpu") == 0
    assert only_run().parts[:4] == ("logs", "smoke", learner, "toymini")


def test_blocks_are_the_papers_where_they_are_there_or_those_asked_for():
    assert chosen_blocks("key", None, (2, 3, 4), 12) == (2, 3, 4)
    assert chosen_blocks("key", None, (2, 3, 4), 4) == (2, 3)
    assert chosen_blocks("key", (), (2, 3, 4), 4) == ()
    assert chosen_blocks("key", [3, 0, 3], (2,), 4) == (0, 3)
    with pytest.raises(ConfigError, match="key 'e_prompt_layer_idx': there is no block 4; the tower's are 0 to 3"):
        chosen_blocks("e_prompt_layer_idx", (4,), (2,), 4)


def test_distance_by_hand():
    query, keys = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[6.0, 8.0], [-4.0, 3.0], [-3.0, -4.0]]])
    torch.testing.assert_close(distance(query, keys), torch.tensor([[0.0, 1.0, 2.0]]))
