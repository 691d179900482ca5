"""One builder a file: from a data set's own folders to the records of its index.

A builder module has `LAYOUT` (what it expects on disk, where the data come from) and `build(root, **options) -> Built`;
the keyword arguments of `build` are the options that `main.py prepare` takes for it. Nothing is imported here before
it is asked for, so that listing the builders costs nothing.
"""

import inspect
from importlib import import_module
from types import ModuleType

from utils.errors import DataError, nearest

# name: (module of this package, one line)
BUILDERS: dict[str, tuple[str, str]] = {
    "folder": ("folder", "any class/*.jpg or coarse/fine/*.jpg tree, with or without train/ and test/ folders"),
    "csv": ("table", "images named in a csv or tsv table with their classes, or in train.csv and test.csv"),
    "webdataset": ("webdataset", "WebDataset tars, also as CLIP benchmark has them; the images are unpacked"),
    "cifar224": ("cifar", "CIFAR-100 as PNG files, its 20 super-classes as coarse labels"),
    "cub": ("cub", "CUB-200-2011 birds, in its own or in PILOT's layout; coarse: albatross, warbler, …"),
    "imagenetr": ("imagenetr", "ImageNet-R renditions, 200 classes, in its own or in PILOT's layout"),
    "imageneta": ("imageneta", "ImageNet-A natural adversarial images, 200 classes, in its own or in PILOT's layout"),
    "vtab": ("vtab", "PILOT's VTAB subset, 50 classes of five data sets"),
    "compcars": ("compcars", "CompCars, web part: makes and models, the classification split"),
    "imagenet_dogs": ("imagenet_dogs", "ImageNet's dogs: 99 breeds in 14 groups"),
    "imagenet100": ("imagenet100", "100 ImageNet classes, listed in a file or drawn by seed"),
    "imagenet900": ("imagenet900", "the test images of the other 900 ImageNet classes, as a general set"),
    "imagenet": ("imagenet", "ImageNet-1k, training and validation images"),
    "casia100": ("casia100", "the 100 people of a face folder with the most images"),
    "caltech101": ("caltech101", "Caltech-101 objects, 30 training images a class"),
    "food101": ("food101", "Food-101 dishes"),
    "flowers102": ("flowers102", "Oxford Flowers-102"),
    "oxford_pets": ("oxford_pets", "Oxford-IIIT Pets: 37 breeds of cats and dogs"),
    "stanford_cars": ("stanford_cars", "Stanford Cars: 196 models, coarse: the make"),
    "sun397": ("sun397", "SUN397 scenes"),
    "cifar100": ("cifar", "the same as cifar224"),
}
OWN = ("folder", "csv", "webdataset")  # for data that have no name yet: a set is called as its root


def describe() -> dict[str, str]:
    """Name → one line, for lists and help texts."""
    return {name: line for name, (_, line) in BUILDERS.items()}


def get_builder(name: str) -> ModuleType:
    """The module of a builder.

    Raises:
        DataError: there is none of that name; the nearest names are offered.
    """
    if name not in BUILDERS:
        raise DataError(f"no builder is called '{name}'{nearest(name, BUILDERS)}")
    return import_module(f"{__name__}.{BUILDERS[name][0]}")


def options_of(builder: ModuleType) -> list[str]:
    """What `build` of a builder takes beside the root, in its own order."""
    return list(inspect.signature(builder.build).parameters)[1:]
