"""A finished run read back; what is not one is said in one line."""

import json

import pytest

from tests.utils.invented import leave, stream
from utils.errors import LetheError
from utils.run_folder import read_run


@pytest.fixture
def folder(tmp_path):
    return leave(tmp_path / "run", stream("lf", makes=2, models=3, forget=1), {"python": "3"}, seed=7)


def test_a_run_comes_back(folder):
    (folder / "b.png").write_bytes(b"1")
    (folder / "a.png").write_bytes(b"2")
    run = read_run(folder)
    assert run.results.curve() == [90.0, 89.0] and run.results.forgets[0].request.after["qu"] == 98.73
    assert (run.title, run.about, run.environment, run.audits) == (
        "adapter on toycars",
        "tiny_vit, seed 7",
        {"python": "3"},
        "",
    )
    assert [file.name for file in run.pictures] == ["a.png", "b.png"]
    assert run.summary == json.loads((folder / "summary.json").read_text())


def test_audits_come_along_and_an_environment_may_be_missing(folder):
    (folder / "audits.md").write_text("# Audits")
    (folder / "environment.json").unlink()
    assert (read_run(folder).audits, read_run(folder).environment) == ("# Audits", {})


@pytest.mark.parametrize(
    "file, content, said",
    [
        ("config.json", None, "no run is here"),
        ("summary.json", None, "not finished"),
        ("metrics.jsonl", None, "is missing"),
        ("metrics.jsonl", "", "damaged"),
        ("metrics.jsonl", '{"index": 0}\n', "damaged"),
        ("metrics.jsonl", "[1]\n", "damaged"),
        ("summary.json", "[1]", "damaged"),
        ("summary.json", "{", "damaged"),
        ("config.json", '{"epoch": 3}', "unknown key"),
    ],
)
def test_what_is_no_finished_run(folder, file, content, said):
    (folder / file).unlink() if content is None else (folder / file).write_text(content)
    with pytest.raises(LetheError, match=said) as caught:
        read_run(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
