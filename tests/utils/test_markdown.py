"""The markdown of our own pages, as HTML."""

from tests.utils.pages import Page
from utils.markdown import markup

AUDITS = """# Audits of hinge on <b>

| | original | hinge |
| --- | ---: | ---: |
| probe \\| few | 96.9 | 96.2 |
| **verdict** | not forgotten | hidden |

- *erased*: gone
- *hidden*: the `head` <script>

A last & plain
paragraph.
"""


def test_a_page_of_audits():
    read = Page(markup(AUDITS, skip_title=True))
    assert read.cells == [
        [["", "original", "hinge"], ["probe | few", "96.9", "96.2"], ["verdict", "not forgotten", "hidden"]]
    ]
    tags = [tag for tag, _ in read.tags]
    assert tags.count("li") == 2 and {"b", "i", "code", "p"} <= set(tags) and "script" not in tags
    assert "Audits of" not in read.text and "A last & plain paragraph." in read.text and "<script>" in read.text
    assert [cell["class"] for cell in read.of("td")] == ["figure"] * 4


def test_the_title_stays_where_it_is_wanted():
    assert Page(markup(AUDITS)).of("h4") == [{}] and "Audits of hinge on <b>" in Page(markup(AUDITS)).text


def test_a_table_right_below_its_heading_and_a_list_right_below_its_table():
    read = Page(markup("## head\n| a | b |\n| --- | ---: |\n| c | 1 |\n- word"))
    assert read.cells == [[["a", "b"], ["c", "1"]]] and len(read.of("li")) == 1 and "head" in read.words
