"""HTML pages read by the standard parser, every tag closed where it was opened."""

from html.parser import HTMLParser

VOID = {"br", "hr", "img", "meta"}
BLOCKS = {"p", "div", "table", "ul", "ol", "h1", "h2", "h3", "h4", "section", "figure", "pre", "details"}


class Page(HTMLParser):
    """A page, taken apart.

    Attributes:
        tags: (tag, attributes) in order.
        cells: the rows of each table, a list of texts each.
        words: all text that readers see.
    """

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.cells, self.words, self._open = [], [], [], []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        assert not (tag in BLOCKS and "p" in self._open), f"<{tag}> ends the paragraph that it stands in"
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.cells.append([])
        elif tag == "tr":
            self.cells[-1].append([])
        elif tag in ("td", "th"):
            self.cells[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self._open and self._open[-1] == tag, f"</{tag}> closes <{self._open[-1:]}>"
        self._open.pop()

    def handle_data(self, data):
        if "style" in self._open:
            return
        self.words.append(data)
        if {"td", "th"} & set(self._open):
            self.cells[-1][-1][-1] += data

    def of(self, tag: str) -> list[dict]:
        """The attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        """All text in one piece."""
        return "".join(self.words)
