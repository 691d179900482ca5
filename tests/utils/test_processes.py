"""Two processes that train one model: the same weights, statistics and order as alone, and one that writes."""

import faulthandler
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from tests.support import TOGETHER
from utils.loop import Phase, Recipe, fit
from utils.passes import gather, gradient_sums
from utils.processes import WHOLE, Part, by_the_first, first, in_order, joined, own_part
from utils.streams import ChainedStream, JoinedStream, PooledStream, TensorStream

CPU = torch.device("cpu")


# parts


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [5, 6, 9, 64])
def test_parts_are_neighbours_of_one_size_and_make_up_the_whole(rows, count):
    parts = [Part(index, count).of(list(range(rows))) for index in range(count)]
    assert [row for part in parts for row in part] == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_too_few_rows_are_everyones():
    assert [Part(index, 3).of([7, 8]) for index in range(3)] == [[7, 8]] * 3


def test_alone_everything_is_ones_own():
    assert own_part() == WHOLE == Part() and first()
    with joined(CPU) as device:
        assert device == CPU and not torch.distributed.is_initialized()
    done = []
    by_the_first(done.append)(1)
    assert done == [1]
    assert in_order([torch.arange(2), torch.arange(1)], [2, 1]).tolist() == [0, 1, 0]


def stream_of(count: int, first_item: int = 0, shuffle: bool = True) -> TensorStream:
    items = torch.arange(first_item, first_item + count)
    return TensorStream({"item": items, "x": items.double()[:, None]}, shuffle)


STREAMS = {
    "tensors": lambda: stream_of(11),
    "chained": lambda: ChainedStream([stream_of(5), stream_of(7, 5)]),
    "pooled": lambda: PooledStream([stream_of(5), stream_of(7, 5)]),
    "joined": lambda: JoinedStream(stream_of(11), torch.arange(11), {"y": torch.arange(11)}),
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_the_parts_of_a_streams_batches_are_its_batches(stream):
    whole = list(stream().batches(4, seed=3))
    parts = [list(stream().batches(4, 3, Part(index, 2))) for index in range(2)]
    for batch, one, two in zip(whole, *parts, strict=True):
        for name, value in batch.items():
            pieces = [one[name], two[name]] if len(value) >= 2 else [one[name]]
            assert torch.equal(torch.cat(pieces), value)


# two processes


class Net(nn.Module):
    """A little network, and a weight that no loss reaches."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        self.idle = nn.Parameter(torch.ones(3).double())


def trained() -> dict[str, torch.Tensor]:
    """Three epochs of 4, 4 and 1 examples beside another stream's; then what is computed from all examples."""
    net, terms = Net(), []

    def loss(batches):
        one, two = (net.layers(batches[name]["x"] / 9) for name in ("train", "other"))
        return {"a": (one - 1).square().mean(), "b": 0.1 * two.square().mean()}

    streams = {"train": stream_of(9), "other": stream_of(5)}
    recipe = Recipe(3, lr=0.1, batch_size=4, optimizer="adamw", weight_decay=0.1)
    fit(Phase("p", net, streams, loss, net.parameters(), recipe), seed=1, after_epoch=lambda p: terms.append(p.epoch))
    seen = gather(net, lambda batch: {"z": net.layers(batch["x"]), "item": batch["item"]}, stream_of(9), batch_size=4)
    squares = gradient_sums(
        net, lambda batch: net.layers(batch["x"]).sum(), stream_of(5), net.layers.parameters(), batch_size=1,
        each=torch.square,
    )  # fmt: skip
    state = {name: value.clone() for name, value in net.state_dict().items()}
    return state | seen | {f"square {i}": value for i, value in enumerate(squares)}


def one_of_two(rank: int, port: int, folder: str) -> None:
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
    os.environ |= TOGETHER | world
    faulthandler.enable()
    torch.set_num_threads(1)
    with joined(CPU) as device:
        assert device == CPU and own_part() == Part(rank, 2) and first() == (rank == 0)
        by_the_first(lambda: (Path(folder) / f"written by {rank}").touch())()
        torch.save(trained(), Path(folder) / f"{rank}.pt")
    assert own_part() == WHOLE


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """The folder in which two processes left what they trained."""
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(one_of_two, (port, str(folder)), nprocs=2)
    return folder


@pytest.mark.parametrize("rank", [0, 1])
def test_weights_statistics_and_their_order_are_those_of_one_process(pair, rank):
    alone, here = trained(), torch.load(pair / f"{rank}.pt", weights_only=True)
    assert alone.keys() == here.keys() and torch.equal(here["item"], alone["item"])
    assert torch.equal(here["idle"], torch.ones(3).double())  # it is not to decay, either
    for name, value in alone.items():
        torch.testing.assert_close(here[name], value, rtol=1e-12, atol=1e-14, msg=name)


def test_one_process_writes(pair):
    assert sorted(file.name for file in pair.iterdir()) == ["0.pt", "1.pt", "written by 0"]
