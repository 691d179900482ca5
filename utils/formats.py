"""Tables of text as markdown, LaTeX and csv, each with its own characters escaped."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from utils.plain import one_line

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    "–": "--",
} | {letter: f"\\{letter}" for letter in "&%$#_{}"}


class Best(str):
    """The text of a cell that is to be bold."""


@dataclass(frozen=True)
class Grid:
    """A table of text, for any page.

    Attributes:
        header: what stands above the columns.
        rows: the cells, each row as long as the header; a `Best` one is bold.
        texts: so many columns, from the left, hold words; the others hold figures.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


def markdown(grid: Grid) -> str:
    """A table of GitHub's markdown, words aligned left and figures right."""
    header, *rows = ([_marked(cell, "**{}**", _for_markdown) for cell in row] for row in [grid.header, *grid.rows])
    rule = ["---"] * grid.texts + ["---:"] * (len(header) - grid.texts)
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *rows])


def latex(grid: Grid) -> str:
    """A `tabular` with the rules of the package booktabs."""
    head, *rows = map(_latex_row, [grid.header, *grid.rows])
    columns = "l" * grid.texts + "r" * (len(grid.header) - grid.texts)
    whole = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
    return "\n".join([*whole, r"\end{tabular}"])


def csv_text(rows: Sequence[Mapping]) -> str:
    """Rows by column; the first says which columns there are."""
    names = list(rows[0]) if rows else []
    return "".join(map(_csv_line, [names, *([row.get(name) for name in names] for row in rows)]))


def _csv_line(cells: Sequence) -> str:
    """Ended by a line feed alone, but written with both, which has either quoted where a name holds it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def _latex_row(row: Sequence[str]) -> str:
    text = " & ".join(_marked(cell, r"\textbf{{{}}}", _for_latex) for cell in row)
    option = text[:1] in ("[", "*")  # that is what the end of the line above would take it for
    return f"{'{}' if option else ''}{text} \\\\"


def _marked(cell: str, bold: str, escaped: Callable[[str], str]) -> str:
    return bold.format(escaped(cell)) if isinstance(cell, Best) else escaped(cell)


def _for_markdown(text: str) -> str:
    """A name may hold a bar or the end of a line; a bar behind a backslash needs that escaped, too."""
    return re.sub(r"(\\*)\|", r"\1\1\\|", one_line(text))


def _for_latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in one_line(text))
