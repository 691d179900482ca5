"""The face transformer of GS-LoRA, built of timm's parts."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.layers import resample_abs_pos_embed
from timm.models import VisionTransformer
from torch import Tensor, nn

from convs.backbone import Preprocess, TrainedHead
from convs.files import read_weights, written_by_pretrain
from convs.vit import VitBackbone, load_ours
from utils.errors import WeightsError, nearest

PATCH, DROPOUT = 8, 0.1
OVERLAP = {"kernel_size": 12, "stride": PATCH, "padding": 4}  # Zhong & Deng, 2021, section 3.1
CENTRED, RAW = ((0.5,) * 3, (0.5,) * 3), ((0.0,) * 3, (1.0,) * 3)  # mean and std

# the published names of the whole and of a block's parts → timm's
WHOLE = {"pos_embedding": "pos_embed", "patch_to_embedding.": "patch_embed.proj.", "mlp_head.0.": "norm."}
PARTS = {
    "0.fn.norm": "norm1",
    "0.fn.fn.to_qkv": "attn.qkv",
    "0.fn.fn.to_out.0": "attn.proj",
    "1.fn.norm": "norm2",
    "1.fn.fn.net.0": "mlp.fc1",
    "1.fn.fn.net.3": "mlp.fc2",
}


@dataclass(frozen=True)
class Shape:
    """What tells the face transformers apart; all have patches of 8 pixels and an MLP of four times the width."""

    depth: int
    overlap: bool = False
    dim: int = 512
    heads: int = 8
    size: int = 112


SHAPES = {
    f"face_vit_p8_d{depth}{ending}": Shape(depth, bool(ending)) for depth in (6, 12, 18) for ending in ("", "_overlap")
} | {"face_vit_small": Shape(4, overlap=True, dim=128, heads=4, size=48)}


class FaceBackbone(VitBackbone):
    """A pre-norm ViT whose class token, normalised, is the embedding of a face; fresh weights are drawn as timm does.

    Args:
        shape: its size.
        img_size: side of the input in pixels, a multiple of 8; None: the shape's own.

    Source: Zhong & Deng, Face Transformer for Recognition, arXiv 2103.14803, section 3.1, as in GS-LoRA, CVPR 2024.
    The published attention divides by the root of the model's width instead of the head's; its checkpoints need that.
    """

    def __init__(self, shape: Shape, img_size: int | None = None):
        size = img_size or shape.size
        net = VisionTransformer(
            img_size=size,
            patch_size=PATCH,
            embed_dim=shape.dim,
            depth=shape.depth,
            num_heads=shape.heads,
            qkv_bias=False,
            pos_drop_rate=DROPOUT,
            proj_drop_rate=DROPOUT,
            norm_layer=nn.LayerNorm,
            num_classes=0,
        )
        if shape.overlap:
            net.patch_embed.proj = nn.Conv2d(3, shape.dim, **OVERLAP)
        for block in net.blocks:
            block.attn.q_norm = Factor(shape.heads**-0.5)
        super().__init__(net, _look(size, CENTRED))


class Factor(nn.Module):
    """Multiplies: before timm's attention, whose fused kernel knows no other scale than its own."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """[…] → […]."""
        return self.factor * x


def build_face(name: str, weights: str | None = None, img_size: int | None = None) -> FaceBackbone:
    """A face transformer.

    Args:
        name: a key of `SHAPES`.
        weights: `random`, or a local file: one that the `pretrain` learner wrote, or a checkpoint of GS-LoRA's authors.
            Theirs come with the names of the classifier's rows, one a line, in a text file beside them
            (`faces.pth`, `faces.txt`); without it the tower alone is loaded. They were trained on pixels of 0…1.
        img_size: input size where it differs from the shape's own.

    Raises:
        WeightsError: unknown name, a size that is no multiple of the patch, no weights named, or some that do not fit.
    """
    if name not in SHAPES:
        raise WeightsError(f"convnet_type '{name}' is no face transformer{nearest(name, SHAPES)}")
    if img_size and img_size % PATCH:
        raise WeightsError(f"img_size {img_size}: '{name}' needs a multiple of {PATCH}, the side of its patches")
    if weights is None:
        raise WeightsError(
            f"'{name}' has no weights of its own to fetch; set 'weights' to a file (the learner 'pretrain' makes one) "
            'or to "random"'
        )
    backbone = FaceBackbone(SHAPES[name], img_size)
    if weights == "random":
        return backbone
    load = load_ours if written_by_pretrain(Path(weights)) else load_published
    load(backbone, Path(weights))
    return backbone


def load_published(backbone: FaceBackbone, file: Path) -> None:
    """Load a checkpoint of GS-LoRA's authors: the tower and, where their names stand beside it, its classifier's rows.

    Raises:
        WeightsError: the file is missing, damaged, of another architecture, or holds matrices of LoRA beside the
            weights; or there are not as many names as rows.
    """
    state, _ = read_weights(file)
    if any(".lora_" in key for key in state):
        raise WeightsError(f"{file}: holds LoRA beside its weights, merged or not; give the pre-trained checkpoint")
    rows, bias = state.pop("loss.weight", None), state.pop("loss.bias", None)
    try:
        renamed = {_timm_name(key): _timm_value(key, value, backbone.net) for key, value in state.items()}
        backbone.net.load_state_dict(renamed)
    except (RuntimeError, ValueError, LookupError) as error:
        raise WeightsError(
            f"{file}: does not fit this face transformer ({' '.join(str(error).split())[:200]})"
        ) from error
    backbone.preprocess = _look(backbone.preprocess.size, RAW)
    names = _names(file.with_suffix(".txt"))
    if names and rows is not None:
        linear = rows if bias is None else torch.cat([rows, bias[:, None]], 1)  # the plain softmax head has a bias
        backbone.trained_heads = {"fine": _head(file, names, linear)}


def _timm_name(key: str) -> str:
    """One published name as timm's; one that is none stays, for the error to show."""
    for theirs, ours in WHOLE.items():
        if key.startswith(theirs):
            return key.replace(theirs, ours)
    found = re.fullmatch(r"transformer\.layers\.(\d+)\.(.+)\.(weight|bias)", key)
    if found is None or found[2] not in PARTS:
        return key
    return f"blocks.{found[1]}.{PARTS[found[2]]}.{found[3]}"


def _timm_value(key: str, value: Tensor, net: VisionTransformer) -> Tensor:
    """One published tensor in timm's layout; position embeddings are resampled where the grid is another."""
    if key == "pos_embedding":
        return resample_abs_pos_embed(value, list(net.patch_embed.grid_size))
    return _as_filters(value, net.patch_embed.proj) if key == "patch_to_embedding.weight" else value


def _as_filters(weight: Tensor, proj: nn.Conv2d) -> Tensor:
    """The linear patch embedding [D, 3·k·k] as filters [D, 3, k, k]; plain patches lie there with the channel last."""
    side = proj.kernel_size[0]
    if weight.shape[1] != 3 * side * side:
        return weight  # does not fit; loading will say so
    if side == PATCH:
        return weight.view(-1, side, side, 3).permute(0, 3, 1, 2)
    return weight.view(-1, 3, side, side)


def _head(file: Path, names: tuple[str, ...], rows: Tensor) -> TrainedHead:
    if len(names) != len(rows):
        raise WeightsError(
            f"{file.with_suffix('.txt')}: {len(names)} names for the {len(rows)} classifier rows of {file.name}; "
            "write one name a line, in the order of the rows"
        )
    return TrainedHead(names, rows)


def _names(file: Path) -> tuple[str, ...]:
    if not file.is_file():
        return ()
    try:
        return tuple(line.strip() for line in file.read_text(encoding="utf-8-sig").split("\n") if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{file}: cannot be read as text ({error})") from error


def _look(size: int, values: tuple[tuple[float, float, float], tuple[float, float, float]]) -> Preprocess:
    return Preprocess(size, *values, crop_pct=1.0, interpolation="bilinear")
