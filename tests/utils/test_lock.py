"""One run at a time: who comes second is told who came first, and a lock falls with its process."""

import os
import signal
import subprocess
import sys

import pytest

from tests.support import ROOT, SIMPLE, experiment, lethe, only_run
from utils.errors import BusyError, WriteError
from utils.lock import locked, tidy


def test_the_second_is_told_who_holds_it(tmp_path):
    file = tmp_path / "deep" / "run.lock"
    with locked(file):
        with (
            pytest.raises(BusyError, match=rf"deep: process {os.getpid()} on \S+, since .* is at work on this run"),
            locked(file),
        ):
            pass
        assert file.exists()
    assert not file.exists()
    with locked(file):
        pass


def test_it_is_free_after_an_error(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "run.lock"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path):
    file = tmp_path / "run.lock"
    code = (
        "import sys, pathlib; from utils.lock import locked, tidy\n"
        f"with locked(pathlib.Path({str(file)!r})): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {other.pid} on"), locked(file):
            pass
        other.send_signal(signal.SIGKILL)
    assert file.exists()
    with locked(file):
        pass


def test_what_a_killed_process_left_is_tidied_up_and_nothing_else(tmp_path):
    file = tmp_path / "run.lock"
    tidy(file)
    assert not file.exists()
    with locked(file):
        tidy(file)
        assert file.exists()
    file.touch()
    tidy(file)
    assert not file.exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="set 'logs' to another folder"), locked(tmp_path / "file" / "run.lock"):
        pass


def test_a_run_under_way_is_left_alone(workplace, capsys):
    assert lethe("--config", experiment(SIMPLE)) == 0
    folder = only_run()
    before = (folder / "summary.json").read_bytes()
    with locked(folder.with_name(folder.name + ".lock")):
        assert lethe("--config", experiment(SIMPLE)) == 2
    assert f"process {os.getpid()} on" in capsys.readouterr().err
    assert (folder / "summary.json").read_bytes() == before
    assert lethe("--config", experiment(SIMPLE)) == 0
    assert [file.name for file in folder.parent.iterdir() if file.suffix == ".lock"] == []
