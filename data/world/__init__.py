"""The embedded world: small image sets drawn by code, so that nothing need be downloaded.

Cars of invented makes (`toycars`, `toynew`, `toymini`), four general sets without hierarchy, and two unions: `toyworld`
for pre-training, `toyfleet` of all cars. Importing this package needs neither numpy nor Pillow; drawing needs both.
"""

from pathlib import Path

from data.world.catalogue import CATALOGUE, world_set

WORLD_SETS = tuple(CATALOGUE)

__all__ = ["WORLD_SETS", "describe", "ensure_world", "world_classes"]


def describe(name: str) -> str:
    """One line about a set: `48 drawn car models of 8 makes, 64 px`."""
    return f"{world_set(name).about}, 64 px"


def world_classes(name: str) -> list[tuple[str, str]]:
    """(coarse, fine) of every class, in the set's own order."""
    return list(world_set(name).classes)


def ensure_world(name: str, cache: Path) -> Path:
    """The folder of a set below `cache`, drawn on first use; see `data.world.store.ensure_world`."""
    from data.world import store

    return store.ensure_world(name, cache)
