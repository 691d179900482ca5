"""The cost model against sums by hand, and against what a run on the miniature does and leaves."""

import torch
from safetensors.torch import load_file

import trainer
from benchmarks.costs import Stream, Tower, backwards, checkpoint_bytes, flop, forwards, rows
from benchmarks.measure import matrix_flops
from convs.factory import build_backbone
from convs.vit import VitBackbone
from tests.support import ADAPTER, ROOT, experiment, lethe, only_run

MINIATURE = Tower(blocks=4, tokens=65, width=128, dim=128)


def test_sums_by_hand():
    stream = Stream(3, classes=2, train=5, test=3, first=4, later=2)
    assert [backwards(stream, i) for i in range(3)] == [40, 20, 20]
    # training, features (once, then twice), the test images of all classes so far
    assert [forwards(stream, i) for i in range(3)] == [40 + 10 + 6, 20 + 20 + 12, 20 + 20 + 18]


def test_operations_are_those_that_torch_counts():
    torch.manual_seed(0)
    backbone = build_backbone("tiny_vit", "random").eval()
    patches = 2 * 64 * (3 * 8 * 8) * 128  # their embedding, which is left out
    with torch.no_grad():
        counted = matrix_flops(lambda: backbone(torch.zeros(1, 3, 64, 64)))
    assert flop(MINIATURE) == counted - patches


def test_a_run_costs_what_is_predicted(workplace, monkeypatch):
    monkeypatch.setattr(trainer.plots, "curves", lambda *_: None)
    ahead, embed = [], VitBackbone.embed
    monkeypatch.setattr(VitBackbone, "embed", lambda self, x: ahead.append((len(x), self.training)) or embed(self, x))
    assert lethe("--config", experiment(ADAPTER, increment=2)) == 0
    stream = Stream(2, classes=2, train=6, test=4, first=2, later=2, bottleneck=8, parents=2)
    assert sum(n for n, training in ahead if training) == sum(backwards(stream, i) for i in range(2)) == 48
    assert sum(n for n, _ in ahead) == sum(forwards(stream, i) for i in range(2)) == 108
    tensors = load_file(only_run() / "checkpoint/session.safetensors")
    assert sum(value.nbytes for value in tensors.values()) == checkpoint_bytes(MINIATURE, stream) == 50_432


def test_the_page_has_the_figures():
    page = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    for name, cells in rows().items():
        assert f"| {name} | {' | '.join(cells)} |" in page
