"""The text tower cut to its texts: the same embeddings and gradients as over the whole context."""

import open_clip
import pytest
import torch

from convs.clip_models import LIT_TEXT, TINY_ARCHITECTURE
from convs.text import encode_tokens

TEXTS = ["a car", "a photo of a red Veltro Comet from the side", ""]


def plain_clip(**text) -> torch.nn.Module:
    torch.manual_seed(0)
    return open_clip.CLIP(**TINY_ARCHITECTURE | {"text_cfg": TINY_ARCHITECTURE["text_cfg"] | text})


def custom_clip(**text) -> torch.nn.Module:
    torch.manual_seed(0)
    vision = TINY_ARCHITECTURE["vision_cfg"]
    return open_clip.CustomTextCLIP(embed_dim=128, vision_cfg=vision, text_cfg=LIT_TEXT | text)


NETS = {
    "plain": plain_clip,
    "custom": custom_clip,
    "plain, pooled at a given end": lambda: plain_clip(pool_type="eos", eos_id=49407),
    "custom, pooled at a given end": lambda: custom_clip(pool_type="eos", eos_id=49407),
}
WHOLE = {
    "bidirectional": lambda: custom_clip(no_causal_mask=True),
    "pooled at the first token": lambda: custom_clip(pool_type="first"),
    "pooled at the last token": lambda: custom_clip(pool_type="last"),
    "with a class token": lambda: custom_clip(embed_cls=True),
}


def tokens(texts: list[str] = TEXTS) -> torch.Tensor:
    return open_clip.SimpleTokenizer(context_length=32)(texts)


@pytest.mark.parametrize("build", [*NETS.values(), *WHOLE.values()], ids=[*NETS, *WHOLE])
def test_the_embeddings_are_those_of_the_whole_context(build):
    net = build().double()
    torch.testing.assert_close(encode_tokens(net, tokens()), net.encode_text(tokens()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("build", [plain_clip, custom_clip])
def test_so_are_the_gradients_of_every_weight(build):
    net, other = build().double(), build().double()
    encode_tokens(net, tokens()).square().sum().backward()
    other.encode_text(tokens()).square().sum().backward()
    for (name, one), two in zip(net.named_parameters(), other.parameters(), strict=True):
        if two.grad is not None:
            torch.testing.assert_close(one.grad, two.grad, rtol=1e-7, atol=1e-10, msg=name)
        else:
            assert one.grad is None, name


@pytest.mark.parametrize(("build", "expected"), [(custom_clip, 4), (WHOLE["pooled at the last token"], 32)])
def test_nothing_behind_the_longest_text_is_computed_where_that_is_exact(build, expected):
    net, seen = build(), []
    net.text.transformer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    encode_tokens(net, tokens(["a car"]))  # start, "a", "car", end
    assert seen == [expected]


def test_the_model_is_left_as_it_was():
    net = plain_clip()
    encode_tokens(net, tokens())
    assert net.positional_embedding.shape == (32, 64)
    assert isinstance(net.positional_embedding, torch.nn.Parameter)
    assert net.attn_mask.shape == (32, 32)
