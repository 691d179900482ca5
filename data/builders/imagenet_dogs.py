"""ImageNet's dogs as the published unlearning requests use them (Tan & Gong 2025): breeds under breed groups."""

from pathlib import Path

from data.builders.base import Built, Layout
from data.builders.dog_breeds import breeds
from data.builders.trees import draw, need_images
from data.builders.wordnet import imagenet_halves, wnid_records
from data.index import Record
from utils.errors import ConfigError

LAYOUT = Layout(
    "train/ and val/ with folders such as n02100236/ in the root",
    "ImageNet's site (https://www.image-net.org; ILSVRC2012, after registration)",
    instead="python main.py --config exps/forget_toycars_hinge.json",
)


def build(root: Path, *, per_class: int = 150, seed: int = 0) -> Built:
    """Index 99 breeds: at most `per_class` training images each, drawn by seed, and all test images (50 each).

    Raises:
        DataError: train/ or val/, or one breed's folder, is missing.
        ConfigError: `per_class` is not positive.
    """
    if per_class < 1:
        raise ConfigError(f"--per-class {per_class}: expected a positive number of training images")
    splits: dict[str, list[Record]] = {}
    table = breeds()
    for split, folder in imagenet_halves(root, LAYOUT).items():
        splits[split] = []
        for wnid, (group, breed, _) in table.items():
            LAYOUT.need(folder / wnid)
            found = wnid_records(root, folder, {wnid: breed}, [wnid])
            kept = draw(found, per_class, seed) if split == "train" else found
            splits[split] += [Record(r.path, group, breed) for r in kept]
    return Built(
        root, need_images(splits, root, LAYOUT), {breed: others for _, breed, others in table.values() if others}
    )
