"""The VTAB subset that PILOT offers (Zhou et al., IJCV 2024): ten classes of each of five data sets."""

from pathlib import Path

from data.builders.base import Built, Layout, readable
from data.builders.trees import class_records, need_images, split_folders, subfolders

LAYOUT = Layout(
    "train/ and test/ with one folder a class, in the root or in its vtab/ or vtab-cil/vtab/",
    "the data section of PILOT's README (https://github.com/LAMDA-CL/LAMDA-PILOT)",
)
# The archive numbers its folders; these are the first ten classes of RESISC45, DTD, Oxford Pets, EuroSAT and
# Flowers-102, in the order in which the archive goes through them.
NAMES = (
    "airplane, airport, baseball diamond, basketball court, beach, bridge, chaparral, church, circular farmland, cloud",
    "banded, blotchy, braided, bubbly, bumpy, chequered, cobwebbed, cracked, crosshatched, crystalline",
    "Abyssinian, American bulldog, American pit bull terrier, basset hound, beagle, Bengal, Birman, Bombay, boxer, "
    "British Shorthair",
    "annual crop land, forest, herbaceous vegetation, highway, industrial buildings, pasture, permanent crop land, "
    "residential buildings, river, sea or lake",
    "pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily, moon orchid, "
    "bird of paradise, monkshood, globe thistle",
)


def build(root: Path) -> Built:
    """Index PILOT's layout; numbered folders get the names of their classes where there are all 50.

    Classes are sorted as text, not as numbers: the published class order is that of torchvision's ImageFolder.

    Raises:
        DataError: the layout is not there.
    """
    folders = next(filter(None, map(split_folders, (root, root / "vtab", root / "vtab-cil" / "vtab"))), None)
    if folders is None:
        raise LAYOUT.missing(root / "train")
    names = _names([group.name for group in subfolders(folders["train"], order=str)])
    splits = {
        split: class_records(root, folder, lambda name: names.get(name, readable(name)), order=str)
        for split, folder in folders.items()
    }
    return Built(root, need_images(splits, root, LAYOUT))


def _names(folders: list[str]) -> dict[str, str]:
    known = [name for group in NAMES for name in group.split(", ")]
    numbered = len(folders) == len(known) and all(name.isdigit() for name in folders)
    return dict(zip(sorted(folders, key=int), known, strict=True)) if numbered else {}
