"""HTML made of parts: what is not markup already is escaped, so no name of a class or a file can become code."""

import html
import re
from collections.abc import Sequence
from pathlib import Path

from utils.formats import Best, Grid

VOID = {"br", "hr", "img", "meta"}
# what HTML cannot hold, not even escaped: control characters, and halves of a surrogate pair
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
STYLE = Path(__file__).with_name("html.css")


class Markup(str):
    """Text that is HTML already; the functions of this file make it."""

    __slots__ = ()


def escape(text: object) -> Markup:
    """Any text, harmless as content and within quotes; markup stays as it is, what is `Best` is bold."""
    if isinstance(text, Markup):
        return text
    found = Markup(html.escape(FORBIDDEN.sub("\ufffd", str(text))))
    return Markup(f"<strong>{found}</strong>") if isinstance(text, Best) else found


def element(tag: str, *content: object, **attributes: object) -> Markup:
    """One element with what it holds.

    `element("p", "a < b", class_="note")` is `<p class="note">a &lt; b</p>`.

    Args:
        tag: its name, ours alone.
        content: texts, which are escaped, and markup, which is not; None is left out.
        attributes: with an underscore for a hyphen and behind a word of Python's; None and False are left out.
    """
    given = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    head = "".join(_attribute(name, value) for name, value in given.items() if value is not None and value is not False)
    if tag in VOID:
        return Markup(f"<{tag}{head}>")
    return Markup(f"<{tag}{head}>{joined(*content)}</{tag}>")


def _attribute(name: str, value: object) -> str:
    return f" {name}" if value is True else f' {name}="{escape(value)}"'


def joined(*content: object, by: str = "") -> Markup:
    """Several pieces as one, None left out."""
    return Markup(escape(by).join(escape(piece) for piece in content if piece is not None))


def name(text: object) -> Markup:
    """A name in the midst of a sentence, which keeps its order whatever direction the name is read in."""
    return element("bdi", text)


def names(texts: Sequence[object], most: int | None = None) -> Markup:
    """Several of them; of more than `most` the others are counted."""
    shown = joined(*(name(text) for text in texts[:most]), by=", ")
    left = len(texts) - len(texts[:most])
    return joined(shown, f" and {left} more" if left else None)


def table(grid: Grid, shades: Sequence[Sequence[float | None]] | None = None) -> Markup:
    """A table that scrolls sideways where the screen is narrow.

    Args:
        grid: the cells.
        shades: of every figure's cell 0 to 1, how deep it is coloured, None for no colour; None for a plain table.
    """
    head = element("tr", *(_head(grid, column, cell) for column, cell in enumerate(grid.header)))
    rows = [
        element("tr", *(_cell(grid, column, cell, shades and shades[line]) for column, cell in enumerate(row)))
        for line, row in enumerate(grid.rows)
    ]
    whole = element("table", element("thead", head), element("tbody", *rows), class_="heat" if shades else None)
    return element("div", whole, class_="scroll", tabindex=0)


def _head(grid: Grid, column: int, cell: str) -> Markup:
    return element("th", cell, scope="col", class_=_kind(grid, column))


def _cell(grid: Grid, column: int, cell: str, shades: Sequence[float | None] | None) -> Markup:
    if column == 0:
        return element("th", cell, scope="row", class_=_kind(grid, column))
    shade = shades[column - grid.texts] if shades and column >= grid.texts else None
    look = None if shade is None else f"--shade: {100 * shade:.0f}%"
    kind = _kind(grid, column) + (" deep" if shade is not None and shade > 0.5 else "")
    return element("td", cell, class_=kind, style=look)


def _kind(grid: Grid, column: int) -> str:
    return "word" if column < grid.texts else "figure"


def page(title: str, *content: object) -> str:
    """A whole page, complete in itself: nothing is fetched when it is read.

    Args:
        title: of the window.
        content: what stands on it.
    """
    meta = {"viewport": "width=device-width, initial-scale=1", "color-scheme": "light dark"}
    head = element(
        "head",
        element("meta", charset="utf-8"),
        *(element("meta", name=key, content=value) for key, value in meta.items()),
        element("title", title),
        element("style", Markup(STYLE.read_text(encoding="utf-8"))),
    )
    body = element("body", element("main", *content))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"
