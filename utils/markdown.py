"""The little markdown that this project's own pages are written in, as HTML."""

import re

from utils.formats import Grid
from utils.html import Markup, element, escape, joined, table

INLINE = ((r"\*\*(.+?)\*\*", "b"), (r"\*(.+?)\*", "i"), (r"`(.+?)`", "code"))


def markup(text: str, skip_title: bool = False) -> Markup:
    """Headings, tables, lists and paragraphs, apart by empty lines; anything else is text.

    Args:
        text: markdown.
        skip_title: leave out a first line that is the page's heading.
    """
    blocks = [block for block in re.split(r"\n\s*\n", text.strip()) if block]
    if skip_title and blocks and blocks[0].startswith("# "):
        blocks[0] = blocks[0].partition("\n")[2]
    return joined(*(_block(block.splitlines()) for block in blocks if block))


def _block(lines: list[str]) -> Markup:
    heading = re.fullmatch(r"(#+) (.*)", lines[0])
    if heading:
        return joined(element("h4", _inline(heading[2])), _block(lines[1:]) if lines[1:] else None)
    tabular = [line for line in lines if line.startswith("|")]
    listed = [line for line in lines if line.startswith("- ")]
    if len(tabular) > 2:
        return joined(
            _table(tabular), _block(rest) if (rest := [line for line in lines if line not in tabular]) else None
        )
    if listed:
        return element("ul", *(element("li", _inline(line[2:])) for line in listed))
    return element("p", _inline(" ".join(lines)))


def _table(lines: list[str]) -> Markup:
    header, rule, *rows = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines)
    words = sum(not cell.endswith(":") for cell in rule)
    cells = [[_inline(cell.replace("\\|", "|")) for cell in row] for row in rows]
    return table(Grid(header, cells, texts=words))


def _inline(text: str) -> Markup:
    found = escape(text)
    for pattern, tag in INLINE:
        found = Markup(re.sub(pattern, rf"<{tag}>\1</{tag}>", found))
    return found
