"""Which groups of parameters each request touched: the heat map of their norms."""

from pathlib import Path

from utils.plots import DPI, FONTS, GREY, SCALE, save
from utils.results import RunResults, SessionResult

PREFIX = "group_norm."  # of the figures that a learner gives of its groups


def norms(row: SessionResult) -> dict[str, float]:
    """The norms of a session's groups, by the groups' names, in order; empty where the learner has none."""
    return {name.removeprefix(PREFIX): value for name, value in row.extra.items() if name.startswith(PREFIX)}


def heat_map(path: Path, results: RunResults) -> None:
    """Draws a line a group and a column a session; the same results, same bytes.

    Args:
        path: the png to write, in one atomic step.
        results: with sessions that have norms of groups, all of the same groups.

    Raises:
        ValueError: no session has any.
    """
    from matplotlib import rc_context
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    columns = {row.index: norms(row) for row in results.sessions if norms(row)}
    if not columns:
        raise ValueError("no session of the run has norms of groups")
    names = list(next(iter(columns.values())))
    values = [[column[name] for column in columns.values()] for name in names]
    with rc_context(FONTS):
        size = (2.6 + 0.75 * max(2, len(columns)), 1.5 + 0.3 * len(names))
        figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
        axes = figure.subplots()
        colours = LinearSegmentedColormap.from_list("norm", SCALE)
        image = axes.imshow(values, cmap=colours, vmin=0, aspect="auto")
        _numbers(axes, values, image)
        axes.set_title("Norm of each group", loc="left", fontweight="bold")
        axes.set_xticks(range(len(columns)), [str(index) for index in columns])
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("forget session")
        axes.tick_params(length=0, labelcolor=GREY)
        axes.spines[:].set_visible(False)
        save(figure, path)


def _numbers(axes, values: list[list[float]], image) -> None:
    for line, row in enumerate(values):
        for column, value in enumerate(row):
            dark = image.norm(value) > 0.6
            text = f"{value:.2f}" if value else "0"
            axes.text(column, line, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")
