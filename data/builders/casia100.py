"""CASIA-100: the 100 people of CASIA-WebFace (Yi et al. 2014) with the most images; any folder of faces will do."""

from pathlib import Path

from data.builders.base import Built, Layout, natural
from data.builders.trees import by_class, class_records, divided, split_folders
from data.index import Record

LAYOUT = Layout(
    "one folder of images a person in the root, or such folders below train/ and test/",
    "the CASIA-WebFace images that InsightFace lists among its data sets "
    "(https://github.com/deepinsight/insightface/tree/master/recognition/_datasets_)",
)
PEOPLE = 100


def build(root: Path, *, test_fraction: float = 0.25, seed: int = 0) -> Built:
    """Index the people with the most images (both splits counted, ties by name), in the order of their names.

    Raises:
        DataError: there is no image.
        ConfigError: the fraction is not between 0 and 1.
    """
    folders = split_folders(root) or {"all": root}
    splits = {split: class_records(root, folder) for split, folder in folders.items()}
    people = _most([record for records in splits.values() for record in records])
    images = [(split, record) for split, records in splits.items() for record in records if record.fine in people]
    return Built(root, divided(images, root, LAYOUT, test_fraction, seed))


def _most(records: list[Record]) -> set[str]:
    groups = by_class(records)
    return set(sorted(groups, key=lambda name: (-len(groups[name]), natural(name)))[:PEOPLE])
