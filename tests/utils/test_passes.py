"""`utils.passes`: outputs in order, gradients by hand and by finite differences."""

import pytest
import torch
from torch import nn

from tests.utils.points import Point, ordered
from utils.errors import DivergenceError
from utils.passes import gather, gradient_sums
from utils.streams import TensorStream

# gather


def test_gather_keeps_the_streams_order_whatever_the_batch():
    stream = TensorStream({"x": torch.arange(12.0).reshape(6, 2)}, shuffle=False)
    layer = nn.Linear(2, 3)
    for size in (1, 4, 100):
        found = gather(layer, lambda batch: {"y": layer(batch["x"]), "x": batch["x"]}, stream, batch_size=size)
        assert torch.equal(found["x"], stream.fields["x"]) and not found["y"].requires_grad
        assert torch.allclose(found["y"], layer(stream.fields["x"]).detach())


@pytest.mark.parametrize("mode", [True, False])
def test_gather_computes_in_evaluation_mode_and_restores_the_modules(mode):
    layer = nn.Dropout(0.5).train(mode)
    found = gather(layer, lambda batch: {"y": layer(batch["x"])}, ordered(30))
    assert torch.equal(found["y"], torch.arange(30.0)) and layer.training is mode


# gradient_sums


def test_gradient_sums_by_hand():
    point = Point(2.0, -1.0)

    def loss(batch):  # ∂/∂w of mean(x)·w₀² and of max(x)·w₁
        return batch["x"].mean() * point.w[0] ** 2 + batch["x"].max() * point.w[1]

    (found,) = gradient_sums(point, loss, ordered(5), point.parameters(), batch_size=2)
    # batches (0, 1), (2, 3), (4): means 0.5, 2.5, 4; maxima 1, 3, 4
    assert found.tolist() == pytest.approx([2 * 2.0 * 7.0, 8.0]) and not found.requires_grad
    (whole,) = gradient_sums(point, loss, ordered(5), point.parameters(), batch_size=5)
    assert whole.tolist() == pytest.approx([2 * 2.0 * 2.0, 4.0])


def test_gradient_sums_are_finite_differences():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    generator = torch.Generator().manual_seed(1)
    rows = {"x": torch.randn(7, 4, generator=generator).double(), "y": torch.randint(3, (7,), generator=generator)}
    stream = TensorStream(rows, shuffle=False)

    def loss(batch):
        return nn.functional.cross_entropy(net(batch["x"]), batch["y"])

    @torch.no_grad()
    def total():
        return sum(loss(batch).item() for batch in stream.batches(3, 0))

    params = list(net.parameters())
    for param, found in zip(params, gradient_sums(net, loss, stream, params, batch_size=3), strict=True):
        flat = param.detach().view(-1)
        for place in range(len(flat)):
            kept, ends = flat[place].item(), []
            for step in (1e-6, -1e-6):
                flat[place] = kept + step
                ends.append(total())
            flat[place] = kept
            assert found.view(-1)[place].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("mode", [True, False])
def test_gradient_sums_leave_the_module_as_it_is(mode):
    net = nn.Sequential(nn.Linear(1, 3), nn.Dropout(0.9), nn.Linear(3, 1)).train(mode)
    net[0].weight.grad = torch.full((3, 1), 7.0)
    before, idle = [parameter.detach().clone() for parameter in net.parameters()], nn.Parameter(torch.ones(2))

    def loss(batch):
        return net(batch["x"][:, None]).sum()

    found = gradient_sums(net, loss, ordered(4), [net[0].weight, idle], batch_size=4)
    torch.testing.assert_close(found[0], 6.0 * net[2].weight.detach().T)  # no dropout; 0 + 1 + 2 + 3
    assert found[1].tolist() == [0, 0] and net.training is mode
    assert net[0].weight.grad.eq(7.0).all() and idle.grad is None and net[2].weight.grad is None
    assert all(map(torch.equal, before, net.parameters()))


def test_gradient_sums_of_a_function_of_every_gradient():
    point = Point(2.0, -1.0)

    def loss(batch):  # ∂/∂w = (2·mean(x − 1)·w₀, max(x))
        return (batch["x"] - 1).mean() * point.w[0] ** 2 + batch["x"].max() * point.w[1]

    (squares,) = gradient_sums(point, loss, ordered(4), [point.w], batch_size=1, each=torch.square)
    # x = 0, 1, 2, 3: slopes −4, 0, 4, 8 and 0, 1, 2, 3
    assert squares.tolist() == pytest.approx([16 + 0 + 16 + 64, 0 + 1 + 4 + 9])
    (sizes,) = gradient_sums(point, loss, ordered(4), [point.w], batch_size=1, each=torch.abs)
    assert sizes.tolist() == pytest.approx([4 + 0 + 4 + 8, 6])
    (pairs,) = gradient_sums(point, loss, ordered(4), [point.w], batch_size=2, each=torch.square)
    assert pairs.tolist() == pytest.approx([2**2 + 6**2, 1**2 + 3**2])  # means −½ and 1½, maxima 1 and 3


def test_gradient_sums_follow_the_seed_of_the_pass():
    point, seen = Point(1.0), []

    def loss(batch):
        seen.append(batch["x"].tolist())
        return point.w.sum()

    stream = TensorStream({"x": torch.arange(30)})
    for seed in (1, 1, 2):
        gradient_sums(point, loss, stream, [point.w], batch_size=30, seed=seed)
    assert seen[0] == seen[1] != seen[2]


def test_gradient_sums_that_are_not_finite_are_refused():
    point = Point(0.0)
    with pytest.raises(DivergenceError, match="not finite"):
        gradient_sums(point, lambda batch: point.w.sqrt().sum(), ordered(2), [point.w])
