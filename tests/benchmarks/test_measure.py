"""Memory and FLOPs of calls whose numbers are known; that sides take turns."""

import torch

from benchmarks.measure import matrix_flops, medians, peak_extra

CPU = torch.device("cpu")


def test_the_peak_is_what_is_held_at_once():
    def call():
        first = torch.empty(1000, 1000)  # 4 MB
        second = first + first  # 8 MB
        del first
        third = second * 2  # 8 MB
        del second, third
        torch.empty(500, 1000)

    assert 8_000_000 <= peak_extra(call, CPU) < 8_100_000


def test_what_was_held_before_neither_counts_nor_makes_room():
    before = [torch.empty(1000, 1000)]

    def call():
        before.clear()
        torch.empty(500, 1000)

    assert 2_000_000 <= peak_extra(call, CPU) < 2_100_000


def test_a_temporary_inside_an_operator_counts():
    x = torch.randn(100, 1000)
    assert peak_extra(lambda: torch.nn.functional.mse_loss(x, x + 1), CPU) >= x.numel() * 4


def test_flops_of_products_by_hand():
    left, right = torch.randn(3, 5), torch.randn(5, 7, requires_grad=True)
    assert matrix_flops(lambda: left @ right) == 2 * 3 * 5 * 7
    assert matrix_flops(lambda: (left @ right).sum().backward()) == 2 * 2 * 3 * 5 * 7  # no gradient for the left
    assert matrix_flops(lambda: left + 1) == 0


def test_flops_of_the_attention_of_a_cpu():
    query, key, value = (torch.randn(2, 3, 4, 8, requires_grad=True) for _ in range(3))

    def attend():
        return torch.nn.functional.scaled_dot_product_attention(query, key, value)

    forward = 2 * (2 * 3 * 4 * 4 * 8) * 2  # q·kᵀ and its product with v
    assert matrix_flops(attend) == forward
    # backward: both products differentiated twice, and q·kᵀ computed again
    assert matrix_flops(lambda: attend().sum().backward()) == forward + forward * 2.5


def test_calls_take_turns_and_one_round_is_always_made():
    seen = []
    found = medians([lambda: seen.append("a"), lambda: seen.append("b")], CPU, rounds=3, limit=60)
    assert seen == list("ababab") and len(found) == 2 and min(found) > 0
    seen.clear()
    medians([lambda: seen.append("a"), lambda: seen.append("b")], CPU, rounds=3, limit=0)
    assert seen == list("ab")
