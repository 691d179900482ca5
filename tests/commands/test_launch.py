"""`main.py --launcher`: each run a job, finished ones passed over, cut ones gone on with, failed ones named."""

import logging
import os
import re
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch

import trainer
from commands import launch
from tests.forgetting import FORGET
from tests.support import ADAPTER, ROOT, SIMPLE, assert_same_run, experiment, lethe, log_of, only_run
from utils.config import is_experiment, load_config
from utils.errors import ConfigError
from utils.launch_options import Options, read_options

CUT_ONCE = '''
import os
import signal
from pathlib import Path

from models.adapter import AdapterLearner


class CutOnce(AdapterLearner):
    """Its job is cut, the first time, in the second session."""

    def phases(self, session):
        if session.index == 1 and not Path("was_cut").exists():
            Path("was_cut").touch()
            os.kill(os.getpid(), signal.SIGUSR2)
        yield from super().phases(session)


LEARNERS = {"cut_once": CutOnce}
'''
SBATCH = """#!/bin/sh
cp "$1" sbatch.sh  # as Slurm does: submitit moves its file as soon as this has ended
for task in 0 1; do
    SLURM_JOB_ID=7 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task sh sbatch.sh > /dev/null 2>&1 &
done
echo Submitted batch job 7
"""
SRUN = """#!/bin/sh
while [ "$1" != env ]; do shift; done
exec "$@"
"""


def here(*words) -> int:
    return lethe("--launcher", "local", *words)


def test_jobs_of_this_machine(workplace, capsys):
    files = [experiment(SIMPLE, "good.json", seed=[1, 2]), experiment(SIMPLE, "bad.json", pairs="absent.csv")]
    assert here("--config", *files, "--launcher-set", "parallel=3") == 1
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("failed: ")]
    assert line.startswith("failed: bad.json, seed 1993: absent.csv: no such list of pairs")
    assert "no such list of pairs" in Path(line.rpartition("its log: ")[2]).read_text()
    assert "3 runs, 0 of them finished before" in said and "2 of 3 runs are finished" in said
    assert len(list(Path("logs").rglob("summary.json"))) == len(list(Path("logs").rglob("*seeds*.md"))) + 1 == 2
    jobs = set(Path("logs/jobs").iterdir())
    assert here("--config", files[0]) == 0
    assert "2 runs, 2 of them finished before" in capsys.readouterr().err
    assert set(Path("logs/jobs").iterdir()) == jobs


def test_a_finished_run_that_lacks_its_audits_is_not_done(workplace):
    assert lethe("--config", experiment(FORGET, model_name="head_only")) == 0
    file = experiment(FORGET, model_name="head_only", audit=["accuracy"])
    (job,) = launch._jobs([load_config(file)], False)
    assert job.place.finished() and not job.done
    assert here("--config", file) == 0
    assert job.done and (only_run() / "audits.md").is_file()


@pytest.mark.usefixtures("learners_as_before")
def test_a_job_that_is_cut_goes_on(workplace, monkeypatch):
    monkeypatch.setattr(trainer.plots, "curves", lambda *_: None)
    Path("cut_once.py").write_text(CUT_ONCE)
    stream = {"model_name": "cut_once", "plugins": ["cut_once.py"], "init_cls": 2, "increment": 2}
    assert here("--config", experiment(ADAPTER | stream, logs="cut")) == 0
    assert Path("was_cut").exists() and log_of(only_run(Path("cut"))).count("Resumed after session 0 of 2") == 1
    assert lethe("--config", experiment(ADAPTER | stream, logs="whole")) == 0
    assert_same_run(only_run(Path("cut")), only_run(Path("whole")))


def test_a_job_executes_no_plugin_that_changed_while_it_waited(workplace, monkeypatch):
    Path("mine.py").write_text("LEARNERS = {}")
    (job,) = launch._jobs([load_config(experiment(SIMPLE, plugins=["mine.py"]))], False)
    Path("mine.py").write_text("open('harmed', 'w')")
    monkeypatch.setattr(launch, "_meet", lambda: None)
    assert "mine.py changed since this config was written" in job()
    assert not Path("harmed").exists() and not Path("logs").exists()


def test_a_run_by_two_processes(workplace):
    assert here("--config", experiment(SIMPLE), "--launcher-set", "gpus=2") == 0
    assert log_of(only_run()).count("Learning on") == 1
    assert len(list(Path("logs/jobs").rglob("*_result.pkl"))) == 2


def test_an_array_of_slurms(workplace, monkeypatch, capsys):
    Path("bin").mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", "#!/bin/sh\n")):
        Path("bin", name).write_text(text)
        Path("bin", name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{workplace / 'bin'}{os.pathsep}{os.environ['PATH']}")
    options = [("--launcher-set", text) for text in ("partition=big", "gpus=0", "hours=1.5", "parallel=1")]
    assert lethe("--launcher", "slurm", "--config", experiment(SIMPLE, seed=[1, 2]), *chain(*options)) == 0
    assert len(list(Path("logs").rglob("summary.json"))) == 2
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", Path("sbatch.sh").read_text(), re.M))
    assert (asked["array"], asked["partition"], asked["time"], asked["ntasks-per-node"]) == ("0-1%1", "big", "90", "1")
    assert "gpus-per-node" not in asked


@pytest.mark.parametrize(
    "words, said",
    [
        (["slurm"], "no Slurm is here"),
        (["local", "--launcher-set", "gpu=1"], "'gpu=1': expected option=value; did you mean 'gpus'"),
        (["local", "--launcher-set", "gpus"], "'gpus': expected option=value"),
        (["local", "--launcher-set", "hours=long"], "'hours' = \"long\": expected a number"),
        (["local", "--launcher-set", "parallel=0"], "'parallel' = 0: must be at least 1"),
    ],
)
def test_mistakes_are_one_line(workplace, capsys, monkeypatch, words, said):
    monkeypatch.setenv("PATH", str(workplace))
    assert lethe("--config", experiment(SIMPLE), "--launcher", *words) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not Path("logs").exists()


def test_options_go_with_a_launcher(refused):
    assert refused("--config", experiment(SIMPLE), "--launcher-set", "gpus=1").startswith("--launcher-set goes with")


def test_submitit_is_asked_for(workplace, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert here("--config", experiment(SIMPLE)) == 2
    assert "--launcher needs the package 'submitit'" in capsys.readouterr().err


def test_options_are_read():
    found = read_options(["partition=7", "gpus=8", "hours=2", "hours=0.5"])
    assert found == Options(partition="7", gpus=8, hours=0.5)


def test_every_option_is_documented():
    page = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    assert {name for name in Options.model_fields if f"| `{name}` |" not in page} == set()


@pytest.mark.parametrize(
    "there, seen, given, sets",
    [
        (0, None, {}, [""]),
        (0, None, {"parallel": 2, "gpus": 2}, ["", ""]),
        (3, None, {}, ["0", "1", "2"]),
        (2, "5,7", {}, ["5", "7"]),
        (5, None, {"gpus": 2}, ["0,1", "2,3"]),
        (2, None, {"parallel": 3}, ["0", "1", "0"]),
        (2, None, {"gpus": 0}, [""]),
    ],
)
def test_gpus_are_shared_out(monkeypatch, there, seen, given, sets):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert launch._gpu_sets(Options(**given)) == sets


def test_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="gpus=8: this machine has 2"):
        launch._gpu_sets(Options(gpus=8))


def test_runs_of_one_name_stand_beside_each_other(workplace, caplog):
    settings = {"one": {}, "two": {"scale": 7.0, "device": "cuda:1"}, "again": {"about": "the first"}}
    settings |= {"away": {"logs": "elsewhere"}, "called": {"prefix": "mine"}}
    files = [experiment(SIMPLE | given, f"{name}.json") for name, given in settings.items()]
    with caplog.at_level(logging.INFO, "lethe"):
        jobs = launch._jobs([load_config(file) for file in files], False)
    assert [job.loaded.path.name for job in jobs] == ["one.json", "two.json", "away.json", "called.json"]
    assert len({job.place.folder for job in jobs}) == 4
    assert [job.loaded.config.device for job in jobs[:2]] == ["cpu", "cuda"]
    assert caplog.messages == ["again.json, seed 1993: the same run as one.json, sent once"]


def test_a_pattern_finds_experiments_alone(workplace, capsys):
    files = sorted(ROOT.glob("exps/*e*.json"))
    assert {file.name for file in files if not is_experiment(file)} == {"requests.json", "schema.json"}
    Path("sets.json").write_text('{"cars": ["a"]}')
    assert lethe("--config", experiment(SIMPLE), "sets.json", "--set", "init_lr=-1") == 2
    assert "passed over, no experiments: sets.json" in capsys.readouterr().err
