"""WebDataset shards: tar files of samples, an image and its labels each, unpacked once to be read as files.

Also as CLIP benchmark has them: `train/0.tar` and `test/0.tar` with numbers as labels, their names in classnames.txt.
"""

import json
import logging
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from data.builders.base import Built, Layout, natural, read_lines
from data.builders.labels import class_after_class, find_columns, told_apart
from data.builders.trees import SUFFIXES, divided, split_named, subfolders
from data.index import Record
from utils.errors import DataError

LAYOUT = Layout(
    "shards (.tar, .tar.gz, .tgz) in the root, their split in their names (set-train-0000.tar), or below train/ and "
    "test/; in each sample an image and a .cls or a .json with its class, and classnames.txt in the root where classes "
    "are numbers",
    "your own shards; set --root to the folder that holds them",
)
SHARDS = (".tar", ".tar.gz", ".tgz")
NAMES = ("classnames.txt", "classes.txt", "labels.txt")
UNPACKED = "unpacked"
log = logging.getLogger("lethe")


@dataclass(frozen=True)
class Sample:
    """One sample: the image's suffix and bytes, and its labels as written."""

    suffix: str
    image: bytes
    labels: tuple[str, str]


def build(
    root: Path, *, unpack: Path | None = None, test_fraction: float = 0.25, seed: int = 0, exclude_small: int = 0
) -> Built:
    """Unpack the images as `unpacked/SHARD/000000.jpg` and index them; those that are there already stay.

    Args:
        root: holds the shards.
        unpack: the folder to unpack to; None: `unpacked` below the root.
        test_fraction: the part of each class that is held out where the shards tell no split.
        seed: of that split.
        exclude_small: classes with fewer images (both splits counted) are left out.

    Raises:
        DataError: there is no shard, one is damaged, a sample has no image or no class, or only some of the shards
            tell a split.
        OSError: an image cannot be written.
        ConfigError: the fraction is not between 0 and 1.
    """
    shards, place = _shards(root), unpack or root / UNPACKED
    names = next(([line for _, line in read_lines(root / name)] for name in NAMES if (root / name).is_file()), [])
    found = [
        (split, (folder / file).as_posix(), pair)
        for split, shard, folder in _progress(shards, root)
        for file, pair in _unpacked(shard, place / folder, names)
    ]
    labels = told_apart({pair for _, _, pair in found})
    images = [(split, Record(path, *labels[pair])) for split, path, pair in found]
    log.info("%s: %d images of %d shards are in %s", root, len(images), len(shards), place)
    if not names and all(fine.isdecimal() for _, fine in labels):
        log.warning("%s: its classes are numbers; %s beside the shards would name them, a line each", root, NAMES[0])
    return Built(place, divided(class_after_class(images), root, LAYOUT, test_fraction, seed, exclude_small))


def _shards(root: Path) -> list[tuple[str, Path]]:
    """Every shard with its split, or "all" where no shard tells one."""
    folders = [root, *(folder for folder in subfolders(root) if split_named(folder.name))]
    files = [file for folder in folders for file in folder.iterdir() if file.name.lower().endswith(SHARDS)]
    files = [file for file in files if file.is_file() and not file.name.startswith(".")]
    files.sort(key=lambda file: natural(str(file.relative_to(root))))
    if not files:
        raise LAYOUT.missing(root, "no shards")
    told = {file: _split_of(file.relative_to(root)) for file in files}
    silent = [file for file, split in told.items() if split is None]
    if silent and len(silent) < len(files):
        raise DataError(f"{silent[0]}: tells no split, as other shards do; expected {LAYOUT.expects}")
    return [(split or "all", file) for file, split in told.items()]


def _split_of(file: Path) -> str | None:
    """By the folder, or by a word of the shard's name: `imagenet1k-validation-07.tar` is of val."""
    words = [*file.parts[:-1], *file.name.replace("_", "-").replace(".", "-").split("-")]
    return next(filter(None, map(split_named, words)), None)


def _progress(shards: list[tuple[str, Path]], root: Path) -> Iterator[tuple[str, Path, Path]]:
    """Split, shard and its place below the root, with a bar of the bytes read and to read."""
    sizes = [shard.stat().st_size for _, shard in shards]
    with tqdm(total=sum(sizes), desc="unpack", unit="B", unit_scale=True, leave=False, disable=None) as bar:
        for (split, shard), size in zip(shards, sizes, strict=True):
            yield split, shard, shard.relative_to(root)
            bar.update(size)


def _unpacked(shard: Path, folder: Path, names: list[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """The images of a shard as files of a folder, with their labels; what a shard calls them leads nowhere."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(_samples(shard, names)):
        file = folder / f"{number:06d}{sample.suffix}"
        if not file.is_file() or file.read_bytes() != sample.image:
            file.write_bytes(sample.image)
        yield file.name, sample.labels


def _samples(shard: Path, names: list[str]) -> Iterator[Sample]:
    try:
        with tarfile.open(shard, "r|*", tarinfo=_Header) as tar:
            for key, members in groupby(_members(tar), lambda member: member[0]):
                yield _sample(f"{shard}: sample '{key}'", {ending: content for _, ending, content in members}, names)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{shard}: no whole tar file ({error})") from error


class _Header(tarfile.TarInfo):
    """Of a member: where one is cut, missing or damaged, tarfile alone would take that for the end."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        """A header from its 512 bytes."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:
            raise  # the mark of the end
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, bytes]]:
    """Key, ending and content of every file: `a/b.c.JPG` is `c.jpg` of the sample `a/b`."""
    for member in tar:
        path = PurePosixPath(member.name)
        stem, _, ending = path.name.partition(".")
        if member.isfile() and stem and ending:
            yield str(path.with_name(stem)), ending.lower(), tar.extractfile(member).read()


def _sample(place: str, files: dict[str, bytes], names: list[str]) -> Sample:
    suffix = next((f".{ending}" for ending in files if f".{ending}" in SUFFIXES), None)
    if suffix is None:
        raise DataError(f"{place}: has no image, but {', '.join(files)}")
    return Sample(suffix, files[suffix[1:]], _labels(place, files, names))


def _labels(place: str, files: dict[str, bytes], names: list[str]) -> tuple[str, str]:
    """(parent, class) as written; a number is one of the names, if there are any."""
    said = _read_json(place, files["json"]) if "json" in files else {}
    keys = find_columns(key for key, value in said.items() if isinstance(value, str | int) and str(value).strip())
    fine = str(said[keys["class"]]) if "class" in keys else files.get("cls", b"").decode("utf-8", "replace")
    fine = _named(place, fine.strip(), names)
    return (str(said[keys["parent"]]).strip() if "parent" in keys else fine), fine


def _named(place: str, fine: str, names: list[str]) -> str:
    if not fine:
        raise DataError(f"{place}: has no class; expected it in .cls, or in .json as class_name, class or label")
    if not names or not fine.isdecimal():
        return fine
    if int(fine) >= len(names):
        raise DataError(f"{place}: class {fine}, of {len(names)} class names")
    return names[int(fine)]


def _read_json(place: str, content: bytes) -> dict:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: its .json is not readable ({error})") from error
    return said if isinstance(said, dict) else {}
