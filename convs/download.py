"""Downloads that may fail: at once, and in one line that says which file to put where."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import getproxies

from huggingface_hub import constants

from utils.errors import WeightsError

HUB = "huggingface.co"


@contextmanager
def downloading(what: str, remedy: str) -> Iterator[None]:
    """Turn a failed download inside the block into a `WeightsError`.

    Where the hub's name cannot be resolved, only the local cache is asked: the hub's client would retry for a minute.
    Its own warnings are withheld, for the one line that follows says it all.

    Args:
        what: the weights that were asked for.
        remedy: the setting that makes the download unnecessary.
    """
    was_offline, was_silent = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    constants.HF_HUB_OFFLINE = was_offline or not _reachable()
    logging.disable(logging.CRITICAL)
    try:
        yield
    except Exception as error:  # the hub's and its transport's errors share no base, nor do those of its versions
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise WeightsError(
            f"the weights of {what} could not be downloaded ({reason}…); fetch them where there is a network and set "
            f'{remedy}, or "weights": "random"'
        ) from error
    finally:
        logging.disable(was_silent)
        constants.HF_HUB_OFFLINE = was_offline


def _reachable() -> bool:
    if getproxies():
        return True  # a proxy resolves names itself
    try:
        return bool(socket.getaddrinfo(HUB, 443))
    except OSError:
        return False
