"""CIFAR-100 as PNG files, its 20 super-classes as coarse labels (Krizhevsky 2009); read at 224 px by its users."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data.builders.base import Built, Layout, readable
from data.builders.fetch import fetch
from data.builders.trees import class_records
from data.index import Record

LAYOUT = Layout(
    "cifar-100-python/{train,test,meta} below the root",
    "CIFAR's site (https://www.cs.toronto.edu/~kriz/cifar.html)",
    offered=True,
)
PNG = "cifar100-png"
SUPERCLASSES = {
    "aquatic mammals": "beaver, dolphin, otter, seal, whale",
    "fish": "aquarium fish, flatfish, ray, shark, trout",
    "flowers": "orchid, poppy, rose, sunflower, tulip",
    "food containers": "bottle, bowl, can, cup, plate",
    "fruit and vegetables": "apple, mushroom, orange, pear, sweet pepper",
    "household electrical devices": "clock, keyboard, lamp, telephone, television",
    "household furniture": "bed, chair, couch, table, wardrobe",
    "insects": "bee, beetle, butterfly, caterpillar, cockroach",
    "large carnivores": "bear, leopard, lion, tiger, wolf",
    "large man-made outdoor things": "bridge, castle, house, road, skyscraper",
    "large natural outdoor scenes": "cloud, forest, mountain, plain, sea",
    "large omnivores and herbivores": "camel, cattle, chimpanzee, elephant, kangaroo",
    "medium-sized mammals": "fox, porcupine, possum, raccoon, skunk",
    "non-insect invertebrates": "crab, lobster, snail, spider, worm",
    "people": "baby, boy, girl, man, woman",
    "reptiles": "crocodile, dinosaur, lizard, snake, turtle",
    "small mammals": "hamster, mouse, rabbit, shrew, squirrel",
    "trees": "maple tree, oak tree, palm tree, pine tree, willow tree",
    "vehicles 1": "bicycle, bus, motorcycle, pickup truck, train",
    "vehicles 2": "lawn mower, rocket, streetcar, tank, tractor",
}


def build(root: Path, *, download: bool = False) -> Built:
    """Write the images as `cifar100-png/{train,test}/class/00000.png` below the root once, then index them.

    Raises:
        DataError: the batches are missing or damaged, or the download failed.
    """
    if not (root / PNG).is_dir():
        if download:
            fetch("CIFAR100", root, LAYOUT, root / "cifar-100-python.tar.gz")
        _write_images(root)
    parents = {fine: coarse for coarse, names in SUPERCLASSES.items() for fine in names.split(", ")}
    splits = {}
    for split in ("train", "test"):
        records = class_records(root, root / PNG / split)
        splits[split] = [Record(r.path, parents.get(r.fine, r.fine), r.fine) for r in records]
    return Built(root, splits)


def _write_images(root: Path) -> None:
    """All or nothing: the folder gets its name when every image is there."""
    LAYOUT.need(root / "cifar-100-python" / "train")
    part = root / f"{PNG}.part"
    shutil.rmtree(part, ignore_errors=True)
    for split in ("train", "test"):
        _write_split(_load(root, split), part / split)
    part.rename(root / PNG)


def _load(root: Path, split: str):
    from torchvision.datasets import CIFAR100

    try:
        return CIFAR100(root, train=split == "train")
    except RuntimeError as error:
        raise LAYOUT.missing(root / "cifar-100-python", "a file is missing or damaged") from error


def _write_split(batch, folder: Path) -> None:
    from tqdm import tqdm

    for name in batch.classes:
        (folder / readable(name)).mkdir(parents=True)

    def write(number: int) -> None:
        image, label = batch[number]
        image.save(folder / readable(batch.classes[label]) / f"{number:05d}.png")

    with ThreadPoolExecutor() as pool:
        list(tqdm(pool.map(write, range(len(batch))), total=len(batch), desc=folder.name, unit="image", disable=None))
