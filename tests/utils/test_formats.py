"""Tables in every format, by hand; what each escapes is read back by its own reader."""

import csv
import io

from utils.formats import Best, Grid, csv_text, latex, markdown

ODD = "a|b & 5 % <i>_{x}"
HEADER, ROWS = ["name", "value"], [[ODD, Best("1 ± 0")], ["plain", "2"]]


def test_markdown():
    assert markdown(Grid(HEADER, ROWS)).split("\n") == [
        "| name | value |",
        "| --- | ---: |",
        "| a\\|b & 5 % <i>_{x} | **1 ± 0** |",
        "| plain | 2 |",
    ]


def test_latex():
    assert latex(Grid(HEADER, ROWS)).split("\n") == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"name & value \\",
        r"\midrule",
        r"a|b \& 5 \% <i>\_\{x\} & \textbf{1 $\pm$ 0} \\",
        r"plain & 2 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_csv_reads_back():
    rows = [{"name": 'a,"b"\nc', "value": "1"}, {"name": "", "value": "2"}]
    assert list(csv.DictReader(io.StringIO(csv_text(rows)))) == rows
