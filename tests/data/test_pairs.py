"""Lists of pairs: every image once, and one clear line for every mistake."""

from pathlib import Path

import pytest
import torch

from data.decoding import Decoding
from data.pairs import read_pairs
from utils.errors import DataError


def grey(image: torch.Tensor) -> torch.Tensor:
    return image.float().mean((1, 2))


@pytest.fixture
def listed(draw_set, tmp_path):
    """A function that writes a list beside six drawn images a-0 … b-2 and reads it."""
    draw_set(tmp_path, (("p", "a"), ("p", "b")), train=3, test=1)

    def read(text: str, **options):
        file = tmp_path / "pairs.csv"
        file.write_text(text, encoding="utf-8")
        return read_pairs(file, grey, **options)

    return read


A, B = "p-a-train-{}.png".format, "p-b-train-{}.png".format
HEADER = "first,second,same\n"


def test_every_image_is_in_the_stream_once(listed):
    pairs = listed(f"{HEADER}{A(0)},{A(1)},1\n{A(0)}, {B(2)} ,0\n\n{B(2)},{A(1)},FALSE\n")
    assert pairs.first.tolist() == [0, 0, 2] and pairs.second.tolist() == [1, 2, 1]
    assert pairs.same.tolist() == [True, False, False] and pairs.same.dtype == bool
    batches = list(pairs.stream.batches(2, 0))
    assert torch.cat([batch["item"] for batch in batches]).tolist() == [0, 1, 2]
    assert [len(batch["image"]) for batch in batches] == [2, 1]


def test_the_images_are_those_named_and_paths_start_from_the_list(listed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    pairs = listed(f"{HEADER}{B(1)},{tmp_path / A(0)},0\n{B(1)},{B(1)},1\n")
    assert len(pairs.stream) == 2 and pairs.second.tolist() == [1, 0]
    (batch,) = pairs.stream.batches(9, 0)
    turned = listed(f"{HEADER}{A(0)},{B(1)},0\n{A(0)},{A(0)},1\n")
    (other,) = turned.stream.batches(9, 0)
    assert torch.equal(batch["image"].flip(0), other["image"]) and not torch.equal(batch["image"], other["image"])


def test_two_passes_and_any_cache_are_the_same(listed):
    text = f"{HEADER}{A(0)},{A(1)},1\n{A(0)},{B(2)},0\n"
    lists = [listed(text, decoding=Decoding(gigabytes)) for gigabytes in (4.0, 0.0)]
    passes = [next(pairs.stream.batches(9, seed))["image"] for seed, pairs in enumerate(lists)]
    assert torch.equal(*passes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"pairs\.csv:1: expected the header 'first,second,same', got ''"),
        ("a,b,c\n", r"pairs\.csv:1: expected the header 'first,second,same', got 'a,b,c'"),
        (HEADER, r"pairs\.csv: the list of pairs is empty"),
        (f"{HEADER}{A(0)},{A(1)}\n", r"pairs\.csv:2: expected two image paths and 1 or 0"),
        (f"{HEADER}{A(0)},{A(1)},1\n{A(0)},{A(1)},yes\n", r"pairs\.csv:3: expected two image paths and 1 or 0"),
        (f"{HEADER}{A(0)},gone.png,1\n", r"pairs\.csv:2: image 'gone\.png' does not exist in .*; paths start from"),
        (f"{HEADER}{A(0)},,1\n", r"pairs\.csv:2: image '' does not exist"),
        (f"{HEADER}{A(0)},{A(1)},1\n{A(0)},{A(2)},1\n", "all pairs have the same truth"),
        (f'{HEADER}"{A(0)},{A(1)},1\n', "cannot be read as csv"),
    ],
)
def test_a_list_with_a_mistake(listed, text, message):
    with pytest.raises(DataError, match=message) as caught:
        listed(text)
    assert "\n" not in str(caught.value)


def test_a_list_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv: no such list of pairs .* mend the key 'pairs'"):
        read_pairs(tmp_path / "gone.csv", grey)
    (tmp_path / "bytes.csv").write_bytes(b"first,second,same\n\xff\xfe,b,1\n")
    with pytest.raises(DataError, match=r"bytes\.csv: cannot be read as csv"):
        read_pairs(tmp_path / "bytes.csv", grey)


def test_an_image_that_is_none_is_named_with_its_list(listed, tmp_path):
    Path(tmp_path / "broken.png").write_bytes(b"no image")
    pairs = listed(f"{HEADER}{A(0)},broken.png,0\n{A(0)},{A(1)},1\n")
    with pytest.raises(DataError, match=r"pairs\.csv: .*broken\.png is truncated or not an image"):
        list(pairs.stream.batches(9, 0))
