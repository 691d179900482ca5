"""L2P: which prompts an image takes, by brute force, and what pulls their keys."""

import numpy as np
import pytest
import torch

from models.l2p import L2PLearner, PromptPool
from utils.errors import ConfigError


@pytest.fixture
def build(tiny_model, recipe):
    def make(**options):
        shape = {"prompt_pool_size": 5, "prompt_length": 3, "prompt_top_k": 2}
        return L2PLearner(tiny_model().eval(), recipe(), recipe(), **shape | options)

    return make


def test_the_nearest_keys_by_brute_force():
    torch.manual_seed(0)
    pool, query = PromptPool(7, 2, 3, 4, 6), torch.randn(5, 6)
    keys, queries = pool.keys.detach().double().numpy(), query.double().numpy()
    tokens = pool(query)
    assert tokens.shape == (5, 6, 4)
    for image in range(5):
        cosine = [q @ k / np.linalg.norm(q) / np.linalg.norm(k) for q in queries[image : image + 1] for k in keys]
        expected = sorted(range(7), key=lambda number, cosine=cosine: -cosine[number])[:3]
        assert pool.nearest(query)[image].tolist() == expected
        assert torch.equal(tokens[image], torch.cat([pool.prompts[number] for number in expected]))


def test_what_pulls_the_chosen_keys(build):
    learner, query = build(pull_constraint_coeff=0.3), torch.randn(4, 128)
    prompts, terms = learner.asked(query)
    keys, queries = learner.prompts.keys.detach().double().numpy(), query.double().numpy()
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (queries, keys)]
    far = np.sort(1 - unit[0] @ unit[1].T, axis=1)[:, :2]
    assert terms["pull"].item() == pytest.approx(0.3 * far.sum(1).mean(), rel=1e-5)
    assert torch.equal(prompts, learner.prompts(query)) and prompts.shape == (4, 6, 128)


def test_pulling_turns_the_chosen_keys_to_the_query_and_no_others(build):
    learner, query = build(), torch.randn(1, 128)
    learner.asked(query)[1]["pull"].backward()
    chosen = learner.prompts.nearest(query)[0].tolist()
    slopes, keys = learner.prompts.keys.grad, learner.prompts.keys.detach()
    assert [number for number in range(5) if slopes[number].any()] == sorted(chosen)
    after = keys - 0.1 * slopes
    for number in chosen:
        before, then = (torch.cosine_similarity(query[0], part[number], dim=0) for part in (keys, after))
        assert then > before


def test_shapes_and_the_papers_length(build):
    learner = build(prompt_length=None, prompt_pool_size=10, prompt_top_k=5)
    assert learner.prompts.keys.shape == (10, 128) and learner.prompts.prompts.shape == (10, 5, 128)
    assert all(part.abs().max() <= 1 for part in learner.prompts.parameters())
    assert [id(part) for part in learner.opened(None)] == [id(part) for part in learner.prompts.parameters()]


def test_more_prompts_than_there_are_cannot_be_taken(build):
    with pytest.raises(ConfigError, match=r"key 'prompt_top_k': 6 of 5 prompts \('prompt_pool_size'\)"):
        build(prompt_top_k=6)
