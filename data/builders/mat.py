"""MATLAB files as data sets carry them."""

import struct
import zlib
from pathlib import Path

from utils.errors import DataError


def load(file: Path, *keys: str, squeeze: bool = False) -> list:
    """Some variables of a mat file, as numpy arrays; `squeeze` drops axes of length 1.

    Raises:
        DataError: the file is damaged or of another kind, or a variable is missing.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    broken = (MatReadError, OSError, ValueError, TypeError, LookupError, NotImplementedError, zlib.error, struct.error)
    try:
        found = loadmat(file, squeeze_me=squeeze)
    except broken as error:
        raise DataError(f"{file}: not a readable mat file ({error})") from error
    absent = [key for key in keys if key not in found]
    if absent:
        raise DataError(f"{file}: this mat file has no variable '{absent[0]}'")
    return [found[key] for key in keys]
