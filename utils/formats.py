"""Tables of text as markdown, LaTeX, HTML and csv, each with its own characters escaped."""

import csv
import html
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from utils.plain import one_line

Rows = Iterable[Sequence[str]]
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


def markdown(header: Sequence[str], rows: Rows, texts: int = 1) -> str:
    """A table of GitHub's markdown.

    Args:
        header: a cell for each column.
        rows: as long each; a `Best` cell is bold.
        texts: so many of the first columns are aligned left, the others right.
    """
    rows = [[_marked(cell, "**{}**", _for_markdown) for cell in row] for row in [header, *rows]]
    lines = [rows[0], ["---"] * texts + ["---:"] * (len(header) - texts), *rows[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def latex(header: Sequence[str], rows: Rows, texts: int = 1) -> str:
    """A `tabular` with the rules of the package booktabs; the arguments are those of `markdown`."""
    lines = list(map(_latex_row, [header, *rows]))
    columns = "l" * texts + "r" * (len(header) - texts)
    whole = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return "\n".join([*whole, r"\end{tabular}"])


def html_table(header: Sequence[str], rows: Rows, texts: int = 1) -> str:
    """A `<table>`; the arguments are those of `markdown`, the columns that are no texts have the class `number`."""
    lines = [_html_row(header, "th", texts), *(_html_row(row, "td", texts) for row in rows)]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


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


def _html_row(row: Sequence[str], tag: str, texts: int) -> str:
    kinds = [""] * texts + [' class="number"'] * (len(row) - texts)
    cells = [_marked(cell, "<strong>{}</strong>", html.escape) for cell in row]
    return "<tr>" + "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, cells, strict=True)) + "</tr>"


def _marked(cell: str, bold: str, escaped: Callable[[str], str]) -> str:
    return bold.format(escaped(cell)) if isinstance(cell, Best) else escaped(cell)


def _for_markdown(text: str) -> str:
    """A name may hold a bar or the end of a line; a bar behind a backslash needs that escaped, too."""
    return re.sub(r"(\\*)\|", r"\1\1\\|", one_line(text))


def _for_latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in one_line(text))
