"""CUB-200-2011 (Wah et al. 2011): 200 birds; coarse is the family word that ends a bird's name."""

from pathlib import Path

from data.builders.base import Built, Layout, read_rows, readable
from data.builders.trees import images_in, need_images, split_folders, subfolders
from data.index import Record
from utils.errors import DataError

LAYOUT = Layout(
    "images/, images.txt, classes.txt, image_class_labels.txt and train_test_split.txt in the root or in its "
    "CUB_200_2011/, or PILOT's train/ and test/ with folders such as 001.Black_footed_Albatross",
    "the CUB-200-2011 page of Caltech Vision (https://www.vision.caltech.edu/datasets/cub_200_2011/)",
)


def build(root: Path) -> Built:
    """Index either layout; classes in the set's own order (001 to 200).

    Raises:
        DataError: a file is missing, or a row does not fit the others.
    """
    folders = split_folders(root)
    splits = _folders(root, folders) if folders else _listed(root, LAYOUT.need(*_bases(root)).parent)
    return Built(root, need_images(splits, root, LAYOUT))


def _bases(root: Path) -> list[Path]:
    return [root / "images.txt", root / "CUB_200_2011" / "images.txt"]


def _names(folder: str) -> tuple[str, str]:
    """`001.Black_footed_Albatross` → ("Albatross", "Black footed Albatross")."""
    fine = readable(folder.partition(".")[2] or folder)
    return fine.split()[-1], fine


def _folders(root: Path, folders: dict[str, Path]) -> dict[str, list[Record]]:
    return {
        split: [
            Record((group / image).relative_to(root).as_posix(), *_names(group.name))
            for group in subfolders(folder)
            for image in images_in(group)
        ]
        for split, folder in folders.items()
    }


def _listed(root: Path, base: Path) -> dict[str, list[Record]]:
    """The set's own lists; images in the order of images.txt, which runs through the classes."""
    classes, labels, training = (
        dict(read_rows(LAYOUT.need(base / name), 2))
        for name in ("classes.txt", "image_class_labels.txt", "train_test_split.txt")
    )
    start = (base / "images").relative_to(root).as_posix()
    splits: dict[str, list[Record]] = {"train": [], "test": []}
    for number, path in read_rows(base / "images.txt", 2):
        if labels.get(number) not in classes or training.get(number) not in ("0", "1"):
            raise DataError(f"{base / 'images.txt'}: image {number} has no class or no split in the other lists")
        split = "train" if training[number] == "1" else "test"
        splits[split].append(Record(f"{start}/{path}", *_names(classes[labels[number]])))
    return splits
