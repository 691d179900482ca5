"""`utils.held`: what must not move does not, to the bit, under every optimizer; the rest moves as ever."""

import pytest
import torch
from torch import nn

from utils.held import Held, top_share
from utils.loop import Phase, Recipe, fit
from utils.streams import TensorStream

KINDS = {
    "sgd": {"momentum": 0.0},
    "sgd with momentum": {"optimizer": "sgd"},
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw"},
}


def trained(recipe, mask, hold=True, masked_gradient=False):
    """A matrix after three epochs; its loss pulls every element, differently."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(4, 5, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(5, 4, generator=generator))
    start = layer.weight.detach().clone()
    goal = torch.randn(5, 4, generator=generator)
    stream = TensorStream({"x": torch.rand(6, 1, generator=generator)})

    def loss(batches):
        return {"pull": (batches["train"]["x"].mean() * (layer.weight - goal) ** 2).sum()}

    def mask_gradient():
        layer.weight.grad.mul_(mask)

    hooks = {"after_step": Held([(layer.weight, mask)])} if hold else {}
    hooks |= {"after_backward": mask_gradient} if masked_gradient else {}
    fit(Phase("test", layer, {"train": stream}, loss, layer.parameters(), recipe, **hooks), seed=0)
    return start, layer.weight.detach()


@pytest.mark.parametrize("kind", KINDS)
def test_held_elements_stay_to_the_bit_and_the_others_move_as_ever(kind):
    recipe = Recipe(epochs=3, lr=0.05, batch_size=2, weight_decay=0.1, **KINDS[kind])
    mask = torch.rand(5, 4, generator=torch.Generator().manual_seed(1)) < 0.4
    start, end = trained(recipe, mask)
    _, free = trained(recipe, mask, hold=False)
    assert torch.equal(end[~mask], start[~mask]) and (end[mask] != start[mask]).all()
    assert torch.equal(end[mask], free[mask])  # each element's loss is its own here


def test_without_weight_decay_holding_is_masking_the_gradient():
    recipe = Recipe(epochs=3, lr=0.05, batch_size=2, optimizer="adamw")
    mask = torch.rand(5, 4, generator=torch.Generator().manual_seed(1)) < 0.4
    _, held = trained(recipe, mask)
    _, masked = trained(recipe, mask, hold=False, masked_gradient=True)
    assert torch.equal(held, masked)


def test_whole_rows_and_whole_parameters_can_be_held():
    recipe = Recipe(epochs=3, lr=0.05, batch_size=2, weight_decay=0.1)
    rows = torch.tensor([True, False, False, True, False])[:, None]
    start, end = trained(recipe, rows)
    assert (end != start).all(1).tolist() == rows[:, 0].tolist()
    assert torch.equal(end[1:3], start[1:3])
    start, end = trained(recipe, torch.tensor(False))
    assert torch.equal(end, start)


def test_several_parameters_keep_what_they_were_when_it_was_made():
    one, two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.full((2, 2), 3.0))
    held = Held(iter([(one, torch.tensor([True, False])), (two, torch.tensor([[False, True]]))]))
    with torch.no_grad():
        one.add_(5)
        two.mul_(float("nan"))
    held()
    assert one.tolist() == [6, 1] and two[:, 0].tolist() == [3, 3] and two[:, 1].isnan().all()
    with torch.no_grad():
        one.add_(1)
    held()
    assert one.tolist() == [7, 1] and one.requires_grad


@pytest.mark.parametrize(
    "mask", [torch.ones(2, 3), torch.ones(3, 1).bool(), torch.ones(2).bool(), torch.ones(1, 2, 3).bool()]
)
def test_masks_that_do_not_fit_are_refused(mask):
    with pytest.raises(ValueError, match=r"a mask for \[2, 3\] must be bool"):
        Held([(nn.Parameter(torch.zeros(2, 3)), mask)])


# the largest share


@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 1.0])
def test_the_largest_of_all_tensors_together(share):
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator) * scale for shape, scale in (((7, 3), 1), ((11,), 5), ((), 2))]
    masks = top_share(values, share)
    flat = sorted((abs(v) for value in values for v in value.flatten().tolist()), reverse=True)
    chosen = sorted(
        (abs(v) for value, mask in zip(values, masks, strict=True) for v in value[mask].tolist()), reverse=True
    )
    assert chosen == flat[: round(share * 33)]
    assert [(mask.dtype, mask.shape) for mask in masks] == [(torch.bool, value.shape) for value in values]


def test_ties_do_not_exceed_the_share():
    masks = top_share([torch.zeros(6, 5), torch.ones(10), -torch.ones(10)], 0.1)
    assert not masks[0].any() and sum(int(mask.sum()) for mask in masks) == 5
    assert int(top_share([torch.zeros(40)], 0.1)[0].sum()) == 4


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        top_share([torch.ones(3)], share)
