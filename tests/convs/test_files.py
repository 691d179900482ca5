"""Weights files: what is read, what is refused, and that nothing runs."""

import json
import os
import pickle
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from convs.files import read_weights, written_by_pretrain
from utils.checkpoint import write_tensors
from utils.errors import WeightsError

STATE = {"a": torch.tensor([1.5, -2.0]), "b": torch.tensor([3, 4])}


def assert_state(found: dict, expected: dict = STATE) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def test_half_precision_becomes_single_and_metadata_comes_along(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file({"a": STATE["a"].half(), "b": STATE["b"]}, file, {"classes": "[]"})
    tensors, metadata = read_weights(file)
    assert_state(tensors)
    assert metadata == {"classes": "[]"}


def test_the_notes_of_a_product_lie_open(tmp_path):
    file = tmp_path / "weights.safetensors"
    write_tensors(file, STATE, {"classes": json.dumps({"fine": ["é"]})})
    tensors, metadata = read_weights(file)
    assert_state(tensors)
    assert len(metadata.pop("digest")) == 32  # that a damaged file shows
    assert metadata == {"classes": json.dumps({"fine": ["é"]})}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        OrderedDict(STATE),
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE, "optimizer": {"lr": 0.1}},
        {"state_dict": {f"module.{name}": value for name, value in STATE.items()}},
    ],
)
def test_torch_checkpoints_and_where_their_state_lies(tmp_path, content):
    file = tmp_path / "weights.pt"
    torch.save(content, file)
    assert_state(read_weights(file)[0])


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    witness = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(witness),)

    for file, write in ((tmp_path / "a.pt", torch.save), (tmp_path / "b.bin", _plain_pickle)):
        write({"a": Attack()}, file)
        with pytest.raises(WeightsError, match="nothing else is loaded") as caught:
            read_weights(file)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not witness.exists()


def _plain_pickle(content, file) -> None:
    file.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_missing_empty_cut_and_foreign_files(tmp_path, name):
    file = tmp_path / name
    with pytest.raises(WeightsError, match="no such weights file"):
        read_weights(file)
    (save_file if name.endswith("safetensors") else torch.save)({"a": torch.zeros(100)}, file)
    whole = file.read_bytes()
    odd = (b"\x80\x02e.", b"\x80\x02}q\x00X\x04\x00\x00\x00\xff\xff\xff\xffq\x01.", bytes(range(256)) * 4)
    for content in (b"", whole[: len(whole) // 2], b"GIF89a, not weights at all", *odd):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match=str(file)) as caught:
            read_weights(file)
        assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="no such weights file"):
        read_weights(tmp_path)


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"a": 3}, torch.zeros(2), {"state_dict": {"a": {"b": 1}}}])
def test_files_without_a_state_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match="no state dict"):
        read_weights(tmp_path / "weights.pt")


def test_which_files_the_pretrain_learner_wrote(tmp_path):
    for name, key in (("ours", "net.cls_token"), ("timm", "cls_token")):
        save_file({key: torch.zeros(2)}, tmp_path / f"{name}.safetensors")
    torch.save({"net.cls_token": torch.zeros(2)}, tmp_path / "other.pt")
    found = [written_by_pretrain(tmp_path / name) for name in ("ours.safetensors", "timm.safetensors", "other.pt")]
    assert found == [True, False, False]
    assert not written_by_pretrain(tmp_path / "missing.safetensors")
