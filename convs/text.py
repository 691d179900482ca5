"""The text tower of an open_clip model, run only as far as its texts go."""

from torch import Tensor, nn
from torch.func import functional_call


def encode_tokens(net: nn.Module, tokens: Tensor) -> Tensor:
    """What `net.encode_text` says of tokens, at the cost of the longest text instead of the whole context.

    In a causal tower no token sees a later one, so what stands behind the end of the longest text changes no embedding
    that is read at the end of a text. Other towers (bidirectional, pooled elsewhere) see the whole context.

    Args:
        net: an open_clip model.
        tokens: [T, context].

    Returns:
        Embeddings [T, dim], not normalised.

    Source: ours.
    """
    part = "text." if hasattr(net, "text") else ""
    tower = net.text if part else net
    if not _reads_ends(tower):
        return net.encode_text(tokens)
    length = int(_ends(tower, tokens).max()) + 1
    cut = {"positional_embedding": tower.positional_embedding[:length], "attn_mask": tower.attn_mask[:length, :length]}
    own = {f"net.{part}{name}": value for name, value in cut.items()}
    return functional_call(_TextOnly(net), own, (tokens[:, :length],))


class _TextOnly(nn.Module):
    """A model whose forward pass is that of its text tower."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, tokens: Tensor) -> Tensor:
        return self.net.encode_text(tokens)


def _reads_ends(tower: nn.Module) -> bool:
    causal = getattr(tower, "attn_mask", None) is not None
    plain = getattr(tower, "cls_emb", None) is None and not getattr(tower, "use_pad_mask", False)
    return causal and plain and _pool(tower) in ("argmax", "eos")


def _pool(tower: nn.Module) -> str:
    return getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", "")


def _ends(tower: nn.Module, tokens: Tensor) -> Tensor:
    """Where the embedding of each text is read, [T]."""
    if _pool(tower) == "argmax":
        return tokens.argmax(1)
    end = tower.text_eos_id if hasattr(tower, "text_eos_id") else tower.eos_id
    return (tokens == end).int().argmax(1)
