"""HTML from parts: hostile names stay names, pages hold together, cells take the colour they are given."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.utils.pages import Page
from utils.formats import Best, Grid
from utils.html import STYLE, Markup, element, escape, joined, name, names, page, table

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b < c", "🚗 Käfer", "مركبة", "x'y\"z")


@pytest.mark.parametrize("text", HOSTILE)
def test_names_stay_names_in_text_and_in_attributes(text):
    read = Page(page(text, element("p", text, title=text), table(Grid([text], [[text]]))))
    assert read.text.count(text) == 4 and {"script", "img"}.isdisjoint(tag for tag, _ in read.tags)
    assert read.of("p") == [{"title": text}] and read.cells == [[[text], [text]]]


@given(st.text(), st.text())
def test_any_text_comes_back(text, other):
    read = Page(element("p", text, element("b", other), class_=other))
    kept = [re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", each) for each in (text, other)]
    assert read.text.replace("\r\n", "\n").replace("\r", "\n") == "".join(kept).replace("\r\n", "\n").replace(
        "\r", "\n"
    )
    str(element("p", text)).encode("utf-8")  # can be written


def test_what_cannot_stand_in_a_page_is_replaced():
    assert escape("a\x00b\x1b\ud800") == "a\ufffdb\ufffd\ufffd" and escape("tab\tline\n") == "tab\tline\n"


def test_markup_is_not_escaped_twice():
    assert element("p", element("b", "<")) == "<p><b>&lt;</b></p>" and escape(Markup("&lt;")) == "&lt;"
    assert joined("<", None, Markup("<br>"), by=", ") == "&lt;, <br>"


def test_attributes():
    assert element("img", src="a", alt=None, hidden=True, lazy=False) == '<img src="a" hidden>'
    assert element("p", class_="note", aria_label="x") == '<p class="note" aria-label="x"></p>'


def test_names_are_apart_from_the_direction_of_the_sentence_and_counted():
    assert name("א") == "<bdi>א</bdi>"
    assert names(["a", "b", "c"], 2) == "<bdi>a</bdi>, <bdi>b</bdi> and 1 more" and names(["a"]) == "<bdi>a</bdi>"


def test_a_table_tells_words_from_figures_and_shades_the_figures():
    read = Page(table(Grid(["what", "name", "value", "other"], [["a", "b", "60.0", "–"]], texts=2), [[0.6, None]]))
    assert [cell["class"] for cell in read.of("td")] == ["word", "figure deep", "figure"]
    assert [cell.get("style") for cell in read.of("td")] == [None, "--shade: 60%", None]
    assert [cell["scope"] for cell in read.of("th")] == ["col"] * 4 + ["row"]


def test_a_page_needs_nothing_from_elsewhere():
    text = page("t", element("p", "x"))
    read = Page(text)
    assert text.startswith('<!doctype html>\n<html lang="en">') and {"charset": "utf-8"} in read.of("meta")
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in read.of("meta")
    assert not {"script", "link", "iframe", "base"} & {tag for tag, _ in read.tags}
    style = STYLE.read_text(encoding="utf-8")
    assert style in text and not re.search(r"url\(|@import|https?:|<", style) and "prefers-color-scheme: dark" in style


def test_the_best_is_bold_and_as_harmless_as_any_text():
    assert escape(Best("1 < 2")) == "<strong>1 &lt; 2</strong>"
    assert "<strong>1 ± 0</strong>" in table(Grid(["name", "value"], [["a", Best("1 ± 0")]]))
