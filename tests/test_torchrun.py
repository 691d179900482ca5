"""`torchrun --nproc_per_node=2 main.py …`: the run of one process, gone on with by two."""

import subprocess
from pathlib import Path

from safetensors.torch import load_file

import trainer
from tests.forgetting import MIXED
from tests.support import TOGETHER, command_line, cut_after_writing, experiment, lethe, log_of, only_run, outcome

# Adam makes much of the last digits of small gradients; alignment draws from two streams at once, not split evenly
SMOOTH = {"optimizer": "sgd", "init_lr": 0.01, "forget_optimizer": "sgd", "forget_lr": 0.01, "ca": False}
STREAM = MIXED | SMOOTH | {"adapter_dropout": 0.0, "checkpoint_every": 0}


def test_two_processes_end_a_run_as_one_does(workplace, monkeypatch):
    monkeypatch.setattr(trainer.plots, "curves", lambda *_: None)
    assert lethe("--config", experiment(STREAM, logs="alone")) == 0
    with monkeypatch.context() as patch:
        cut_after_writing(patch, "session")
        assert lethe("--config", experiment(STREAM, logs="pair", tracker="tensorboard")) == 130
    words, environment = command_line("--config", "experiment.json", "--resume")
    torchrun = [words[0], "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *words[1:]]
    done = subprocess.run(torchrun, env=environment | TOGETHER, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    one, two = (only_run(Path(logs)) for logs in ("alone", "pair"))
    assert [row["classes"] for row in outcome(two)[0]] == [row["classes"] for row in outcome(one)[0]]
    weights = [load_file(folder / "checkpoint/session.safetensors") for folder in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    far = {k: (weights[1][k] - v).abs().max().item() for k, v in weights[0].items() if v.numel()}
    assert {name: value for name, value in far.items() if value > 1e-5} == {}
    lines = log_of(two).splitlines()
    assert len([line for line in lines if "Resumed after session 0 of 4" in line]) == 1  # one process writes
    assert len(list((two / "tracker").iterdir())) == 2  # a file before the cut, one after it
    assert len([line for line in lines if "Tables, figures and the checkpoint" in line]) == 1
