"""The backbone of an image–text model of open_clip, whose import waits until one is built."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convs.backbone import Backbone, Preprocess
from convs.text import encode_tokens
from convs.vit import is_plain, tokens_of
from utils.errors import WeightsError

TEXT_BATCH = 256

Tokenizer = Callable[[list[str]], Tensor]


class ClipBackbone(Backbone):
    """The image tower of an open_clip model, its text tower at hand.

    Args:
        net: the model.
        preprocess: the input its weights were made for.
        tokenizer: texts → tokens [T, length].
    """

    def __init__(self, net: nn.Module, preprocess: Preprocess, tokenizer: Tokenizer):
        super().__init__()
        self.net, self.preprocess, self.tokenizer = net, preprocess, tokenizer
        self.dim = self._embedding_width()

    @property
    def blocks(self) -> list[nn.Module]:
        """The image tower's transformer blocks, first to last.

        Raises:
            WeightsError: the tower is no transformer.
        """
        visual = self.net.visual
        holder, name = (visual.trunk, "blocks") if hasattr(visual, "trunk") else (visual, "transformer")
        found = getattr(holder, name, None)
        if found is None:
            raise WeightsError(f"the image tower ({type(holder).__name__}) has no transformer blocks; choose a ViT")
        return list(found if name == "blocks" else found.resblocks)

    @property
    def text_blocks(self) -> list[nn.Module]:
        """The text tower's transformer blocks, first to last.

        Raises:
            WeightsError: the tower is not open_clip's own transformer.
        """
        tower = getattr(self.net, "text", self.net)
        if not hasattr(getattr(tower, "transformer", None), "resblocks"):
            raise WeightsError(f"the text tower ({type(tower).__name__}) has no transformer blocks of open_clip's own")
        return list(tower.transformer.resblocks)

    @property
    def tuned_text(self) -> list[nn.Module]:
        """The blocks of the text tower that take adapters."""
        return self.text_blocks[-(self.tune_blocks or 0) :]

    @property
    def scale(self) -> Tensor:
        """exp(logit_scale), as a constant."""
        return self.net.logit_scale.detach().exp()

    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → projected, not normalised embeddings [B, dim]."""
        return self.net.encode_image(images)

    @property
    def image_net(self) -> nn.Module:
        """The image tower."""
        return self.net.visual

    def splits(self) -> bool:
        """Whether its image tower is open_clip's own transformer, or timm's plain one."""
        from open_clip.transformer import VisionTransformer

        visual = self.net.visual
        own = type(visual) is VisionTransformer and visual.transformer.batch_first and not visual.output_tokens
        return own or (hasattr(visual, "trunk") and is_plain(visual.trunk))

    def enter(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] → what enters the first block, [B, tokens, width]."""
        visual = self.net.visual
        return tokens_of(visual.trunk, images) if hasattr(visual, "trunk") else visual._embeds(images)

    def leave(self, hidden: Tensor) -> Tensor:
        """What the last block puts out, [B, tokens, width] → [B, dim]."""
        visual = self.net.visual
        if hasattr(visual, "trunk"):
            return visual.head(visual.trunk.forward_head(visual.trunk.norm(hidden)))
        pooled, _ = visual._pool(hidden)
        return pooled if visual.proj is None else pooled @ visual.proj

    def encode_text(self, texts: list[str]) -> Tensor:
        """[T] texts → embeddings [T, dim], not normalised."""
        device = self.net.logit_scale.device
        parts = [texts[i : i + TEXT_BATCH] for i in range(0, len(texts), TEXT_BATCH)]
        with self.casting():
            found = [encode_tokens(self.net, self.tokenizer(part).to(device)) for part in parts]
        return torch.cat(found).float() if self.half else torch.cat(found)

    def name_features(self, names: list[str], templates: tuple[str, ...]) -> Tensor:
        """Ensemble features of class names: normalised per template, averaged, normalised again.

        Args:
            names: n class names.
            templates: texts with `{}` for the name.

        Returns:
            [n, dim].

        Source: Radford et al., CLIP, ICML 2021, section 3.1.4.
        """
        texts = [template.replace("{}", name) for name in names for template in templates]
        features = F.normalize(self.encode_text(texts), dim=-1)
        return F.normalize(features.view(len(names), len(templates), -1).mean(1), dim=-1)

    @torch.no_grad()
    def _embedding_width(self) -> int:
        """The width both towers share; image towers of different libraries keep theirs in different places."""
        return self.encode_text([""]).shape[1]
