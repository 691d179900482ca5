"""Whole runs beside their plain readings: both start from the same model, and come to about the same."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from benchmarks.plain_gs_lora import LoRAMlp, accuracy, tower
from benchmarks.plain_quickstart import PlainAdapters
from benchmarks.request_step import hinge
from benchmarks.whole_runs import COLUMNS, CPU, RUNS, main
from convs.heads import cosines
from models.build import Built, build
from utils.config import Config, load_config


def made(name: str) -> tuple[Built, Config]:
    whole = RUNS[name]
    config = load_config(Path(whole.file), whole.small | {"precision": "fp32"}).config
    return build(config, config.seed[0], CPU), config


def noise(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_a_tower_is_the_pretrained_one_and_merging_keeps_what_it_says():
    built, config = made("gs_lora")
    backbone = built.learner.model.backbone
    net = tower(config)
    with torch.no_grad():
        assert_close(net(noise(2)), backbone(noise(2)))
        for block in net.blocks:
            block.mlp = LoRAMlp(block.mlp, config.lora_rank)
            for matrix in block.mlp.lora.parameters():
                matrix.normal_(std=0.3)
        tuned = net(noise(2))
        for block in net.blocks:
            block.mlp = block.mlp.merged()
        assert_close(net(noise(2)), tuned, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(backbone(noise(2)), tuned, atol=1e-2)


def test_a_pass_counts_the_images_of_some_classes_only():
    built, config = made("gs_lora")
    session, rows = built.sessions[0], built.learner.model.rows()["fine"].detach()
    net = tower(config)
    batch = next(session.stream("test").batches(len(session.stream("test")), seed=0))
    with torch.no_grad():
        hits = (cosines(net(batch["image"]), rows).argmax(1) == batch["fine"]).float()
    some = session.alive[:3]
    chosen = torch.tensor([label in some for label in batch["fine"].tolist()])
    assert accuracy(net, rows, session, some) == pytest.approx(100 * hits[chosen].mean().item())


def test_fresh_adapters_leave_the_tower_as_it_is_and_some_weights_move_both_alike():
    built, config = made("quickstart")
    plain, backbone = PlainAdapters(built, config), built.learner.model.backbone.eval()
    with torch.no_grad():
        assert_close(plain.net.eval()(noise(2)), backbone(noise(2)))
        for ours, theirs in zip(backbone.net.blocks, plain.net.blocks, strict=True):
            for a, b in zip(ours.adapter.parameters(), theirs.adapter.parameters(), strict=True):
                a.normal_(std=0.1)
                b.copy_(a)
        assert_close(plain.net(noise(2)), backbone(noise(2)), rtol=1e-4, atol=1e-4)


def test_the_hinge_is_what_is_missing_to_the_margin():
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 5.0, 9.0]])  # 3 − 1 + 2 = 4, and 5 − 9 + 2 < 0
    assert hinge(logits, torch.tensor([0, 1])).item() == pytest.approx(2.0)


def test_the_table_has_a_row_for_each_run_whose_sides_agree(capsys):
    main(["--small"])
    head, ruler, *rows = [line.strip("| \n").split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert tuple(head) == COLUMNS and len(ruler) == len(COLUMNS) and len(rows) == len(RUNS)
    for row, whole in zip(rows, RUNS.values(), strict=True):
        assert row[0] == whole.file
        ours, theirs = (float(cell) for cell in row[6:8])
        assert abs(ours - theirs) < 10  # a step or two each, of different random numbers; chance is 7 and 0
