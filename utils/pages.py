"""The files that are written from the schema and from the experiments; `make pages` writes them anew."""

import sys
from collections.abc import Sequence
from pathlib import Path

from utils.config import write_schema
from utils.config_page import write_config_page
from utils.experiments_page import write_experiments_page

NO_EXPERIMENTS = {"schema.json", "requests.json"}


def write_pages(configs: Path, schema: Path, experiments: Path) -> None:
    """Write all of them.

    Args:
        configs: the page of every key.
        schema: the JSON schema of an experiment.
        experiments: the page of the experiments that lie beside it.
    """
    write_config_page(configs)
    write_schema(schema)
    files = experiments.parent.glob("*.json")
    write_experiments_page(experiments, [file for file in files if file.name not in NO_EXPERIMENTS])


def main(words: Sequence[str]) -> None:
    """`python -m utils.pages CONFIGS SCHEMA EXPERIMENTS`."""
    write_pages(*map(Path, words))


if __name__ == "__main__":
    main(sys.argv[1:])
