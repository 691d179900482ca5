"""The shipped miniatures are worth forgetting: evaluated anew on the test images they promise to know."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from convs.factory import build_backbone
from convs.names import SHIPPED, TINY
from convs.templates import DRAWN
from data.images import ImageSet
from data.registry import find_set
from data.transforms import test_transform as plain_transform

GENERAL = ("toyfruits", "toyflags", "toyshapes", "toyanimals")


@torch.no_grad()
def accuracy(backbone, dataset: str, level: str) -> float:
    """Percent of the set's test images whose best name of a level is the true one."""
    indexed = find_set(dataset, Path("data/sets"))
    records = indexed.splits["test"]
    names = sorted({getattr(record, level) for record in records})
    rows = F.normalize(name_rows(backbone, names, level), dim=-1)
    look = backbone.preprocess
    transform = plain_transform(look.size, look.interpolation, look.crop_pct)
    images = ImageSet(indexed, "test", range(len(records)), {})
    pixels = torch.stack([transform(images.image(item)) for item in range(len(records))])
    features = torch.cat([F.normalize(backbone(chunk), dim=-1) for chunk in pixels.split(128)])
    found = [names[column] for column in (features @ rows.T).argmax(1).tolist()]
    return 100 * sum(name == getattr(r, level) for name, r in zip(found, records, strict=True)) / len(records)


def name_rows(backbone, names, level):
    if hasattr(backbone, "name_features"):
        return backbone.name_features(names, DRAWN)
    head = backbone.trained_heads[level]
    return head.rows[[head.names.index(name) for name in names]]


@pytest.mark.parametrize("name", sorted(TINY))
def test_cars_are_known_by_model_and_by_make(name):
    backbone = build_backbone(name).eval()
    assert accuracy(backbone, "toycars", "fine") >= 90
    assert accuracy(backbone, "toycars", "coarse") >= 95


@pytest.mark.parametrize("dataset", GENERAL)
def test_tiny_clip_knows_the_general_sets(dataset):
    assert accuracy(build_backbone("tiny_clip").eval(), dataset, "fine") >= 90


def test_the_files_are_small():
    sizes = [file.stat().st_size for file in SHIPPED.glob("*.safetensors")]
    assert len(sizes) == 2 and sum(sizes) <= 12e6
