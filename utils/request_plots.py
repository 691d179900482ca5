"""The figure of the forget sessions: accuracies before and after, and what became of each class."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.plain import finite
from utils.plots import BLUE, DPI, FONTS, GREEN, GREY, INK, ORANGE, PALE, PURPLE, SKY, save
from utils.results import REQUEST_FIGURES, SCORES, ClassChange, RequestResult, RunResults, SessionResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

ROLES = {
    "forget": ("forgotten", ORANGE),
    "adjacent": ("adjacent", SKY),
    "remote": ("remote", BLUE),
    "past": ("past", PURPLE),
}
BARS = {
    "forget_fine": ORANGE,
    "forget_fine_rows": ORANGE,
    "forget_fine_text": ORANGE,
    "forget_coarse": ORANGE,
    "retain_fine": BLUE,
    "retain_coarse": BLUE,
    "adjacent_fine": SKY,
    "remote_fine": BLUE,
    "past_fine": PURPLE,
    "zero_shot": GREEN,
}
MAX_REQUESTS = 3  # on the left: the latest ones
MAX_CLASSES = 48  # on the right: of more, those that matter
HEAD, BAR, LINE, MAX_LINE = 1.35, 0.36, 0.175, 0.3  # inches: around a panel, of a figure's bars, of a class


def requests(path: Path, results: RunResults) -> None:
    """Draws the figures of the latest requests and, beside them, every class before and after the last one.

    The same results give the same bytes. Of more classes than fit, the forgotten ones that fell least and the others
    that fell most are shown.

    Args:
        path: the png to write, in one atomic step.
        results: at least one forget session that was measured as a request.

    Raises:
        ValueError: where there is none.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    if not results.forgets:
        raise ValueError("a run without forget sessions has no figure of its requests")
    rows = results.forgets[-MAX_REQUESTS:]
    shown, note = _choose(rows[-1].request)
    heights = [HEAD + BAR * len(_figures(row.request)) for row in rows]
    columns = 1 if HEAD + LINE * len(shown) <= max(6.0, sum(heights)) else 2
    lines = math.ceil(len(shown) / columns)
    tall = max(4.4, sum(heights), HEAD + LINE * lines)
    with rc_context(FONTS):
        figure = Figure(figsize=(9.4 + 2.8 * columns, tall), dpi=DPI, layout="constrained", facecolor="white")
        figure.get_layout_engine().set(w_pad=0.14, h_pad=0.1, wspace=0.05, hspace=0.04)
        left, right = figure.subfigures(1, 2, width_ratios=(5.8, 3.6 + 2.8 * columns))
        _draw_requests(left, rows, heights)
        _draw_classes(right, rows[-1], [shown[i * lines : (i + 1) * lines] for i in range(columns)], note)
        save(figure, path)


def _figures(request: RequestResult) -> list[str]:
    """What is drawn on the left, top to bottom."""
    return [name for name in BARS if name in request.measured]


def _draw_requests(figure: "SubFigure", rows: Sequence[SessionResult], heights: Sequence[float]) -> None:
    panels = figure.subplots(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, row in zip(panels, rows, strict=True):
        names = _figures(row.request)
        for place, name in enumerate(names):
            colour = BLUE if name == "forget_coarse" and row.request.level == "fine" else BARS[name]  # it was to stay
            word = ("  before", "  after") if place == 0 else ("", "")  # the first pair is the key to the others
            _bar(axes, place - 0.18, row.request.before.get(name), _pale(colour), GREY, word[0])
            _bar(axes, place + 0.18, row.request.after.get(name), colour, INK, word[1])
        axes.set_yticks(range(len(names)), [REQUEST_FIGURES[name] for name in names])
        axes.set_ylim(len(names) - 0.45, -0.55)
        _head_request(axes, row)
        _dress(axes)


def _bar(axes: "Axes", place: float, value: float | None, colour: str, ink: str, word: str) -> None:
    if finite(value):
        axes.barh(place, value, height=0.36, color=colour, linewidth=0, zorder=3)
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}  # hides the grid
        look = {"va": "center_baseline", "color": ink, "fontsize": 8.5, "zorder": 2, "bbox": behind}
        axes.text(value + 1.2, place, f"{value:.1f}{word}", **look)


def _pale(colour: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(1 - 0.35 * (1 - part) for part in to_rgb(colour))


def _head_request(axes: "Axes", row: SessionResult) -> None:
    count = len(row.classes)
    title = f"Session {row.index} forgot {count} class{'es' if count != 1 else ''}"
    asked = ", ".join(row.classes[:2]) + (f" and {count - 2} more" if count > 2 else "")
    known = {name: row.request.after[name] for name in SCORES if finite(row.request.after.get(name))}
    scores = "     ".join(f"{REQUEST_FIGURES[name]} {value:.1f}" for name, value in known.items())
    axes.set_title(title, loc="left", fontweight="bold", pad=38)
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 9.5, "annotation_clip": False}
    lines = [_short(f"{row.request.level}: {asked}", 68), scores]
    for text, up, look in zip(lines, (24, 7), ({"color": GREY}, {"fontweight": "bold"}), strict=True):
        axes.annotate(text, (0, 1), (0, up), **place, **look).set_in_layout(
            False
        )  # else the panel makes room beside it


def _dress(axes: "Axes") -> None:
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 25))
    axes.grid(axis="x", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=9.5)
    axes.tick_params(axis="y", labelcolor=INK)


def _choose(request: RequestResult) -> tuple[list[ClassChange], str]:
    """The classes to show, those that lost most first, and a word on the others."""
    every = [change for change in request.of_role(*ROLES) if math.isfinite(change.change)]
    if len(every) <= MAX_CLASSES:
        return every, ""
    asked = [change for change in every if change.role == "forget"][-MAX_CLASSES // 2 :]
    kept = [change for change in every if change.role != "forget"][: MAX_CLASSES - len(asked)]
    chosen = {*asked, *kept}
    others = [change.change for change in every if change not in chosen]
    note = f"not shown: {len(others)} classes, changes of {_signed(others[0])} to {_signed(others[-1])}"
    return [change for change in every if change in chosen], note


def _draw_classes(figure: "SubFigure", row: SessionResult, columns: Sequence[Sequence[ClassChange]], note: str) -> None:
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    room = (figure.bbox.height / DPI - HEAD) / MAX_LINE  # so many lines at least, that a few do not drift apart
    for axes, changes in zip(panels, columns, strict=True):
        for place, change in enumerate(changes):
            _draw_class(axes, place, change)
        axes.set_yticks(range(len(changes)), [_short(change.name) for change in changes])
        axes.set_ylim(max(len(columns[0]), room) - 0.4, -0.6)
        _dress(axes)
        axes.set_xlim(-4, 124)
        axes.tick_params(axis="y", labelsize=8)
    panels[0].set_title(f"Each class before and after session {row.index}", loc="left", fontweight="bold", pad=38)
    _key(panels[0], {change.role for changes in columns for change in changes}, wide=len(columns) > 1)
    if note:
        figure.supxlabel(note, color=GREY, fontsize=9)


def _draw_class(axes: "Axes", place: int, change: ClassChange) -> None:
    colour = ROLES[change.role][1]
    axes.plot([change.before, change.after], [place, place], color=_pale(colour), linewidth=2.6, zorder=3)
    axes.plot(change.before, place, "o", markersize=4.2, markerfacecolor="white", markeredgecolor=colour, zorder=4)
    axes.plot(change.after, place, "o", markersize=4.8, color=colour, zorder=5)
    look = {"ha": "right", "va": "center_baseline", "fontsize": 8, "color": INK if change.change else GREY}
    axes.text(124, place, _signed(change.change), **look)


def _short(text: str, length: int = 28) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _signed(change: float) -> str:
    return f"{change:+.1f}".replace("-", "−") if change else "0"


def _key(axes: "Axes", roles: set[str], wide: bool) -> None:
    from matplotlib.lines import Line2D

    dots = {name: {"color": colour} for role, (name, colour) in ROLES.items() if role in roles}
    dots |= {"before": {"markerfacecolor": "white", "color": GREY}, "after": {"color": GREY}}
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=5, label=name, **look) for name, look in dots.items()
    ]
    side, x = ("left", -0.02) if wide else ("right", 1)  # over one narrow panel it reaches left, above the names
    place = {"loc": f"lower {side}", "bbox_to_anchor": (x, 1), "ncols": len(handles), "borderpad": 0.2}
    legend = axes.legend(handles=handles, **place, frameon=False, fontsize=9, handletextpad=0.1, columnspacing=0.9)
    legend.set_in_layout(False)
