"""The page of a run: its figures are the run's, its names stay names, it needs nothing from elsewhere."""

import base64
import re
from dataclasses import replace

import pytest

from tests.utils.invented import leave, mixed, stream
from tests.utils.pages import Page
from utils.album import Exemplar, album_name, album_text
from utils.answers import Answer
from utils.atomic import write_text
from utils.errors import CheckpointError
from utils.feature_map import Spot
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


def forgot(folder, **changes) -> Page:
    """The page of a run with one request over two makes of two models, changed; its first class is forgotten."""
    run = stream("f", forget=1, makes=2, models=2)
    rows = [replace(run.sessions[0], request=replace(run.sessions[0].request, **changes))]
    return page_of(leave(folder, RunResults(rows)))


def shares(read: Page) -> list[tuple[str, str]]:
    """The role and the length of every name with a share, in order."""
    found = [one for one in read.of("div") if one.get("class", "").startswith("share ")]
    return [(one["class"].removeprefix("share role-"), one["style"].removeprefix("--share: ")) for one in found]


def test_what_forgotten_images_are_called(tmp_path):
    cells = [Answer("Veltro Arrow", "Veltro Arrow", 18, 0), Answer("Veltro Arrow", "<i>Harbor", 2, 20)]
    read = forgot(tmp_path / "run", answers=tuple(cells))
    assert shares(read) == [("forget", "90%"), ("other", "10%"), ("other", "100%")]  # 18 and 2 of 20; 20 of 20
    place = read.words.index("What images of the forgotten classes are called, % of them")
    said = read.words[place + 1 : place + 10]
    assert said == ["Veltro Arrow", "before", "Veltro Arrow", "90", "<i>Harbor", "10", "after", "<i>Harbor", "100"]


def test_rare_answers_are_counted_together(tmp_path):
    cells = [Answer("Veltro Arrow", f"n{place}", count, count) for place, count in enumerate((5, 4, 3, 2, 1, 5))]
    read = forgot(tmp_path / "run", answers=tuple(cells))
    assert [share for _, share in shares(read)] == 2 * ["25%", "25%", "20%", "15%", "15%"]  # of 20
    assert read.words.count("2 other names") == 2


def test_the_map_has_every_image_in_the_shape_of_its_role(tmp_path):
    roles = {"Veltro Arrow": "forget", "Veltro Harbor": "adjacent", "Brandle Arrow": "remote"}
    read = forgot(tmp_path / "run", spots=tuple(Spot(name, (0.0, 1.0), (1.0, 0.0)) for name in roles))
    assert "Map of the features" in read.words
    panels = [group["class"] for group in read.of("g") if group.get("class", "").startswith("role-")]
    assert panels == [f"role-{role}" for role in ("remote", "adjacent", "forget")] * 2
    assert "Map of the features" not in forgot(tmp_path / "other").words


def test_exemplars_stand_there_where_the_run_kept_them(one):
    assert not page_of(one).of("img")
    words = (("Veltro Arrow", 97.4), ("Veltro Harbor", 1.0))
    album = album_text([Exemplar("Veltro Arrow", "/9j/AAA=", words, words[::-1])])
    write_text(one / "history" / album_name(1), album)
    read = page_of(one)
    assert [image["src"] for image in read.of("img")] == ["data:image/jpeg;base64,/9j/AAA="]
    assert [share for _, share in shares(read)] == ["97%", "1%", "1%", "97%"]
    write_text(one / "history" / album_name(1), album[:-20])
    with pytest.raises(CheckpointError, match=r"exemplars_1\.json: is damaged"):
        page_of(one)


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
