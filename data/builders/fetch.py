"""Downloads, all of them through torchvision."""

import http.client
import tarfile
import zipfile
from pathlib import Path

from data.builders.base import Layout
from utils.errors import DataError

FAILURES = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    http.client.HTTPException,
    tarfile.TarError,
    zipfile.BadZipFile,
)


def fetch(dataset: str, root: Path, layout: Layout, archive: Path, **options) -> None:
    """Have a data set of torchvision downloaded and unpacked below a root.

    Args:
        dataset: name of the class in `torchvision.datasets`.
        root: the folder that torchvision is given.
        layout: says where the data come from when the download fails.
        archive: where torchvision looks for the archive before it downloads it.
        options: further arguments of the class.

    Raises:
        DataError: no network or a broken download; names the file to put and where.
    """
    from torchvision import datasets

    try:
        getattr(datasets, dataset)(root, download=True, **options)
    except FAILURES as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{dataset} could not be downloaded ({reason}); put {archive.name} into {archive.parent} and run the same "
            f"command again, or get the data from {layout.source}; expected {layout.expects}"
        ) from error
