"""A run's log file."""

import logging
import re

import pytest

from utils.errors import ConfigError, DataError
from utils.logs import logging_to

log = logging.getLogger("lethe")


@pytest.fixture(autouse=True)
def everything_counts(caplog):
    caplog.set_level(logging.INFO, "lethe")


def lines(file) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def test_lines_are_pycils_and_only_those_from_inside(tmp_path):
    file = tmp_path / "a" / "b" / "run.log"
    before = list(log.handlers)
    log.info("too early")
    with logging_to(file, append=False):
        log.info("Škoda %d", 3)
    log.info("too late")
    (line,) = lines(file)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[test_logs\.py\] => Škoda 3", line)
    assert log.handlers == before


def test_two_runs_have_two_files(tmp_path):
    for name in ("one", "two"):  # PyCIL's second seed writes into the first one's file
        with logging_to(tmp_path / name, append=False):
            log.info("only in %s", name)
    for name in ("one", "two"):
        (line,) = lines(tmp_path / name)
        assert line.endswith(f"only in {name}")


@pytest.mark.parametrize("append, shown", [(False, ["second"]), (True, ["first", "second"])])
def test_a_resumed_run_goes_on_in_its_file(tmp_path, append, shown):
    (tmp_path / "log").write_text("first\n")
    with logging_to(tmp_path / "log", append):
        log.info("second")
    assert [line.split()[-1] for line in lines(tmp_path / "log")] == shown


def test_an_error_of_the_user_stands_in_the_file_alone(tmp_path, caplog):
    with pytest.raises(DataError), logging_to(tmp_path / "log", append=False):
        log.info("before")
        raise DataError("no image 50 % of the time")
    assert [line.split(" => ")[1] for line in lines(tmp_path / "log")] == ["before", "no image 50 % of the time"]
    assert "no image" not in caplog.text  # the command line shows it itself


def test_another_error_leaves_the_handlers_as_they_were(tmp_path):
    before = list(log.handlers)
    with pytest.raises(KeyError), logging_to(tmp_path / "log", append=False):
        raise KeyError("a defect")
    assert log.handlers == before and lines(tmp_path / "log") == []


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    line = r"file/run.log: cannot be written \((Not a directory|File exists)\); set 'logs' to another folder"
    with pytest.raises(ConfigError, match=line), logging_to(tmp_path / "file" / "run.log", append=False):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="Is a directory"), logging_to(tmp_path / "folder", append=False):
        pass
    assert (tmp_path / "file").read_text() == "in the way"
