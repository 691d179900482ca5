"""What a person asks a model to forget, and to keep, by photographs and names: as data sets and one request."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.builders.base import Built, readable
from data.index import Record, write_set
from data.photographs import no_two_alike, photographs, read_names
from utils.errors import DataError, nearest

EXEMPLARS = "exemplars"  # the set of the concepts
HELD_OUT = 0.25  # of a concept's photographs, to test by
MEASURED = 0.5  # of a general set's, to test by; audits learn from the others


@dataclass(frozen=True)
class Concepts:
    """A request to forget concepts.

    Attributes:
        exemplars: the photographs of the concepts; a concept without a parent is its own.
        general: name → photographs that have nothing to do with the concepts.
        parents: concept → its parent, or itself.
        kept: name that is to be kept → its parent, or itself.
    """

    exemplars: Built
    general: Mapping[str, Built]
    parents: Mapping[str, str]
    kept: Mapping[str, str]

    @property
    def dataset(self) -> str:
        """The data set's name: the concepts, and the general sets that hold classes to keep."""
        return "+".join([EXEMPLARS, *self._keeping])

    @property
    def exclude(self) -> list[str]:
        """Classes of that set that are neither to be forgotten nor among the names to keep."""
        there = [name for general in self._keeping for name in classes(self.general[general])]
        return [name for name in dict.fromkeys(there) if name not in self.kept]

    @property
    def pictured(self) -> set[str]:
        """The names to keep of which there are photographs."""
        return {name for general in self._keeping for name in classes(self.general[general])} & set(self.kept)

    @property
    def request(self) -> dict:
        """The forget request.

        A concept with a parent is forgotten beside it; one without is its own parent and goes with it, where other
        classes have parents, for there the coarse level is asked, too.
        """
        whole = [name for name, parent in self.parents.items() if name == parent]
        beside = [name for name in self.parents if name not in whole]
        if not beside and all(name == parent for name, parent in self.kept.items()):
            return {"classes": whole, "level": "fine"}
        if not whole or not beside:
            return {"classes": whole or beside, "level": "coarse" if whole else "fine"}
        return {"classes": {"fine": beside, "coarse": whole}, "level": "hybrid"}

    def write(self, folder: Path) -> None:
        """Write the indexes of all sets, a folder each."""
        names = {name: parent for name, parent in self.kept.items() if name not in self.pictured}
        write_set(folder / EXEMPLARS, self.exemplars.root.resolve(), self.exemplars.splits, names=names)
        for name, built in self.general.items():
            write_set(folder / name, built.root.resolve(), built.splits)

    @property
    def _keeping(self) -> list[str]:
        return [name for name, built in self.general.items() if set(classes(built)) & set(self.kept)]


def classes(built: Built) -> dict[str, str]:
    """Fine name → coarse name, in the order of the records."""
    return {record.fine: record.coarse for split in built.splits.values() for record in split}


def gather(
    exemplars: Path,
    general: Sequence[Path] = (),
    parents: Path | None = None,
    retained: Path | None = None,
    others: Callable[[], Iterable[str]] = tuple,
) -> Concepts:
    """Read what was handed over.

    Args:
        exemplars: a folder of photographs of each concept, or of parent/concept.
        general: folders of photographs of classes that have nothing to do with them.
        parents: a file {concept: parent}, which wins over the folders.
        retained: a file of the names to keep; None: the classes of the general sets.
        others: gives the names to keep where there are neither. Those among them that are to be forgotten are not kept.

    Parents are always kept, also as names beside the concepts: what is no longer told to be the concept is told to be
    its parent.

    Raises:
        DataError: a file or a folder is not as it must be, or something is to be forgotten and kept.
    """
    built = photographs(exemplars, HELD_OUT)
    no_two_alike(classes(built), str(exemplars))
    parent = classes(built) | (_given(parents, classes(built)) if parents else {})
    sets = {name: photographs(folder, MEASURED) for name, folder in _named(general).items()}
    shown = {name: above for each in sets.values() for name, above in classes(each).items()}
    _both(parent, shown, "--zero-shot: a set of what has nothing to do with the request")
    kept = _retained(retained, shown) if retained else shown or _unlike(others(), parent)
    _both(parent, kept, str(retained))
    return Concepts(_under(built, parent), sets, parent, _beside_parents(kept, parent))


def _retained(file: Path, shown: Mapping[str, str]) -> dict[str, str]:
    """The names of a file with their parents, which for those with photographs their folders tell, too."""
    return {name: above or shown.get(name, name) for name, above in read_names(file).items()}


def _unlike(names: Iterable[str], concepts: Iterable[str]) -> dict[str, str]:
    gone = {name.casefold() for name in concepts}
    return {name: name for name in names if name.casefold() not in gone}


def _beside_parents(kept: Mapping[str, str], parent: Mapping[str, str]) -> dict[str, str]:
    over = [above for name, above in parent.items() if above != name]
    _both(parent, [*over, *kept.values()], "parents are to be kept")
    every = dict(kept) | {name: name for name in over if name not in kept}
    no_two_alike(dict.fromkeys([*every, *every.values(), *over]), "the names to keep and the parents")
    return every


def _under(built: Built, parent: Mapping[str, str]) -> Built:
    """The same photographs, their classes under other parents."""
    splits = {
        split: [Record(record.path, parent[record.fine], record.fine) for record in records]
        for split, records in built.splits.items()
    }
    return Built(built.root, splits)


def _given(file: Path, concepts: Mapping[str, str]) -> dict[str, str]:
    found = read_names(file)
    for name, parent in found.items():
        if name not in concepts:
            raise DataError(f"{file}: '{name}' is none of the concepts{nearest(name, concepts)}")
        if parent is None:
            raise DataError(f'{file}: \'{name}\' has no parent; leave it out, or write {{"{name}": "its parent"}}')
    return {name: parent for name, parent in found.items() if parent}


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by the names that their sets get; a plus would join sets."""
    found: dict[str, Path] = {EXEMPLARS: Path()}
    for folder in folders:
        name = readable(folder.resolve().name).replace("+", "-")
        if name in found:
            raise DataError(f"--zero-shot {folder}: a set is called '{name}' already; rename the folder")
        found[name] = folder
    return {name: folder for name, folder in found.items() if name != EXEMPLARS}


def _both(concepts: Iterable[str], kept: Iterable[str], place: str) -> None:
    """See that nothing is to be forgotten and kept."""
    gone = {name.casefold() for name in concepts}
    for name in kept:
        if name.casefold() in gone:
            raise DataError(f"{place}: '{name}' is to be forgotten; take it out")
