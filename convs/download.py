"""Downloads that may fail: one line that says which file to put where."""

from collections.abc import Iterator
from contextlib import contextmanager

from utils.errors import WeightsError


@contextmanager
def downloading(what: str, remedy: str) -> Iterator[None]:
    """Turn a failed download inside the block into a `WeightsError`.

    Args:
        what: the weights that were asked for.
        remedy: the setting that makes the download unnecessary.
    """
    try:
        yield
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise WeightsError(
            f"the weights of {what} could not be downloaded ({type(error).__name__}: {reason}); "
            f'fetch them where there is a network and set {remedy}, or "weights": "random"'
        ) from error
