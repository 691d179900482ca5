"""CODA-Prompt: the sum of components by hand, orthogonal beginnings, and components that stay."""

import numpy as np
import pytest
import torch

from models.coda_prompt import CodaPromptLearner, Components, orthogonal
from utils.errors import ConfigError


@pytest.fixture
def build(tiny_model, recipe):
    def make(*param, **options):
        return CodaPromptLearner(tiny_model().eval(), recipe(), recipe(), prompt_param=param or (24, 4, 0.1), **options)

    return make


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def test_a_prefix_is_the_weighted_sum_of_all_components():
    torch.manual_seed(0)
    parts, query = Components((1, 3), 4, 3, 6), torch.randn(5, 6)
    for count in (2, 3):
        parts.open(count, torch.device("cpu"))
    found = parts(query)
    assert {layer: part.shape for layer, part in found.items()} == {1: (5, 2, 2, 3), 3: (5, 2, 2, 3)}
    keys, attention, prompts = (
        np.concatenate([numbers(part) for part in kind], 1) for kind in (parts.keys, parts.attention, parts.prompts)
    )
    assert prompts.shape == (2, 5, 12)
    for image, one in enumerate(numbers(query)):
        for place, layer in enumerate((1, 3)):
            total = np.zeros((4, 3))
            for m in range(5):
                attended = one * attention[place, m]
                weight = attended @ keys[place, m] / np.linalg.norm(attended) / np.linalg.norm(keys[place, m])
                total += weight * prompts[place, m].reshape(4, 3)
            np.testing.assert_allclose(numbers(found[layer][image, 0]), total[:2], atol=1e-5)  # of keys
            np.testing.assert_allclose(numbers(found[layer][image, 1]), total[2:], atol=1e-5)  # of values


def test_new_components_are_orthonormal_and_orthogonal_to_those_there():
    torch.manual_seed(0)
    before = torch.randn(2, 3, 8, dtype=torch.float64)  # as training may have left them
    fresh = orthogonal(torch.randn(2, 4, 8, dtype=torch.float64), before)
    torch.testing.assert_close(fresh @ fresh.mT, torch.eye(4).double().expand(2, 4, 4))
    torch.testing.assert_close(fresh @ before.mT, torch.zeros(2, 4, 3, dtype=torch.float64))


def test_the_penalty_by_hand():
    torch.manual_seed(0)
    parts = Components((0, 1), 2, 3, 6)
    for _ in range(2):
        parts.open(2, torch.device("cpu"))
    assert parts.overlap().item() == pytest.approx(0, abs=1e-10)
    for part in parts.parameters():
        torch.nn.init.normal_(part)
    expected = 0.0
    for kind in (parts.keys, parts.attention, parts.prompts):
        for block in np.concatenate([numbers(part) for part in kind], 1):
            expected += np.mean([(block[i] @ block[j] - (i == j)) ** 2 for i in range(4) for j in range(4)])
    assert parts.overlap().item() == pytest.approx(expected, rel=1e-5)


def test_the_penalty_is_weighted_or_left_out(build, tiny_sessions):
    (session,) = tiny_sessions(2)
    for weight in (0.5, 0.0):
        learner = build(24, 4, weight)
        learner.opened(session)
        for part in learner.prompts.parameters():
            torch.nn.init.normal_(part)
        terms = learner.asked(torch.randn(2, 128))[1]
        assert set(terms) == ({"overlap"} if weight else set())
        assert not weight or terms["overlap"].item() == pytest.approx(0.5 * learner.prompts.overlap().item())


def test_components_of_past_sessions_stay_to_the_bit_and_take_part(build, tiny_sessions, train):
    learner, (first, second) = build(20, 4, 0.1), tiny_sessions(2, 3)
    train(learner, first)
    kept = [part.detach().clone() for part in learner.prompts.parameters()]
    train(learner, second)
    kinds = learner.prompts.keys, learner.prompts.attention, learner.prompts.prompts
    assert all(torch.equal(kind[0], part) for kind, part in zip(kinds, kept, strict=True))
    # 20 components for the stream's five classes, in four blocks
    assert [[tuple(part.shape) for part in kind] for kind in kinds] == [
        [(4, 8, 128), (4, 12, 128)],
        [(4, 8, 128), (4, 12, 128)],
        [(4, 8, 512), (4, 12, 512)],
    ]
    query = torch.randn(1, 128)
    before = learner.prompts(query)[0]
    with torch.no_grad():
        learner.prompts.prompts[0].add_(1)
    assert not torch.allclose(learner.prompts(query)[0], before)


def test_every_session_has_a_component(build, tiny_sessions, train):
    learner = build(2, 4, 0.1)
    for session in tiny_sessions(1, 1, 1):
        train(learner, session)
    assert [part.shape[1] for part in learner.prompts.keys] == [1, 1, 1]


def test_only_blocks_that_are_asked_for(build, tiny_sessions):
    learner = build(e_prompt_layer_idx=[2])
    learner.opened(tiny_sessions(1)[0])
    assert list(learner.prompts(torch.randn(1, 128))) == [2]


def test_more_sessions_than_directions_are_refused(build, tiny_sessions):
    learner, (session,) = build(128, 4, 0.1), tiny_sessions(5)
    assert len(learner.opened(session)) == 3  # all 128 of K, A and P
    with pytest.raises(ConfigError, match="256 components cannot be orthogonal in 128 dimensions"):
        learner.opened(session)


@pytest.mark.parametrize(
    ("param", "told"),
    [
        ((24, 3, 0.1), "key 'prompt_param': the length 3 is odd; half of a prompt is for keys and half for values"),
        ((129, 8, 0.1), "key 'prompt_param': 129 components cannot be orthogonal in 128 dimensions; ask for fewer"),
    ],
)
def test_what_cannot_be_is_refused(build, param, told):
    with pytest.raises(ConfigError, match=told):
        build(*param)
