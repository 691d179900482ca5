"""What the embedded sets are: names, classes and counts. Imports neither numpy nor Pillow."""

from dataclasses import dataclass

from data.world.makes import MAKES, NEW_MAKES, Make, Model
from utils.errors import DataError, nearest

FRUITS = ("apple", "banana", "cherry", "grape", "lemon", "orange", "pear", "strawberry", "watermelon")
FLAGS = ("Norland", "Karvia", "Bellmar", "Isolde", "Tarsis", "Ruvania", "Sundara", "Oldwick", "Montero")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "hexagon", "ring", "crescent")
ANIMALS = ("cat", "rabbit", "pig", "owl", "frog", "elephant", "fish", "duck", "turtle")
MINI_MAKES, MINI_MODELS = 4, 3


@dataclass(frozen=True)
class WorldSet:
    """One embedded set.

    Attributes:
        name: what it is called.
        about: what it shows, for people.
        classes: (coarse, fine) in the set's own order.
        train: training images a class.
        test: test images a class.
        kind: the common parent of a set of one level ("fruit"), empty for cars.
        aliases: fine name → other names.
        parts: for a union, the sets it is made of; it has no images of its own.
    """

    name: str
    about: str
    classes: tuple[tuple[str, str], ...]
    train: int = 0
    test: int = 0
    kind: str = ""
    aliases: tuple[tuple[str, str], ...] = ()
    parts: tuple[str, ...] = ()


def full_name(make: Make, model: Model) -> str:
    """The fine label of a car model."""
    return f"{make.name} {model.name}"


def _cars(name: str, about: str, makes: tuple[Make, ...], models: int, train: int, test: int) -> WorldSet:
    rows = [(make, model) for make in makes for model in make.models[:models]]
    classes = tuple((make.name, full_name(make, model)) for make, model in rows)
    aliases = tuple((full_name(make, model), model.alias) for make, model in rows)
    return WorldSet(name, about, classes, train, test, aliases=aliases)


def _plain(name: str, kind: str, about: str, labels: tuple[str, ...]) -> WorldSet:
    return WorldSet(name, about, tuple((label, label) for label in labels), 80, 15, kind)


def _union(name: str, about: str, parts: tuple[WorldSet, ...]) -> WorldSet:
    classes = tuple((part.kind or coarse, fine) for part in parts for coarse, fine in part.classes)
    aliases = tuple(pair for part in parts for pair in part.aliases)
    return WorldSet(name, about, classes, aliases=aliases, parts=tuple(part.name for part in parts))


def _catalogue() -> dict[str, WorldSet]:
    cars = _cars("toycars", "48 drawn car models of 8 makes", MAKES, 6, 120, 20)
    plain = (
        _plain("toyfruits", "fruit", "9 drawn fruits", FRUITS),
        _plain("toyflags", "flag", "9 flags of invented countries", FLAGS),
        _plain("toyshapes", "shape", "9 plain shapes of any colour", SHAPES),
        _plain("toyanimals", "animal", "9 drawn animals", ANIMALS),
    )
    new = _cars("toynew", "20 drawn car models of 4 makes that the shipped models never saw", NEW_MAKES, 5, 60, 20)
    mini = _cars("toymini", "12 car models of 4 makes, few images, for --smoke", MAKES[:MINI_MAKES], MINI_MODELS, 6, 4)
    union = _union("toyworld", "toycars and the four general sets in one, for pre-training", (cars, *plain))
    fleet = _union("toyfleet", "toycars and toynew in one: 68 drawn car models of 12 makes", (cars, new))
    return {each.name: each for each in (cars, new, *plain, union, fleet, mini)}


CATALOGUE = _catalogue()


def world_set(name: str) -> WorldSet:
    """The set of that name.

    Raises:
        DataError: there is none; the message names the nearest.
    """
    if name not in CATALOGUE:
        raise DataError(f"no embedded set is called '{name}'{nearest(name, CATALOGUE)}")
    return CATALOGUE[name]
