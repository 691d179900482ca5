"""`convs.names`: which library a name belongs to."""

import pytest

from convs.names import PILOT, everyday_names, is_clip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B-16", True),
        ("ViT-L-14-quickgelu", True),
        ("RN50", True),
        ("EVA02-B-16", True),
        ("PE-Core-B-16", True),
        ("roberta-ViT-B-32", True),
        ("hf-hub:laion/CLIP-ViT-B-32-laion2B", True),
        ("tiny_clip", True),
        ("lit:vit_small_patch16_224", True),
        ("tiny_vit", False),
        ("vit_base_patch16_224.augreg_in21k", False),
        ("vit_base_patch16_clip_224.openai", False),
        ("hf-hub:timm/vit_base_patch16_clip_224.openai", False),
        ("pretrained_vit_b16_224_in21k_adapter", False),
        ("eva02_base_patch14_224", False),
    ],
)
def test_which_backbones_are_clips(name, expected):
    assert is_clip(name) is expected


def test_everyday_names_are_a_hundred_of_all_kinds():
    from open_clip import IMAGENET_CLASSNAMES

    found = everyday_names()
    assert len(set(found)) == len(found) == 100 and set(found) <= set(IMAGENET_CLASSNAMES)
    assert {"tench", "flamingo"} <= set(found)  # numbers 0 and 130


def test_pilots_names_of_a_method_mean_the_same_weights():
    for method in ("adapter", "ease", "l2p", "dualprompt", "coda_prompt", "mos"):
        assert PILOT[f"vit_base_patch16_224_{method}"] == PILOT["vit_base_patch16_224"]
        assert PILOT[f"vit_base_patch16_224_in21k_{method}"] == PILOT["vit_base_patch16_224_in21k"]
