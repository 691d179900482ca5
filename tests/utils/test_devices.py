"""Where a run computes, and what it takes of it."""

import logging

import pytest
import torch

from utils.devices import choose_device, choose_half, peak_mb
from utils.errors import WeightsError


@pytest.fixture
def gpus(monkeypatch):
    """A function that pretends this machine had so many GPUs."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    "wish, count, device",
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cpu", 0, "cpu"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_what_is_there_is_taken(gpus, wish, count, device, strict):
    gpus(count)
    assert choose_device(wish, strict) == torch.device(device)


@pytest.mark.parametrize("wish, count", [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_what_is_not_there_is_an_error_or_a_warning(gpus, caplog, wish, count):
    gpus(count)
    with pytest.raises(WeightsError, match=rf"--device {wish}: this machine has {count} usable GPU\(s\); use --device"):
        choose_device(wish, strict=True)
    with caplog.at_level(logging.WARNING, "lethe"):
        assert choose_device(wish, strict=False) == torch.device("cpu")
    (record,) = caplog.records
    assert f"device '{wish}' of the config is not there ({count} GPUs); running on the CPU" in record.getMessage()


def test_a_driver_without_a_usable_gpu_counts_as_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert choose_device("auto", strict=True) == torch.device("cpu")


@pytest.mark.parametrize("version, half", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_that_multiplies_bfloat16_is_used_so(monkeypatch, version, half):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: version)
    assert choose_half("auto", torch.device("cuda")) is half


@pytest.mark.parametrize("flags, half", [("fpu avx512f avx512_bf16", True), ("fpu amx_bf16", True), ("avx2", False)])
def test_so_is_a_cpu(monkeypatch, tmp_path, flags, half):
    (tmp_path / "cpuinfo").write_text(f"model name : a CPU\nflags : {flags}\n")
    monkeypatch.setattr("utils.devices.CPUINFO", tmp_path / "cpuinfo")
    assert choose_half("auto", torch.device("cpu")) is half
    monkeypatch.setattr("utils.devices.CPUINFO", tmp_path / "none")
    assert choose_half("auto", torch.device("cpu")) is False


def test_what_is_asked_for_is_done():
    assert choose_half("bf16", torch.device("cpu")) is True
    assert choose_half("fp32", torch.device("cuda")) is False


def test_peak_memory_only_grows_and_is_in_megabytes(monkeypatch):
    before = peak_mb(torch.device("cpu"))
    ballast = torch.ones(40 * 2**18)  # 40 MB
    after = peak_mb(torch.device("cpu"))
    assert 40 < before <= after < 10**6 and len(ballast)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    assert peak_mb(torch.device("cuda:1")) == 3.0
