"""CompCars, web part (Yang et al., CVPR 2015): car models under their makes, the classification split."""

from collections.abc import Iterable
from pathlib import Path

from data.builders import mat
from data.builders.base import Built, Layout, read_lines, readable
from data.builders.trees import need_images
from data.index import Record
from utils.errors import DataError, nearest

LAYOUT = Layout(
    "image/<make>/<model>/<year>/*.jpg, misc/make_model_name.mat and train_test_split/classification/{train,test}.txt "
    "in the root or in its data/",
    "the CompCars page of MMLab, CUHK (http://mmlab.ie.cuhk.edu.hk/datasets/comp_cars/)",
    instead="python main.py --config exps/forget_toycars_adapter.json",
)
# the file's own slips and short forms
MAKES = {"BWM": "BMW", "Buck": "Buick", "Chrey": "Chery", "Chevy": "Chevrolet"}


def build(root: Path, *, keep: Path | None = None) -> Built:
    """Index the classification split; fine is "Make Model", or the model's name where that begins with the make.

    Args:
        root: CompCars' own folder or the one above its `data/`.
        keep: a file with one model a line, as "Model" or as "Make Model"; other models are left out, and those kept
            are called what the file calls them (the published requests say "Mustang", not "Ford Mustang").

    Raises:
        DataError: a file is missing, a line does not fit, or a name of `keep` is unknown.
    """
    base = LAYOUT.need(root / "data" / "misc" / "make_model_name.mat", root / "misc" / "make_model_name.mat").parents[1]
    names = _names(base / "misc" / "make_model_name.mat")
    listed = {split: _listed(base, split, names) for split in ("train", "test")}
    cars = dict.fromkeys(car for images in listed.values() for _, car in images)
    called = _kept(keep, cars) if keep else {car: _full(*car) for car in cars}
    start = (base / "image").relative_to(root).as_posix()
    splits = {
        split: [Record(f"{start}/{path}", car[0], called[car]) for path, car in images if car in called]
        for split, images in listed.items()
    }
    return Built(root, need_images(splits, root, LAYOUT), _aliases(called))


def _full(make: str, model: str) -> str:
    return model if model.casefold().startswith(make.casefold()) else f"{make} {model}"


def _names(file: Path) -> tuple[list[str], list[str]]:
    """Makes and models in the order of their ids, which start at 1; some models have no name."""
    makes, models = (
        [readable("".join(map(str, cell.ravel()))) for cell in cells.ravel()]
        for cells in mat.load(file, "make_names", "model_names")
    )
    return [MAKES.get(make, make) for make in makes], models


def _listed(base: Path, split: str, names: tuple[list[str], list[str]]) -> list[tuple[str, tuple[str, str]]]:
    """(path below image/, (make, model)) of every line of a split list, models in the order of their ids."""
    makes, models = names
    images = []
    for place, line in read_lines(LAYOUT.need(base / "train_test_split" / "classification" / f"{split}.txt")):
        ids = [int(part) if part.isdigit() else 0 for part in line.split("/")[:2]]
        if line.count("/") != 3 or not 0 < ids[0] <= len(makes) or not 0 < ids[1] <= len(models):
            raise DataError(f"{place}: expected make/model/year/file.jpg with ids that have names, got '{line}'")
        images.append((ids, line, (makes[ids[0] - 1], models[ids[1] - 1] or f"model {ids[1]}")))
    return [(line, car) for _, line, car in sorted(images)]


def _kept(file: Path, cars: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(make, model) → the name that the file gives it."""
    known: dict[str, list[tuple[str, str]]] = {}
    for car in cars:
        for name in {car[1].casefold(), _full(*car).casefold()}:
            known.setdefault(name, []).append(car)
    called = {}
    for place, name in read_lines(file):
        found = known.get(name.casefold(), [])
        if not found:
            raise DataError(f"{place}: CompCars' split lists have no model '{name}'{nearest(name, known)}")
        if len(found) > 1:
            raise DataError(f"{place}: '{name}' may be {' or '.join(_full(*car) for car in found)}; name the make too")
        called[found[0]] = name
    return called


def _aliases(called: dict[tuple[str, str], str]) -> dict[str, list[str]]:
    """The other forms of a name, where no other class bears them."""
    forms = {car: {_full(*car), car[1]} - {name} for car, name in called.items()}
    shared = [form for others in forms.values() for form in others] + list(called.values())
    aliases = {called[car]: sorted(f for f in others if shared.count(f) == 1) for car, others in forms.items()}
    return {name: others for name, others in aliases.items() if others}
