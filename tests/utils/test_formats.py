"""Tables in every format, by hand; what each escapes is read back by its own reader."""

import csv
import io
from html.parser import HTMLParser

from utils.formats import Best, csv_text, html_table, latex, markdown

ODD = "a|b & 5 % <i>_{x}"
HEADER, ROWS = ["name", "value"], [[ODD, Best("1 ± 0")], ["plain", "2"]]


class Cells(HTMLParser):
    """The texts of a table's cells, each with the tags around it."""

    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        self.open.remove(tag)

    def handle_data(self, data):
        if data.strip():
            self.found.append((data, self.open[-1]))


def test_markdown():
    assert markdown(HEADER, ROWS).split("\n") == [
        "| name | value |",
        "| --- | ---: |",
        "| a\\|b & 5 % <i>_{x} | **1 ± 0** |",
        "| plain | 2 |",
    ]


def test_latex():
    assert latex(HEADER, ROWS).split("\n") == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"name & value \\",
        r"\midrule",
        r"a|b \& 5 \% <i>\_\{x\} & \textbf{1 $\pm$ 0} \\",
        r"plain & 2 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_html_is_what_its_reader_takes_for_the_same_text():
    cells = Cells()
    cells.feed(html_table(HEADER, ROWS))
    texts = [("name", "th"), ("value", "th"), (ODD, "td"), ("1 ± 0", "strong"), ("plain", "td"), ("2", "td")]
    assert (cells.found, cells.open) == (texts, [])


def test_csv_reads_back():
    rows = [{"name": 'a,"b"\nc', "value": "1"}, {"name": "", "value": "2"}]
    assert list(csv.DictReader(io.StringIO(csv_text(rows)))) == rows
