"""Stanford Cars (Krause et al. 2013): 196 models with year, coarse: the make."""

from pathlib import Path

from data.builders import mat
from data.builders.base import Built, Layout, natural, readable
from data.builders.trees import need_images
from data.index import Record
from utils.errors import DataError

LAYOUT = Layout(
    "cars_train/, cars_test/, devkit/{cars_meta,cars_train_annos}.mat and cars_test_annos_withlabels.mat in the root "
    "or in its stanford_cars/",
    "the Cars Dataset of Stanford AI Lab (https://ai.stanford.edu/~jkrause/cars/car_dataset.html; the page is down, "
    "copies of its archives are about)",
)
LISTS = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
TWO_WORDS = ("AM General", "Aston Martin", "Land Rover")


def build(root: Path) -> Built:
    """Index the set's own split, classes in the set's own order.

    Raises:
        DataError: the layout is not there, or a list is damaged.
    """
    base = LAYOUT.need(root / "stanford_cars" / "devkit", root / "devkit").parent
    names = _names(LAYOUT.need(base / "devkit" / "cars_meta.mat"))
    splits = {
        split: _records(root, base / f"cars_{split}", LAYOUT.need(base / file), names) for split, file in LISTS.items()
    }
    return Built(root, need_images(splits, root, LAYOUT))


def make_of(name: str) -> str:
    """`Aston Martin Virage Coupe 2012` → `Aston Martin`."""
    return next((make for make in TWO_WORDS if name.startswith(make)), name.split()[0])


def _names(file: Path) -> list[str]:
    return [readable(str(name)) for name in mat.load(file, "class_names", squeeze=True)[0].ravel()]


def _records(root: Path, folder: Path, file: Path, names: list[str]) -> list[Record]:
    start = folder.relative_to(root).as_posix()
    cars = mat.load(file, "annotations", squeeze=True)[0].ravel()
    if not {"class", "fname"} <= set(cars.dtype.names or ()):
        raise DataError(f"{file}: its annotations lack 'class' or 'fname'; the test list must be the one with labels")
    rows = sorted(((int(car["class"]), str(car["fname"])) for car in cars), key=lambda row: (row[0], natural(row[1])))
    if rows and not 1 <= rows[0][0] <= rows[-1][0] <= len(names):
        raise DataError(f"{file}: has classes outside of the {len(names)} of cars_meta.mat")
    return [Record(f"{start}/{image}", make_of(names[at - 1]), names[at - 1]) for at, image in rows]
