"""Figures of a run. matplotlib is imported when one is drawn, through its object interface: no pyplot, no display."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

from utils.atomic import write_bytes
from utils.results import RunResults

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers.
BLUE, ORANGE, SKY, PURPLE, GREEN = "#0072B2", "#D55E00", "#56B4E9", "#CC79A7", "#009E73"
INK, GREY, PALE, PLUM = "#222222", "#666666", "#E4E4E4", "#8A3F69"
SCALE = ("#EDF3F8", "#7DB8DC", "#005F96")  # 0, 50, 100 %: told apart by lightness alone
FONTS = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.titlesize": 12,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.parse_math": False,  # a dollar in a name is a dollar
}
MAX_NUMBERS = 12  # beyond as many sessions numbers in the cells are too small to read
DPI = 150


def curves(path: Path, results: RunResults) -> None:
    """Draws accuracy by session and, beside it, the accuracy matrix of the fine labels; the same results, same bytes.

    A forget session is tinted. The matrix is left out where nothing was learnt.

    Args:
        path: the png to write, in one atomic step.
        results: at least one session.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    groups = max(map(len, results.matrix()))
    with rc_context(FONTS):
        figure = Figure(figsize=(10.4 if groups else 5.6, 4.3), dpi=DPI, layout="constrained", facecolor="white")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08, wspace=0.06)
        panels = figure.subplots(1, 2, width_ratios=(1.08, 1)) if groups else [figure.subplots()]
        _draw_curves(panels[0], results)
        if groups:
            _draw_matrix(panels[1], results, groups)
        save(figure, path)


def roc(path: Path, far: "np.ndarray", tar: "np.ndarray", area: float) -> None:
    """Draws the curve of a verification, the false acceptance rate on a logarithmic axis.

    Args:
        path: the png to write, in one atomic step.
        far: false acceptance rates as shares of 1, ascending, [T]; see `utils.verification.roc`.
        tar: the true ones at the same thresholds, [T].
        area: under the curve.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(FONTS):
        figure = Figure(figsize=(5.2, 4.3), dpi=DPI, layout="constrained", facecolor="white")
        axes = figure.subplots()
        least = min(rate for rate in far if rate > 0)
        axes.plot(far, 100 * tar, color=BLUE, linewidth=2.4, drawstyle="steps-post", label=f"area {area:.4f}")
        axes.set_xscale("log")
        axes.set_xlim(least if least < 1 else 0.1, 1)
        axes.set_ylim(0, 101)
        axes.set_title("Verification", loc="left", fontweight="bold")
        axes.set_xlabel("false acceptance rate")
        axes.set_ylabel("true acceptance rate (%)")
        axes.grid(color=PALE, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right")
        save(figure, path)


def save(figure: "Figure", path: Path) -> None:
    """Write a drawn figure as a png, in one atomic step; the same drawing gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawn = io.BytesIO()
    FigureCanvasAgg(figure).print_png(drawn, metadata={"Software": None})  # a version would change the bytes
    write_bytes(path, drawn.getvalue())


def _draw_curves(axes: "Axes", results: RunResults) -> None:
    steps = range(len(results.sessions))
    styles = {
        ("fine", "top1"): {"color": BLUE, "marker": "o", "linewidth": 2.4, "markersize": 6, "zorder": 4},
        ("coarse", "top1"): {"color": ORANGE, "marker": "s", "linewidth": 2.0, "markersize": 5, "zorder": 3},
        ("fine", "top5"): {"color": SKY, "marker": "", "linewidth": 1.3, "linestyle": (0, (4, 2)), "zorder": 2},
    }
    lowest = 100.0
    for (level, which), style in styles.items():
        values = results.curve(level, which)
        if level in results.levels:
            mean = [value for value in values if math.isfinite(value)]
            name = level if which == "top1" else "top-5"
            average = f"{sum(mean) / len(mean):.1f}" if mean else "–"
            shown = style | ({"marker": "o", "markersize": 4} if len(steps) == 1 and not style["marker"] else {})
            axes.plot(steps, values, label=f"{name} (avg {average})", clip_on=False, **shown)
            lowest = min([lowest, *mean])
    room = 4 if len(steps) <= MAX_NUMBERS else 12  # for the word "forget" under the lowest point, there upright
    bottom = max(0, 10 * math.floor((lowest - room) / 10))
    axes.set_ylim(bottom, 100)
    axes.set_yticks(range(bottom, 101, 5 if bottom >= 70 else 10))
    _tint_forget_sessions(axes, results)
    _dress_curves(axes, results)


def _tint_forget_sessions(axes: "Axes", results: RunResults) -> None:
    roomy = len(results.sessions) <= MAX_NUMBERS
    for step, row in enumerate(results.sessions):
        if row.kind == "forget":
            axes.axvspan(step - 0.5, step + 0.5, color=PURPLE, alpha=0.22, linewidth=0, zorder=0)
            place = axes.get_xaxis_transform()
            turned = {"fontsize": 9} if roomy else {"fontsize": 8, "rotation": 90}
            axes.text(step, 0.025, "forget", transform=place, ha="center", va="bottom", color=PLUM, **turned)


def _dress_curves(axes: "Axes", results: RunResults) -> None:
    from matplotlib.ticker import MaxNLocator

    count = len(results.sessions)
    axes.set_title("Accuracy after each session", loc="left", fontweight="bold", pad=25)
    axes.set_xlabel("session")
    axes.set_ylabel("accuracy (%)")
    axes.set_xlim(-0.5, count - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=min(12, count), integer=True, min_n_ticks=1))
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(axis="y", length=0)
    place = {"loc": "lower left", "bbox_to_anchor": (-0.015, 1.0), "ncols": 3, "borderaxespad": 0.1, "borderpad": 0.2}
    legend = axes.legend(**place, frameon=False, fontsize=9.5, handlelength=1.7, handletextpad=0.5, columnspacing=1.1)
    legend.set_in_layout(False)  # else the panel shrinks until the legend fits


def _draw_matrix(axes: "Axes", results: RunResults, groups: int) -> None:
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    rows = [[*row, *[math.nan] * (groups - len(row))] for row in results.matrix()]
    values = np.array(rows, dtype=float)  # [sessions, groups]
    colours = LinearSegmentedColormap.from_list("accuracy", SCALE)
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=0, vmax=100, aspect="auto")
    if max(values.shape) <= MAX_NUMBERS:
        _write_numbers(axes, image, values, results)
    else:
        bar = axes.figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)
    _dress_matrix(axes, results, groups)


def _write_numbers(axes: "Axes", image: object, values: object, results: RunResults) -> None:
    size = 10 if max(values.shape) <= 7 else 8
    for row, line in enumerate(results.matrix()):
        for column in (column for column, value in enumerate(line) if not math.isfinite(value)):
            axes.text(column, row, "–", ha="center", va="center", color=GREY, fontsize=size)  # all of it was forgotten
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if math.isfinite(value):
                red, green, blue, _ = image.cmap(image.norm(value))
                light = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5
                color = "black" if light else "white"
                axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=color, fontsize=size)


def _dress_matrix(axes: "Axes", results: RunResults, groups: int) -> None:
    count = len(results.sessions)
    labels = results.group_labels if len(results.group_labels) == groups else [str(g) for g in range(groups)]
    every, column = math.ceil(count / 14), math.ceil(groups / 14)
    axes.set_title("Accuracy of each session's classes", loc="left", fontweight="bold", pad=25)
    axes.text(0, 1.025, "fine labels, top-1 in %", transform=axes.transAxes, color=GREY, fontsize=9.5)
    slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if groups > 5 else {}
    axes.set_xticks(range(0, groups, column), labels[::column], **slant)
    shown = results.sessions[::every]
    names = [f"forget  {row.index}" if row.kind == "forget" else str(row.index) for row in shown]
    axes.set_yticks(range(0, count, every), names)
    for tick, row in zip(axes.get_yticklabels(), shown, strict=True):
        tick.set_color(PLUM if row.kind == "forget" else GREY)
    axes.set_xlabel("classes learnt together")
    axes.set_ylabel("after session")
    axes.set_xticks([g - 0.5 for g in range(1, groups)], minor=True)
    axes.set_yticks([s - 0.5 for s in range(1, count)], minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5 if max(count, groups) <= MAX_NUMBERS else 0)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
