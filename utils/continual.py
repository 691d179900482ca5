"""The figures of continual forgetting, task by task (Zhao et al., GS-LoRA, CVPR 2024, section 5; GS-LoRA++, 2025).

`Drop` and `H` refer to the model before the *first* request, as the published rows do: a class that an earlier request
has damaged already does not count as forgotten by the later one.
"""

import math
from collections.abc import Iterable, Sequence

from utils.results import ClassChange, RequestResult
from utils.unlearning import harmonic

TASK_FIGURES = {
    "h": "H",
    "acc_r": "Acc_r",
    "acc_f": "Acc_f",
    "acc_o": "Acc_o",
    "acc_m": "Acc_m",
    "drop": "Drop",
}


def task_figures(requests: Sequence[RequestResult]) -> dict[str, float]:
    """What the latest of a stream of requests did, in percent over test images; nan where there are no such classes.

    Args:
        requests: all so far, in order, at least one.

    Returns:
        `acc_f` over what was to be forgotten, `acc_r` over what was to stay and was shown, `acc_m` over what was to
        stay and was not shown, `acc_o` over what earlier requests made the model forget, `drop` (how far `acc_f` lies
        below its value before the first request) and `h`, the harmonic mean of `acc_r` and `drop`.
    """
    start: dict[str, float] = {}
    for request in requests:
        for change in request.classes:
            start.setdefault(change.name, change.before)
    latest = requests[-1].classes
    asked = [change for change in latest if change.role == "forget"]
    figures = {
        "acc_f": _after(asked),
        "acc_r": _after(change for change in latest if change.stays and not change.missing),
        "acc_o": _after(change for change in latest if change.role == "past"),
        "acc_m": _after(change for change in latest if change.stays and change.missing),
    }
    drop = _mean((start[change.name], change.images) for change in asked) - figures["acc_f"]
    return figures | {"drop": drop, "h": harmonic(figures["acc_r"], drop)}


def _after(changes: Iterable[ClassChange]) -> float:
    return _mean((change.after, change.images) for change in changes)


def _mean(pairs: Iterable[tuple[float, int]]) -> float:
    """The mean of accuracies, each over its own number of images."""
    pairs = list(pairs)
    images = sum(count for _, count in pairs)
    return sum(value * count for value, count in pairs if count) / images if images else math.nan
