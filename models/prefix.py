"""What lies below the first tuned block of an image tower, computed once for images that always look the same."""

import logging
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from convs.backbone import Backbone
from convs.model import Model
from data.general import GeneralSet
from data.images import ImageSet, ImageStream
from data.sessions import Session
from utils.loop import Batch, Stream
from utils.passes import gather

AT_A_TIME = 512  # images whose tokens are in memory twice
BATCH = 128  # images of a class that a tower sees together
log = logging.getLogger("lethe")


def compute_prefix(model: Model, session: Session, general: Sequence[GeneralSet]) -> None:
    """Where nothing below the first tuned block learns, compute that part of the tower once for a session.

    The tokens then stand in the place of the images, in training and in evaluation, as far as `cache_gb` allows;
    `Backbone.forward` takes both. A purge drops those of what was forgotten, and weights that change make all void.

    Args:
        model: whose image tower it is; one that it gets later knows nothing of this.
        session: the next one. Its exemplars and retained images are of one kind, so that a step can join them.
        general: sets that are asked before and after it.

    Source: ours.
    """
    backbone, state = model.backbone, model.backbone.prefix_state()
    _let_go(session, general)
    if state is None:
        return

    def valid() -> bool:
        return model.backbone is backbone and backbone.prefix_state() == state

    kept = [_kept(backbone, streams, valid) for streams in _unchanging(session, general)]
    images, size, left = (sum(column) for column in zip(*kept, strict=True))
    part = f"{len(backbone.blocks) - len(backbone.tuned)} of {len(backbone.blocks)} blocks are frozen"
    if images:
        log.info("%s: computed once for %d images, %.1f MB", part, images, size / 2**20)
    if left:
        log.info("%s: computed every time for %d images, for which 'cache_gb' leaves no room", part, left)


def _let_go(session: Session, general: Sequence[GeneralSet]) -> None:
    """Keep of earlier sessions no more than a run would compute that was resumed here: figures are to be the same.

    Of test images that is what is tested again, whole classes; others are shown in groups that no resumed run knows.
    """
    tested = [session.stream("test"), *(item.stream for item in general)]
    every = [*map(session.stream, session.streams), *tested]
    streams = [stream for stream in every if isinstance(stream, ImageStream)]
    for images in {id(stream.images): stream.images for stream in streams}.values():
        images.drop_computed(keep=[item for stream in tested if _of(stream, images) for item in stream.items.tolist()])


def _of(stream: Stream, images: ImageSet) -> bool:
    return isinstance(stream, ImageStream) and stream.images is images


def _unchanging(session: Session, general: Sequence[GeneralSet]) -> Iterable[list[Stream]]:
    """Un-augmented streams; those of which a step joins the batches together."""
    if session.kind == "forget":
        yield [session.stream(name) for name in ("plain", "retain_plain") if name in session.streams]
        yield from ([item.stream] for item in general)
    yield [session.stream("test")]


def _kept(backbone: Backbone, streams: Sequence[Stream], valid: Callable[[], bool]) -> tuple[int, int, int]:
    """Compute the tokens of some streams, or of none where there is no room for all.

    Returns:
        How many images they were computed of, the bytes they take, and how many images found no room.
    """
    there = [stream for stream in streams if isinstance(stream, ImageStream)]
    sizes = [_computed(backbone, stream, valid) for stream in there]
    if None in sizes:
        for stream in there:
            stream.images.drop_computed()
        return 0, 0, sum(map(len, there))
    return sum(count for count, _ in sizes), sum(size for _, size in sizes), 0


def _computed(backbone: Backbone, stream: ImageStream, valid: Callable[[], bool]) -> tuple[int, int] | None:
    """Compute what is lacking: how many images and bytes; None where there is no room."""
    images = stream.images
    lacking = images.lacking(stream.items.tolist())
    if not lacking:
        return 0, 0
    size = len(lacking) * _tokens(backbone, stream.pixels(lacking[:1]), [1]).nbytes
    if not images.make_room(size):
        return None
    for chunk in _chunks(images, lacking):
        some = [item for group in chunk for item in group]
        images.keep(some, _tokens(backbone, stream.pixels(some), [len(group) for group in chunk]), valid)
    return len(lacking), size


def _chunks(images: ImageSet, items: Sequence[int]) -> Iterable[list[list[int]]]:
    """Images in batches of one class, the same ones whichever other classes are there already; so many at a time."""
    by_class: dict[int, list[int]] = {}
    for item, label in zip(items, images.labels["fine"][list(items)].tolist(), strict=True):
        by_class.setdefault(label, []).append(item)
    groups = [group[at : at + BATCH] for group in by_class.values() for at in range(0, len(group), BATCH)]
    chunk: list[list[int]] = []
    for group in groups:
        if chunk and sum(map(len, chunk)) + len(group) > AT_A_TIME:
            yield chunk
            chunk = []
        chunk.append(group)
    yield chunk


def _tokens(backbone: Backbone, stream: Stream, sizes: Sequence[int]) -> Tensor:
    """[N, tokens, width], on the CPU, in batches of such sizes."""

    def compute(batch: Batch) -> dict[str, Tensor]:
        return {"tokens": backbone.prefix(batch["image"])}

    device = next(backbone.parameters()).device
    return gather(backbone, compute, stream, device=device, batch_size=sizes, title="prefix")["tokens"]
