"""Checks of an index: do the files exist and decode, has every class its images, do test images occur in training."""

import hashlib
import os
import statistics
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.pool import ThreadPool
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from data.decode import BROKEN, decode
from data.index import IndexedSet

SHOWN = 5
# kind of a problem → its headline, in the order in which they are shown
KINDS = {
    "missing": "files are missing",
    "damaged": "files are no whole images",
    "few": "classes have fewer than 2 training images",
    "untested": "classes have no test image",
    "untrained": "classes have no training image",
    "parents": "fine labels stand under several coarse labels",
    "same file": "test images are training images too (same file)",
    "same content": "test images are training images too (same content)",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: its kind (of `KINDS`), where (`file:line`) and what."""

    kind: str
    place: str
    text: str


@dataclass(frozen=True)
class Summary:
    """Counts of one split.

    Attributes:
        images: number of records.
        fine: number of fine classes.
        coarse: number of coarse classes.
        per_class: fewest, median and most images of a fine class.
        short_side: smallest, median and largest short side in pixels; zeros where no image could be opened.
        megabytes: size of the files together.
    """

    images: int
    fine: int
    coarse: int
    per_class: tuple[float, float, float]
    short_side: tuple[float, float, float]
    megabytes: float


@dataclass(frozen=True)
class Report:
    """What `check_set` found; `decoded` says whether every image was decoded or only opened."""

    name: str
    splits: dict[str, Summary]
    problems: tuple[Problem, ...]
    decoded: bool

    @property
    def unusable(self) -> list[Problem]:
        """The problems that stop a run: missing and damaged files."""
        return [problem for problem in self.problems if problem.kind in ("missing", "damaged")]

    @property
    def warnings(self) -> list[Problem]:
        """All other problems."""
        return [problem for problem in self.problems if problem.kind not in ("missing", "damaged")]


@dataclass(frozen=True)
class _Look:
    """One file as it was found; `fault` is a kind of problem and its text, or None."""

    fault: tuple[str, str] | None
    digest: bytes | None = None
    short_side: int = 0
    size: int = 0


def check_set(indexed: IndexedSet, *, decode: bool = True) -> Report:
    """Look at every file of a data set, in parallel, with a progress bar.

    Args:
        indexed: the data set.
        decode: decode every image to the end, which finds truncated ones; else only its header is read.
    """
    files = [indexed.file(split, at) for split, records in indexed.splits.items() for at in range(len(records))]
    looks = iter(_look_at(files, decode))
    found = {split: [next(looks) for _ in records] for split, records in indexed.splits.items()}
    summaries = {split: _summary(indexed, split, found[split]) for split in indexed.splits}
    problems = [*_faults(indexed, found), *_classes(indexed), *_parents(indexed), *_duplicates(indexed, found)]
    order = list(KINDS)
    return Report(indexed.name, summaries, tuple(sorted(problems, key=lambda p: order.index(p.kind))), decode)


def report_table(report: Report) -> str:
    """The report as a markdown table, the problems below it, five of each kind named."""
    lines = [
        f"{report.name}, {'all images decoded' if report.decoded else 'image headers read, nothing decoded'}",
        "",
        "| split | images | fine | coarse | images a class (min / median / max) | short side, px (the same) | MB |",
        "| --- | ---: | ---: | ---: | --- | --- | ---: |",
    ]
    for split, part in report.splits.items():
        three = [" / ".join(f"{value:g}" for value in values) for values in (part.per_class, part.short_side)]
        counts = f"{part.images} | {part.fine} | {part.coarse}"
        lines.append(f"| {split} | {counts} | {three[0]} | {three[1]} | {part.megabytes:.1f} |")
    for kind, text in KINDS.items():
        of_kind = [problem for problem in report.problems if problem.kind == kind]
        if of_kind:
            lines += ["", f"{text} ({len(of_kind)}):", *(f"- {p.place}: {p.text}" for p in of_kind[:SHOWN])]
            lines += [f"- … and {len(of_kind) - SHOWN} more"] * (len(of_kind) > SHOWN)
    return "\n".join(lines) + "\n"


def _look_at(files: list[Path], decode: bool) -> list[_Look]:
    with ThreadPool(os.cpu_count()) as pool:
        looks = pool.imap(lambda file: _look(file, decode), files, chunksize=16)
        return list(tqdm(looks, total=len(files), desc="checking", unit="image", disable=None))


def _look(file: Path, decoded: bool) -> _Look:
    try:
        data = file.read_bytes()
    except OSError as error:
        return _Look(("missing", f"{file}: {error.strerror}"))
    fault, short_side = None, 0
    try:
        short_side = _short_side(data, decoded)
    except UnidentifiedImageError:
        fault = ("damaged", f"{file}: not an image")
    except BROKEN as error:
        fault = ("damaged", f"{file}: {error}")
    return _Look(fault, hashlib.blake2b(data, digest_size=16).digest(), short_side, len(data))


def _short_side(data: bytes, decoded: bool) -> int:
    """The short side of an image in pixels; `verify` leaves it unusable, hence the second opening."""
    with Image.open(BytesIO(data)) as image:
        short_side = min(image.size)
        if decoded:
            image.verify()
    if decoded:
        decode(BytesIO(data))
    return short_side


def _three(values: list[int]) -> tuple[float, float, float]:
    return (min(values), statistics.median(values), max(values)) if values else (0, 0, 0)


def _summary(indexed: IndexedSet, split: str, looks: list[_Look]) -> Summary:
    records = indexed.splits[split]
    counts = Counter(record.fine for record in records)
    return Summary(
        images=len(records),
        fine=len(counts),
        coarse=len({record.coarse for record in records}),
        per_class=_three(list(counts.values())),
        short_side=_three([look.short_side for look in looks if look.short_side]),
        megabytes=sum(look.size for look in looks) / 1e6,
    )


def _faults(indexed: IndexedSet, found: dict[str, list[_Look]]) -> list[Problem]:
    return [
        Problem(look.fault[0], indexed.place(split, at), look.fault[1])
        for split, looks in found.items()
        for at, look in enumerate(looks)
        if look.fault
    ]


def _classes(indexed: IndexedSet) -> list[Problem]:
    """Classes with too few images; each is placed at the first line that names it."""
    first, counts = {}, {}
    for split, records in indexed.splits.items():
        counts[split] = Counter(record.fine for record in records)
        for at, record in enumerate(records):
            first.setdefault(record.fine, indexed.place(split, at))
    problems = []
    for fine, place in first.items():
        trained, tested = counts["train"][fine], counts["test"][fine]
        if trained < 2:
            kind, text = ("few", "1 training image") if trained else ("untrained", "no training image")
            problems.append(Problem(kind, place, f"'{fine}' has {text}"))
        if not tested:
            problems.append(Problem("untested", place, f"'{fine}' has no test image"))
    return problems


def _parents(indexed: IndexedSet) -> list[Problem]:
    parents: dict[str, str] = {}
    problems = {}
    for split, records in indexed.splits.items():
        for at, record in enumerate(records):
            parent = parents.setdefault(record.fine, record.coarse)
            if parent != record.coarse and record.fine not in problems:
                text = f"'{record.fine}' stands under '{record.coarse}' here and under '{parent}' before"
                problems[record.fine] = Problem("parents", indexed.place(split, at), text)
    return list(problems.values())


def _duplicates(indexed: IndexedSet, found: dict[str, list[_Look]]) -> list[Problem]:
    """Test images that are training images too, by path or by content."""
    paths, contents = {}, {}
    for at, (record, look) in enumerate(zip(indexed.splits["train"], found["train"], strict=True)):
        paths.setdefault(os.path.normpath(record.path), at)
        if look.digest:
            contents.setdefault(look.digest, at)
    problems = []
    for at, (record, look) in enumerate(zip(indexed.splits["test"], found["test"], strict=True)):
        same_file = paths.get(os.path.normpath(record.path))
        twin = contents.get(look.digest) if same_file is None else same_file
        if twin is not None:
            kind = "same content" if same_file is None else "same file"
            text = f"{record.path} is {indexed.place('train', twin)}"
            problems.append(Problem(kind, indexed.place("test", at), text))
    return problems
