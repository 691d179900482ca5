"""The benchmarks at a size for tests: both sides agree, the table is well-formed. No time is judged."""

from dataclasses import replace

import pytest
import torch

from benchmarks.gs_lora_step import PlainFace
from benchmarks.item import Item, Target
from benchmarks.run import COLUMNS, FILES, Row, items, main, measure, measure_times, table
from benchmarks.sampling import check as check_sampling
from benchmarks.sampling import drawn_anew
from benchmarks.shift import tiled_shift
from utils.gaussians import class_statistics

CPU = torch.device("cpu")


def nothing() -> None:
    return


def row(**changes) -> Row:
    item = Item("some item", "C 3", nothing, nothing, nothing, Target(faster=10, smaller=2, floors=1.5))
    return replace(Row(item, (0.5, 6.0), (2**20, 2**21), 10**9, 2.5e9, "cpu"), **changes)


@pytest.mark.parametrize("name", FILES)
def test_every_file_offers_items_whose_sides_agree_and_run(name):
    names = []
    for item in items("small", CPU, name):
        names.append(item.name)
        measured = measure(item, CPU, rounds=1, limit=0)  # checks that both compute the same
        assert min(measured.seconds) > 0 and min(measured.peaks) > 0
        assert len(measured.cells(judged=False)) == len(COLUMNS)
    assert names and len(set(names)) == len(names)


def test_the_command_prints_one_table(capsys):
    main(["--small", "--only", "shift", "--rounds", "1"])
    machine, empty, *lines = capsys.readouterr().out.splitlines()
    assert "GFLOP/s" in machine and not empty and len(lines) == 3
    assert {line.count("|") for line in lines} == {len(COLUMNS) + 1}
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == list(COLUMNS)
    assert lines[2].startswith("| semantic shift | C 3, N 7, D 5 |")


def test_ratios_and_verdicts_of_a_row():
    cells = dict(zip(COLUMNS, row().cells(judged=True), strict=True))
    assert (cells["toolbox"], cells["plain"], cells["faster"]) == ("500.00 ms", "6.00 s", "12.00 ×")
    assert (cells["toolbox MB"], cells["plain MB"], cells["smaller"]) == ("1.0", "2.0", "2.00 ×")
    assert cells["× floor"] == "1.25"  # 1e9 / 2.5e9 = 0.4 s
    assert cells["must reach"] == "time ≥ 10 ×: yes; memory ≥ 2 ×: yes; floor ≤ 1.5 ×: yes"


def test_what_is_missed_is_said_to_be_so_and_only_where_it_can_be_judged():
    slow = row(seconds=(1.0, 6.0), peaks=(2**21, 2**21))
    assert list(slow.verdicts(True)) == ["time ≥ 10 ×: **no**", "memory ≥ 2 ×: **no**", "floor ≤ 1.5 ×: **no**"]
    assert list(slow.verdicts(False)) == ["time ≥ 10 ×", "memory ≥ 2 ×", "floor ≤ 1.5 ×"]
    assert list(row(device="cuda").verdicts(False)) == ["time ≥ 10 ×", "memory ≥ 2 ×"]
    assert row(flops=1000).floors is None  # hardly a product in it
    assert "| – |" in table([row(item=replace(row().item, target=Target()))], judged=True)


def test_a_part_of_the_work_counts_as_the_whole(monkeypatch):
    item = replace(row().item, share=0.25)
    monkeypatch.setattr("benchmarks.run.medians", lambda *_: [1.0, 2.0, 1.0])
    assert measure(item, CPU, rounds=1, limit=0).seconds == (1.0, 8.0)


def test_sides_that_differ_are_not_measured():
    class Differs(Exception):
        pass

    def differ():
        raise Differs

    with pytest.raises(Differs):
        measure(replace(row().item, check=differ), CPU, rounds=1, limit=0)


def test_times_alone_call_each_side_once_a_round_and_leave_the_rest_open():
    calls = []
    item = Item(
        "long", "", lambda: calls.append("toolbox"), lambda: calls.append("plain"), lambda: calls.append("check")
    )
    timed = measure_times(replace(item, target=Target(1e9, 2, 1.5)), CPU, rounds=2, limit=60)
    assert calls == ["toolbox", "plain"] * 2
    cells = dict(zip(COLUMNS, timed.cells(judged=True), strict=True))
    assert [cells[name] for name in ("toolbox MB", "plain MB", "smaller", "× floor")] == ["–"] * 4
    assert cells["must reach"] == "time ≥ 1e+09 ×: **no**"


def test_the_check_of_the_samples_sees_another_covariance():
    features = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    mean, covariance = features.mean(0), torch.cov(features.T) + 1e-3 * torch.eye(3)
    torch.manual_seed(0)
    check_sampling([class_statistics(features, 1e-3)], [(mean, covariance)], drawn_anew)
    with pytest.raises(AssertionError):
        check_sampling([class_statistics(features, 1e-3)], [(mean, 1.001 * covariance)], drawn_anew)
    with pytest.raises(AssertionError):
        check_sampling(
            [class_statistics(features, 1e-3)],
            [(mean, covariance)],
            lambda stored, count, epochs: [1.2 * drawn_anew(stored, count, epochs)[0]],
        )


def test_the_tiled_shift_by_hand():
    before, drift = torch.tensor([[0.0, 0.0], [100.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    moved = tiled_shift(torch.tensor([[0.0, 0.0]]), before, before + drift, sigma=4.0)
    # weights 1 + 1e-5 and 1e-5
    assert moved[0].tolist() == pytest.approx([1.00001 / 1.00002, 5e-5 / 1.00002], rel=1e-5)


def test_the_plain_face_transformer_is_the_toolboxs():
    from benchmarks.gs_lora_step import SIZES, made

    model, session = made(SIZES["small"], CPU, 0.0)
    images = session.stream("forget").fields["image"]
    with torch.no_grad():
        torch.testing.assert_close(PlainFace(model, 0.0)(images), model(images).logits["fine"], rtol=1e-4, atol=1e-3)
