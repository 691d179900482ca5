"""DualPrompt: a task's own prefixes in training, those of the nearest key afterwards."""

import numpy as np
import pytest
import torch

from models.dualprompt import DualPromptLearner, DualPrompts
from utils.errors import ConfigError


@pytest.fixture
def build(tiny_model, recipe):
    def make(**options):
        return DualPromptLearner(tiny_model().eval(), recipe(), recipe(), **{"prompt_length": 3} | options)

    return make


@pytest.fixture
def three_tasks():
    torch.manual_seed(0)
    prompts = DualPrompts((0,), (1, 2), (2, 3), 4, 6)
    for _ in range(3):
        prompts.open()
    return prompts


def test_the_task_of_the_nearest_key_by_brute_force(three_tasks):
    query = torch.randn(9, 6)
    found = three_tasks(query)
    tasks = []
    for one in query.double().numpy():
        keys = [key.detach().double().numpy() for key in three_tasks.keys]
        tasks.append(int(np.argmax([one @ key / np.linalg.norm(one) / np.linalg.norm(key) for key in keys])))
    assert len(set(tasks)) > 1
    for image, task in enumerate(tasks):
        assert torch.equal(found[0][image], three_tasks.general[0])
        for place, layer in enumerate((1, 2)):
            assert torch.equal(found[layer][image], three_tasks.experts[task][place])
    assert {layer: part.shape for layer, part in found.items()} == {0: (9, 2, 2, 4), 1: (9, 2, 3, 4), 2: (9, 2, 3, 4)}


def test_a_block_may_have_both_kinds():
    prompts = DualPrompts((0, 1), (1,), (2, 3), 4, 6)
    prompts.open()
    found = prompts.of(torch.tensor([0, 0]))
    assert found[0].shape == (2, 2, 2, 4)
    expected = torch.cat([prompts.general[1], prompts.experts[0][0]], 1)
    assert torch.equal(found[1], torch.stack([expected] * 2))


def test_training_asks_for_the_newest_task_whatever_the_query(build):
    learner, query = build(pull_constraint_coeff=0.2), torch.randn(4, 128)
    for _ in range(3):
        learner.prompts.open()
    prompts, terms = learner.asked(query)
    assert all(torch.equal(part, learner.prompts.experts[2][0]) for part in prompts[2])
    key, queries = learner.prompts.keys[2].detach().double().numpy(), query.double().numpy()
    cosine = queries @ key / np.linalg.norm(key) / np.linalg.norm(queries, axis=1)
    assert terms["pull"].item() == pytest.approx(0.2 * (1 - cosine).mean(), rel=1e-5)


def test_prefixes_of_past_tasks_stay_to_the_bit_and_the_shared_ones_move(build, tiny_sessions, train):
    learner, (first, second) = build(), tiny_sessions(2, 2)
    train(learner, first)
    kept = [part.detach().clone() for part in (learner.prompts.experts[0], learner.prompts.keys[0])]
    shared = learner.prompts.general.detach().clone()
    train(learner, second)
    assert torch.equal(learner.prompts.experts[0], kept[0]) and torch.equal(learner.prompts.keys[0], kept[1])
    assert not torch.equal(learner.prompts.general, shared) and len(learner.prompts.experts) == 2


def test_an_expert_begins_as_the_last_one_and_its_key_afresh(build):
    prompts = build().prompts
    first, key = prompts.open()
    with torch.no_grad():
        first.add_(1)
    second, other = prompts.open()
    assert torch.equal(second, first) and second is not first and not torch.equal(other, key)


def test_shapes_and_the_papers_blocks_and_lengths(build):
    learner = build(prompt_length=None)
    expert, key = learner.prompts.open()
    assert learner.prompts.general.shape == (2, 2, 5, 128)  # blocks 0 and 1
    assert expert.shape == (2, 2, 20, 128) and key.shape == (128,)  # of 2, 3 and 4 the tower has two
    assert sorted(learner.prompts(torch.randn(1, 128))) == [0, 1, 2, 3]
    other = build(g_prompt_layer_idx=[3], e_prompt_layer_idx=[0])
    other.prompts.open()
    assert sorted(other.prompts(torch.randn(1, 128))) == [0, 3]


def test_a_block_that_is_not_there_is_refused(build):
    with pytest.raises(ConfigError, match="key 'g_prompt_layer_idx': there is no block 9; the tower's are 0 to 3"):
        build(g_prompt_layer_idx=[9])
