"""What a stream of learn sessions with adapters costs, from its sizes alone: passes, operations, memory, checkpoints.

python benchmarks/costs.py
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.formats import Grid, markdown

FLOAT = 4  # bytes
NUMBERS = 4 * 8  # of a class's statistics: ridge, count, parent, session
COLUMNS = ("stream", "images forward", "of these backward", "Tflop", "MB of a class", "MB of the last checkpoint")


@dataclass(frozen=True)
class Tower:
    """A vision transformer.

    Attributes:
        blocks: how many.
        tokens: of an image.
        width: of a token.
        dim: of the features.
    """

    blocks: int
    tokens: int
    width: int
    dim: int


@dataclass(frozen=True)
class Stream:
    """Learn sessions of equal size; see the keys of an experiment of the same names.

    Attributes:
        sessions: how many.
        classes: of each session.
        train, test: images of each class.
        first, later: epochs of the first session and of the others.
        bottleneck: of the adapters.
        parents: coarse classes that have rows.
    """

    sessions: int
    classes: int
    train: int
    test: int
    first: int = 20
    later: int = 10
    bottleneck: int = 64
    parents: int = 0


TOWERS = {
    "ViT-B/16": Tower(12, 197, 768, 768),
    "ViT-L/14 of CLIP": Tower(24, 257, 1024, 768),
}
STREAMS = {
    "100 classes in 10 sessions": Stream(10, 10, 500, 100),
    "1,000 classes in 100 sessions": Stream(100, 10, 500, 50),
}


def forwards(stream: Stream, session: int) -> int:
    """Images that pass forward through the tower in a session: training, un-augmented features, evaluation.

    The features are taken before and after the training, in the first session after it alone.
    """
    shown = stream.classes * stream.train
    return backwards(stream, session) + (2 if session else 1) * shown + (session + 1) * stream.classes * stream.test


def backwards(stream: Stream, session: int) -> int:
    """Images that also pass backward."""
    return (stream.later if session else stream.first) * stream.classes * stream.train


def flop(tower: Tower) -> int:
    """Operations of one image forward, a multiplication and an addition being two.

    A block multiplies its T tokens of width W by 12·W² weights, and T × T products of width W twice. Backward, through
    a tower whose weights are frozen, is as many again: there are gradients by what passes through, none by the weights.
    Adapters, the embedding of the patches and the norms are left out.
    """
    return tower.blocks * (24 * tower.tokens * tower.width**2 + 4 * tower.tokens**2 * tower.width)


def class_bytes(tower: Tower, stream: Stream) -> int:
    """What is kept of a class: mean, factor of the covariance, a few numbers, and its row."""
    rank = min(stream.train - 1, tower.dim)
    return FLOAT * tower.dim * (1 + rank) + NUMBERS + FLOAT * tower.dim


def adapter_bytes(tower: Tower, stream: Stream) -> int:
    """The adapters of all blocks."""
    width, inner = tower.width, stream.bottleneck
    return FLOAT * tower.blocks * (2 * width * inner + width + inner)


def checkpoint_bytes(tower: Tower, stream: Stream) -> int:
    """The tensors of the checkpoint after the last session."""
    rows = FLOAT * stream.parents * tower.dim
    return adapter_bytes(tower, stream) + stream.sessions * stream.classes * class_bytes(tower, stream) + rows


def rows() -> dict[str, list[str]]:
    """The cells of every tower and stream, by their names."""
    return {f"{tower}, {stream}": _cells(TOWERS[tower], STREAMS[stream]) for tower in TOWERS for stream in STREAMS}


def _cells(tower: Tower, stream: Stream) -> list[str]:
    ahead, back = (sum(count(stream, i) for i in range(stream.sessions)) for count in (forwards, backwards))
    sizes = [class_bytes(tower, stream), checkpoint_bytes(tower, stream)]
    megabytes = [f"{size / 2**20:,.2f}" for size in sizes]
    return [f"{ahead:,}", f"{back:,}", f"{(ahead + back) * flop(tower) / 1e12:,.0f}", *megabytes]


if __name__ == "__main__":
    sys.stdout.write(markdown(Grid(COLUMNS, [[name, *cells] for name, cells in rows().items()])) + "\n")
