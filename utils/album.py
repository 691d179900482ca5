"""Exemplars of a request with the words that the model had for them before it and has after it.

There is an album only where a run keeps its history: pictures of what was to be forgotten are what a purge removes.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from utils.plain import dumps

TOP = 5
Words = tuple[tuple[str, float], ...]  # names and their probabilities, the likeliest first


@dataclass(frozen=True)
class Exemplar:
    """One picture.

    Attributes:
        name: the class that it shows.
        picture: a JPEG, in base64.
        before: the five likeliest names, in percent, by the original.
        after: the same by the model after the request.
    """

    name: str
    picture: str
    before: Words
    after: Words


def album_name(session: int) -> str:
    """The file of a forget session's album."""
    return f"exemplars_{session}.json"


def album_text(exemplars: Sequence[Exemplar]) -> str:
    """An album as JSON."""
    return dumps([asdict(exemplar) for exemplar in exemplars], indent=1) + "\n"


def album_of(text: str) -> tuple[Exemplar, ...]:
    """The album that `album_text` wrote."""

    def words(rows: list) -> Words:
        return tuple((str(name), float(share)) for name, share in rows)

    return tuple(
        Exemplar(row["name"], row["picture"], words(row["before"]), words(row["after"])) for row in json.loads(text)
    )
