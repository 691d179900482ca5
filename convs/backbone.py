"""What every image tower looks like from outside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from utils.errors import WeightsError


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the tower's input.

    Attributes:
        size: height and width in pixels.
        mean, std: per channel, of values in 0…1.
        crop_pct: the centre crop's share of the resized short side, for test images.
        interpolation: `bicubic` or `bilinear`.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float = 0.875
    interpolation: str = "bicubic"

    def described(self) -> dict[str, object]:
        """All but the size, as JSON has it."""
        own = {"mean": list(self.mean), "std": list(self.std)}
        return own | {"crop_pct": self.crop_pct, "interpolation": self.interpolation}

    def changed(self, said: Mapping[str, object]) -> Preprocess:
        """With what is said of it, as `described` says it, in place of its own; other keys do not count."""
        found = {key: tuple(map(float, said[key])) for key in ("mean", "std") if key in said}
        return replace(self, **found, **{key: said[key] for key in ("crop_pct", "interpolation") if key in said})

    def normalised(self, images: Tensor) -> Tensor:
        """[…, 3, H, W] of eight bits → single precision with the mean and spread the tower was made for.

        Other images are taken to be normalised already, and returned as they are.
        """
        if images.dtype != torch.uint8:
            return images
        levels = v2.functional.to_dtype(images, torch.float32, scale=True)
        # by numbers: torchvision's `normalize` sends its lists to the device, which would wait for them in every step
        for channel, mean, std in zip(levels.unbind(-3), self.mean, self.std, strict=True):
            channel.sub_(mean).div_(std)
        return levels


@dataclass(frozen=True)
class TrainedHead:
    """Classifier rows that came with the weights: row i belongs to `names[i]`.

    Attributes:
        names: of the classes.
        rows: [n, D], compared by cosines, or [n, D + 1] of a linear classifier, the bias in the last column.
    """

    names: tuple[str, ...]
    rows: Tensor


class Backbone(nn.Module, ABC):
    """An image tower: `[B, 3, size, size]` → raw features `[B, dim]`.

    It takes images of eight bits, which it normalises itself, or normalised ones.

    Attributes:
        net: the library's own module; its parameter names stay as they are.
        blueprint: what its library builds an empty `net` from, as the library's own file says it (`model_cfg` of
            open_clip, `architecture` and `model_args` of timm); None where no library alone can.
        dim: the width of the features.
        preprocess: the input the weights were made for.
        blocks: the transformer blocks, first to last.
        scale: what cosines are multiplied with to become logits, or None where the caller chooses.
        trained_heads: level → classifier rows that came with the weights.
        rebuilt: builds the same tower with other weights: `random`, a file or what else its builder knows; there for
            one that `convs.factory.build_backbone` made.
        tune_blocks: how many of the last blocks take adapters and LoRA; None: all.
        half: whether the towers compute in bfloat16, autocast from weights in single precision. Their outputs are
            single precision again, so that cosines, losses and statistics lose nothing.
        checkpoints: whether activations are computed again for the backward pass, see `checkpoint_activations`.
    """

    net: nn.Module
    blueprint: dict | None = None
    dim: int
    preprocess: Preprocess
    scale: Tensor | None = None
    rebuilt: Callable[[str], Backbone]
    tune_blocks: int | None = None
    half: bool = False
    checkpoints: bool = False

    def __init__(self):
        super().__init__()
        self.trained_heads: dict[str, TrainedHead] = {}

    @property
    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, first to last.

        Raises:
            WeightsError: the tower is no transformer.
        """

    @property
    def image_net(self) -> nn.Module:
        """The part of `net` that encodes images."""
        return self.net

    @property
    def tuned(self) -> list[nn.Module]:
        """The blocks that take adapters and LoRA."""
        return self.blocks[-(self.tune_blocks or 0) :]

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """[B, 3, size, size], normalised → raw features [B, dim], in whatever precision the tower computes."""

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, size, size], or what `prefix` made of them, [B, tokens, width] → raw features [B, dim]."""
        if images.dim() == 3:
            return self.resume(images)
        with self.casting():
            features = self.embed(self.preprocess.normalised(images))
        return features.float() if self.half else features

    def splits(self) -> bool:
        """Whether `embed` is `enter`, then the blocks one after another, then `leave`."""
        return False

    def enter(self, images: Tensor) -> Tensor:
        """Of a tower that splits: [B, 3, size, size], normalised → what enters its first block, [B, tokens, width]."""
        raise NotImplementedError

    def leave(self, hidden: Tensor) -> Tensor:
        """Of a tower that splits: what its last block puts out, [B, tokens, width] → [B, dim]."""
        raise NotImplementedError

    def prefix(self, images: Tensor) -> Tensor:
        """Of a tower that splits: [B, 3, size, size] → what enters the first block of `tuned`, [B, tokens, width]."""
        with self.casting():
            hidden = self.enter(self.preprocess.normalised(images))
            for block in self.blocks[: -len(self.tuned)]:
                hidden = block(hidden)
        return hidden

    def resume(self, hidden: Tensor) -> Tensor:
        """What `prefix` gave → the features that the images would have had, [B, dim]."""
        with self.casting():
            for block in self.tuned:
                hidden = block(hidden)
            features = self.leave(hidden)
        return features.float() if self.half else features

    def prefix_state(self) -> tuple | None:
        """What the output of `prefix` depends on beside the images: equal states, equal outputs.

        None where there is no prefix, or where it learns, draws at random, or is computed otherwise (activations that
        are checkpointed, compiled towers).
        """
        special = self._compiled_call_impl is not None or self.checkpoints
        if not self.tune_blocks or special or not self.splits() or len(self.tuned) == len(self.blocks):
            return None
        upper = {id(part) for block in self.tuned for part in (*block.modules(), *block.parameters())}
        modules = [module for module in self.image_net.modules() if id(module) not in upper]
        weights = [weight for weight in self.image_net.parameters() if id(weight) not in upper]
        if any(weight.requires_grad for weight in weights) or any(map(_draws, modules)):
            return None
        return self.tune_blocks, self.half, *((id(weight), weight._version) for weight in weights)

    def casting(self) -> AbstractContextManager:
        """Where a tower computes."""
        kind = next(self.parameters()).device.type
        return torch.autocast(kind, torch.bfloat16) if self.half else nullcontext()

    def checkpoint_activations(self) -> None:
        """Keep only what enters a block for the backward pass, which computes the rest again: less memory, more time.

        Raises:
            WeightsError: the library of the tower does not offer it.
        """
        if not hasattr(self.net, "set_grad_checkpointing"):
            raise WeightsError(
                f"key 'grad_checkpointing': {type(self.net).__name__} does not offer it; choose a tower of timm or "
                "open_clip, or leave it off"
            )
        self.net.set_grad_checkpointing(True)
        self.checkpoints = True

    def reset(self) -> None:
        """Begin anew: every weight is drawn as for a tower that was never trained, a text tower's too.

        Classes that came with the weights stay known by name; their rows then mean nothing.
        """
        self.load_state_dict(self.rebuilt("random").state_dict())


def mlp_norm(block: nn.Module) -> nn.Module:
    """The norm in front of a block's MLP: its input is what a parallel adapter reads.

    Raises:
        WeightsError: the block is not a pre-norm transformer block of timm, open_clip or torchvision.
    """
    # timm's post-norm blocks call the norm behind their MLP norm2, too; only their class names tell.
    names = () if "Post" in type(block).__name__ else ("norm2", "ln_2")
    for name in names:
        if isinstance(getattr(block, name, None), nn.Module):
            return getattr(block, name)
    raise WeightsError(
        f"the backbone's blocks ({type(block).__name__}) have no norm before their MLP; adapters need a pre-norm ViT"
    )


def _draws(module: nn.Module) -> bool:
    """Whether a module drops something at random while training."""
    names = ("p", "prob", "drop_prob") if "Drop" in type(module).__name__ else ("dropout",)
    return any(isinstance(share := getattr(module, name, 0), float) and share > 0 for name in names)
