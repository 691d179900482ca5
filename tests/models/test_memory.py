"""What a memory holds, lets go of, and takes across a checkpoint."""

import torch

from models.memory import Memory


def numbers(memory: Memory) -> dict[int, list[int]]:
    return {label: items.tolist() for label, items in memory.kept.items()}


def test_the_whole_is_shared_evenly_and_the_last_go_first():
    memory = Memory(size=7)
    memory.keep({0: torch.tensor([4, 2, 9, 1]), 1: torch.tensor([5, 6, 7, 8])})
    assert numbers(memory) == {0: [4, 2, 9], 1: [5, 6, 7]}
    memory.keep({2: torch.tensor([11, 12, 13])})
    assert numbers(memory) == {0: [4, 2], 1: [5, 6], 2: [11, 12]}
    assert memory.items.tolist() == [4, 2, 5, 6, 11, 12]


def test_a_fixed_memory_grows():
    memory = Memory(size=1, per_class=2, fixed=True)
    for label in range(3):
        memory.keep({label: torch.tensor([10 * label, 10 * label + 1, 10 * label + 2])})
    assert memory.items.tolist() == [0, 1, 10, 11, 20, 21] and memory.share(100) == 2


def test_what_is_let_go_of_is_no_longer_in_memory():
    source = torch.tensor([1, 2, 3, 4])
    memory = Memory(size=2)
    memory.keep({0: source})
    assert memory.kept[0].untyped_storage().size() == 2 * source.element_size()


def test_a_state_travels():
    memory, other = Memory(size=4), Memory(size=4)
    assert other.items.tolist() == []
    memory.keep({3: torch.tensor([8, 1]), 0: torch.tensor([2])})
    other.kept = {9: torch.tensor([1])}
    assert other.load_state_dict({"rest": torch.ones(1), **memory.state_dict()}).keys() == {"rest"}
    assert numbers(other) == numbers(memory) and other.items.tolist() == [2, 8, 1]
