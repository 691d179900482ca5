"""The page of a run: its figures are the run's, its names stay names, it needs nothing from elsewhere."""

import base64
import re
from dataclasses import replace

import pytest

from tests.utils.invented import leave, mixed, stream
from tests.utils.pages import Page
from utils.answers import Answer
from utils.report import report
from utils.results import RunResults
from utils.run_folder import read_run
from utils.tables import figure_text

NASTY = ("<script>alert('x')</script>", '"quoted" & <b>bold</b>', "🚙 سيارة", "a|b*c*`d`")


@pytest.fixture
def one(tmp_path):
    """A run of two learn and two forget sessions."""
    return leave(tmp_path / "one", stream("lflf", forget=3, makes=3, models=4), about=["what <it> is", "command"])


def page_of(*folders) -> Page:
    text = report([read_run(folder) for folder in folders])
    assert text == report([read_run(folder) for folder in folders])
    return Page(text)


def row_of(read: Page, *start: str) -> list[str]:
    (found,) = {tuple(row) for rows in read.cells for row in rows if row[: len(start)] == list(start)}
    return list(found)


def test_the_figures_are_the_runs(one):
    run, read = read_run(one), page_of(one)
    last = next(cells for cells in read.cells if "fine top-1" in cells[0])[-1]
    assert last[0] == "3" and last[3] == f"{run.results.sessions[3].fine.top1:.2f}"
    for session in run.results.forgets:
        after = session.request.after["retain_fine"]
        assert any(
            row[0] == "retain fine" and row[2].startswith(f"{after:.2f} (") for rows in read.cells for row in rows
        )
    assert (
        row_of(read, "last")[1] == f"{run.summary['accuracy_last']:.2f}"
        and row_of(read, "tunable share")[1] == "1.28 %"
    )
    assert f"{run.summary['qu']:.1f}" in read.words and "what <it> is" in read.words


def test_every_class_before_and_after(one):
    read, results = page_of(one), read_run(one).results
    for change in (change for row in results.forgets for change in row.request.classes):
        assert change.name in read.words and f"{change.before:.1f} → {change.after:.1f}" in read.words
    placed = [i["style"] for i in read.of("i") if i.get("class") == "is"]
    assert placed[0] == f"left: {results.forgets[0].request.of_role('forget')[-1].after:.2f}%"
    assert len(placed) == sum(len(row.request.classes) for row in results.forgets)


def test_bars_are_as_long_as_the_figures(one):
    widths = [float(re.search(r"width: ([\d.]+)%", i["style"])[1]) for i in page_of(one).of("i") if set(i) == {"style"}]
    request = read_run(one).results.forgets[0].request
    assert widths[:2] == [
        pytest.approx(0.8 * request.before["forget_fine"], abs=0.01),
        pytest.approx(0.8 * 1.3, abs=0.01),
    ]


def test_the_accuracy_matrix_is_shaded(one):
    matrix = read_run(one).results.matrix()
    shades = [cell["style"] for cell in page_of(one).of("td") if "style" in cell]
    known = [value for level in 2 * [matrix] for row in level for value in row]  # both levels are alike here
    assert shades == [f"--shade: {value:.0f}%" for value in known]


def test_names_stay_names_everywhere(tmp_path):
    run = stream("lf", forget=2, makes=2, models=2)
    asked = run.sessions[1].request
    classes = tuple(replace(c, name=n, parent=n) for c, n in zip(asked.classes, NASTY, strict=True))
    rows = [
        replace(run.sessions[0], classes=NASTY),
        replace(run.sessions[1], classes=NASTY, request=replace(asked, classes=classes)),
    ]
    folder = leave(
        tmp_path / "run", RunResults(rows), {"platform": NASTY[0]}, prefix=NASTY[1], dataset=NASTY[0], about=NASTY[0]
    )
    (folder / "audits.md").write_text(f"# t\n\n| | {NASTY[0]} |\n| --- | ---: |\n| a | 1 |\n\n- {NASTY[1]}\n")
    read = page_of(folder)
    assert not [tag for tag, _ in read.tags if tag == "script"]
    assert all(any(name in word for word in read.words) for name in NASTY)
    assert not [key for _, given in read.tags for key in given if key.startswith("on")]


def test_nothing_comes_from_elsewhere(one):
    (one / "curves.png").write_bytes(b"picture")
    read = page_of(one)
    sources = [
        value
        for _, given in read.tags
        for key, value in given.items()
        if key in ("src", "href", "xlink:href", "srcset")
    ]
    assert sources == [f"data:image/png;base64,{base64.b64encode(b'picture').decode()}"]
    assert "://" not in report([read_run(one)])


def test_what_forgotten_images_are_called(tmp_path):
    run = stream("f", forget=1, makes=2, models=2)
    cells = (Answer("Veltro Arrow", "Veltro Arrow", 18, 0), Answer("Veltro Arrow", "<i>Harbor", 2, 20))
    rows = [replace(run.sessions[0], request=replace(run.sessions[0].request, answers=cells))]
    read = page_of(leave(tmp_path / "run", RunResults(rows)))
    assert ["Veltro Arrow", "Veltro Arrow 18, <i>Harbor 2", "<i>Harbor 20"] in next(
        c for c in read.cells if c[0][0] == "class"
    )


def test_several_runs_stand_side_by_side(tmp_path, one):
    other = leave(tmp_path / "other", stream("lf", forget=2), seed=4)
    third = leave(tmp_path / "third", mixed(), model_name="hinge")
    read, runs = page_of(one, other, third), [read_run(folder) for folder in (one, other, third)]
    header, *rows = read.cells[0]
    assert [row[0] for row in rows] == [
        "adapter on toycars, tiny_vit, seed 1993",
        "adapter on toycars, tiny_vit, seed 4",
        "hinge on toycars",
    ]
    assert [row[header.index("last")] for row in rows] == [
        figure_text("accuracy_last", run.summary["accuracy_last"]) for run in runs
    ]
    assert [row[header.index("Quality")] for row in rows] == ["98.60", "98.60", "–"]
    links = [link["href"].removeprefix("#") for link in read.of("a")]
    assert links == [section["id"] for section in read.of("section") if "id" in section] == ["run-0", "run-1", "run-2"]


def test_twice_the_same_run_is_told_by_its_folder(one):
    assert [row[0] for row in page_of(one, one).cells[0][1:]] == [str(one)] * 2


def test_a_run_without_requests_levels_or_five_classes(tmp_path):
    rows = [replace(row, coarse=None) for row in mixed().sessions[:2]]
    read = page_of(leave(tmp_path / "run", RunResults(rows)))
    assert "Before (pale) and after, %" not in read.words and "coarse" not in read.words
    assert "* all classes count where there are fewer than five." in read.words


def test_the_norms_of_groups_are_a_map(tmp_path):
    run = stream("ff", forget=1, makes=2, models=2)
    norms = [
        {"group_norm.block 0": 2.0, "group_norm.block 1": 0.0},
        {"group_norm.block 0": 1.0, "group_norm.block 1": 0.5},
    ]
    rows = [replace(row, extra=extra) for row, extra in zip(run.sessions, norms, strict=True)]
    read = page_of(leave(tmp_path / "run", RunResults(rows)))
    (cells,) = [cells for cells in read.cells if cells[0][0] == "group"]
    assert cells[1:] == [["block 0", "2", "1"], ["block 1", "0", "0.5"]]
    assert [cell["style"] for cell in read.of("td") if "style" in cell] == [f"--shade: {n}%" for n in (100, 50, 0, 25)]


def test_audits_stand_there_where_the_run_has_them(one):
    assert "Audits" not in page_of(one).words
    (one / "audits.md").write_text(
        "# Audits of x\n\n| | original | adapter |\n| --- | ---: | ---: |\n| probe_few | 96.9 | 61.2 |\n"
    )
    assert row_of(page_of(one), "probe_few") == ["probe_few", "96.9", "61.2"]


def test_hundreds_of_classes_are_behind_a_click(tmp_path):
    read = page_of(leave(tmp_path / "run", stream("f", forget=2, makes=30, models=10)))
    assert "278 more classes" in read.words and len([i for i in read.of("i") if i.get("class") == "is"]) == 300


def test_no_run_is_no_report():
    with pytest.raises(ValueError, match="needs a run"):
        report([])
