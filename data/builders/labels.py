"""What tables and samples say of an image: under which names it stands there, and class names that are told apart."""

import logging
from collections.abc import Iterable, Mapping

from data.builders.base import natural, readable
from data.index import Record
from utils.errors import ConfigError, nearest

# what is looked for: the names under which it may stand, the first that is there counts
COLUMNS: dict[str, tuple[str, ...]] = {
    "image": ("img_path", "image_path", "image", "path", "filepath", "file_path", "filename", "file_name", "file"),
    "class": ("fine_label", "class_name", "class", "category", "species", "label"),
    "parent": ("coarse_label", "parent", "superclass", "supercategory"),
    "split": ("split", "subset"),
}
SHOWN = 5
log = logging.getLogger("lethe")


def read_columns(text: str) -> dict[str, str]:
    """`"image=id,class=breed"` → `{"image": "id", "class": "breed"}`.

    Raises:
        ConfigError: a part is not `what=name`, or there is no such thing to look for.
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    for what, equals, name in pairs:
        if what.strip() not in COLUMNS or not equals or not name.strip():
            hint = nearest(what.strip(), COLUMNS) if what.strip() not in COLUMNS else ""
            raise ConfigError(f"--columns '{what}{equals}{name}': expected image, class, parent or split =name{hint}")
    return {what.strip(): name.strip() for what, _, name in pairs}


def find_columns(names: Iterable[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """What is looked for → the name under which it stands; what is not there is left out.

    Args:
        names: of the columns, or the keys of a sample; their case, spaces and hyphens do not matter.
        given: names that are to be taken as they are, see `read_columns`.
    """
    there = {"_".join(name.replace("-", " ").split()).casefold(): name for name in names}
    found = {what: next((there[one] for one in some if one in there), None) for what, some in COLUMNS.items()}
    return {what: name for what, name in (found | dict(given or {})).items() if name is not None}


def told_apart(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    """(coarse, fine) as they are written → as labels; a fine name under several parents has its parent's before it."""
    pairs = list(pairs)
    parents: dict[str, set[str]] = {}
    for coarse, fine in pairs:
        parents.setdefault(readable(fine), set()).add(readable(coarse))
    labels = {}
    for pair in pairs:
        coarse, fine = map(readable, pair)
        labels[pair] = (coarse, f"{coarse} {fine}" if len(parents[fine]) > 1 else fine)
    shared = sorted(fine for fine, above in parents.items() if len(above) > 1)
    if shared:
        told = ", ".join(f"{fine} ({', '.join(sorted(parents[fine]))})" for fine in shared[:SHOWN])
        log.info("%d names under several parents have the parent's before them: %s", len(shared), told)
    return labels


def class_after_class(images: Iterable[tuple[str, Record]]) -> list[tuple[str, Record]]:
    """(split, record) in the order of the parents' and classes' names; those of one class stay in their order."""
    return sorted(images, key=lambda image: (natural(image[1].coarse), natural(image[1].fine)))
