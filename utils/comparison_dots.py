"""A figure of many experiments as HTML: a row each, a dot for the mean, a small one for every seed."""

import math
from collections.abc import Sequence

from utils.comparison import Comparison, Row
from utils.formats import Best
from utils.html import Markup, element, name
from utils.metrics import mean_std
from utils.tables import figure_text, spread_text


def dots(found: Comparison, metric: str) -> Markup | None:
    """The rows that have the figure, the best first, on one scale.

    Args:
        found: the experiments on a task.
        metric: a figure of `summary.json`.
    """
    known = [(row, list(row.values(metric).values())) for _, row in found.ranked(metric)]
    if not known:
        return None
    ends = scale([value for _, values in known for value in values])
    axis = element("div", *(element("span", f"{end:g}") for end in ends), class_="ends")
    head = element("div", element("div", class_="label"), axis, class_="row")
    best, keys = found.best(metric), _telling(found.rows)
    rows = []
    for row, values in known:
        title = ", ".join(row.labels[key] for key in keys)
        text = spread_text(metric, values) if len(values) > 1 else figure_text(metric, values[0])
        rows.append(_row(title, values, ends, text, row in best))
    return element("div", head, *rows, class_="rows spread")


def scale(values: Sequence[float]) -> tuple[float, float]:
    """Round ends around some numbers: multiples of the power of ten below their span; whole ones around one."""
    low, high = min(values), max(values)
    if low == high:
        return math.ceil(high) - 1, math.ceil(high)
    step = 10 ** math.floor(math.log10(high - low))
    return step * math.floor(low / step), step * math.ceil(high / step)


def _telling(rows: Sequence[Row]) -> list[str]:
    """The keys in which rows differ; of rows that differ in none, all."""
    keys = list(rows[0].labels)
    return [key for key in keys if len({row.labels[key] for row in rows}) > 1] or keys


def _row(title: str, values: Sequence[float], ends: tuple[float, float], text: str, best: bool) -> Markup:
    """A mean with its seeds."""

    def at(value: float) -> float:
        return 100 * (value - ends[0]) / (ends[1] - ends[0])

    first, last = at(min(values)), at(max(values))
    way = element("i", class_="way", style=f"left: {first:.2f}%; width: {last - first:.2f}%")
    seeds = [element("i", class_="seed", style=f"left: {at(value):.2f}%") for value in values if len(values) > 1]
    mean = element("i", class_="is", style=f"left: {at(mean_std(values)[0]):.2f}%")
    track = element(
        "div", way, *seeds, mean, element("b", Best(text) if best else text, class_="value"), class_="track"
    )
    label = element("div", name(Best(title) if best else title), class_="label")
    return element("div", label, track, class_=f"row role-{'forget' if best else 'remote'}")
