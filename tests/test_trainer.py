"""What a run leaves, and that a run that was cut ends as if it had not been."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import trainer
from tests.support import (
    ABSENT,
    ADAPTER,
    SIMPLE,
    Terminal,
    assert_same_run,
    at_work,
    command_line,
    contents,
    cut_after_writing,
    experiment,
    lethe,
    log_of,
    only_run,
    outcome,
)
from utils.checkpoint import read_notes
from utils.config import Config, config_hash, load_config, stream_hash
from utils.errors import CheckpointError

LEFT = {
    "config.json",
    "environment.json",
    "metrics.jsonl",
    "sessions.csv",
    "table.md",
    "summary.json",
    "curves.png",
    "checkpoint/session.safetensors",
}
# states a disk can be in: before the first checkpoint; two of an epoch and a phase, the session, its phases dropped,
# in session 0; four of epochs and phases, the last session set aside, the session, two phases dropped, in both later
# ones; what was set aside dropped; the finished run
MOMENTS = 1 + (2 + 1 + 1) + 2 * (4 + 1 + 1 + 2) + 1 + 1


@contextmanager
def kept_moments(logs: Path, to: Path):
    """Keep a copy of the logs whenever a checkpoint has been written, replaced or dropped, or the run has finished."""
    seen = set()

    def keep():
        state = {name: digest for name, digest in contents(logs).items() if name.endswith((".safetensors", "ary.json"))}
        if logs.exists() and str(state) not in seen:
            shutil.copytree(logs, to / f"{len(seen):02d}" / "logs")
            seen.add(str(state))

    def watched(change):
        def changed(*args, **options):
            result = change(*args, **options)
            keep()
            return result

        return changed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", watched(Path.replace))
        patch.setattr(Path, "unlink", watched(Path.unlink))
        patch.setattr(os, "replace", watched(os.replace))
        yield


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """An uninterrupted run of three sessions, what it showed on a terminal, and the moments it went through."""
    base = tmp_path_factory.mktemp("whole")
    terminal = Terminal()
    moments = kept_moments(Path("logs"), base / "moments")
    with at_work(base / "work", tmp_path_factory), moments, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", terminal)
        assert lethe("--config", experiment(ADAPTER)) == 0, terminal.getvalue()
    return base, base / "work" / only_run(base / "work" / "logs"), terminal.getvalue()


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    """A figure takes as long as a run; that of `whole` is enough."""
    monkeypatch.setattr(trainer.plots, "curves", lambda *_: None)


def test_files_stand_at_pycils_path(whole):
    base, folder, _ = whole
    assert folder == base / "work/logs/adapter/toymini/2/1/_1993_tiny_vit"
    assert set(contents(folder)) == LEFT
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, folder.name + ".log"}


def test_sessions_of_equal_size_stand_below_0(workplace):
    assert (
        lethe("--config", experiment(SIMPLE, sessions=None, init_cls=2, increment=2, prefix="p", exclude=ABSENT)) == 0
    )
    assert only_run() == Path("logs/simplecil/toymini/0/2/p_1993_tiny_vit")


def test_sessions_name_the_folder_by_their_hash(workplace):
    file = experiment(SIMPLE, sessions=[{"learn": ["Veltro Comet", "Veltro Arrow"]}, {"learn": 1}])
    assert lethe("--config", file) == 0
    assert only_run() == Path("logs/simplecil/toymini/sessions") / stream_hash(load_config(file).config) / (
        "_1993_tiny_vit"
    )


def test_log_has_the_published_lines(whole):
    _, folder, _ = whole
    log = log_of(folder)
    lines = [line.split(" => ", 1)[1] for line in log.splitlines()]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[\w+\.py\] => ", line) for line in log.splitlines())
    assert [line for line in lines if line.startswith("Learning on")] == [
        f"Learning on {a}" for a in ("0-2", "2-3", "3-4")
    ]
    for session in range(3):
        assert any(re.match(rf"Task {session}, Epoch 2/2 => Loss \d+\.\d{{3}}", line) for line in lines)
    assert sum(line.startswith("CNN: {'total': ") for line in lines) == 3
    assert sum(line.startswith("CNN top1 curve: [") for line in lines) == 3
    assert sum(line.startswith("Average Accuracy (CNN): ") for line in lines) == 3
    matrix = lines.index("Accuracy Matrix (CNN):")
    assert [line.count(".") for line in lines[matrix + 1 : matrix + 4]] == [3, 3, 3]
    assert lines[matrix + 4].startswith("Forgetting (CNN): ")
    assert any(line.startswith("All params: ") for line in lines)
    assert "seed: [1993]" in lines


def test_bars_are_shown_and_stay_out_of_the_log(whole):
    _, folder, shown = whole
    assert "task 0 adapt:" in shown and "it/s" in shown and "\r" in shown
    assert "Learning on 0-2" in shown
    log = log_of(folder).encode()
    assert b"\r" not in log and b"it/s" not in log and b"adapt: 1" not in log and b"\x1b" not in log


def test_figures_agree_between_the_files(whole):
    _, folder, _ = whole
    rows, summary = outcome(folder)
    curve = [row["fine"]["top1"] for row in rows]
    assert [row["fine"]["count"] for row in rows] == [8, 12, 16]
    assert all(len(row["fine"]["groups"]) == session + 1 for session, row in enumerate(rows))
    assert summary["accuracy_last"] == curve[-1]
    assert summary["accuracy_average"] == pytest.approx(sum(curve) / 3)
    assert f"CNN top1 curve: {[round(value, 2) for value in curve]}" in log_of(folder)
    with (folder / "sessions.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [float(row["top1"]) for row in table] == curve
    assert {name for row in table for name in row["classes"].split(";")}.isdisjoint(ABSENT)


def test_summary_is_flat_and_complete(whole):
    _, folder, _ = whole
    summary = json.loads((folder / "summary.json").read_text())
    wanted = ["accuracy_last", "accuracy_average", "forgetting", "bwt", "wall_s", "peak_mb", "tunable_ratio"]
    assert set(wanted) <= set(summary)
    assert all(isinstance(value, int | float | None) for value in summary.values())
    assert summary["wall_s"] > 0 and summary["peak_mb"] > 0


def test_tunable_ratio_is_that_of_adapters_and_rows(whole):
    _, folder, _ = whole
    summary = json.loads((folder / "summary.json").read_text())
    adapters = 4 * (128 * 8 + 8 + 8 * 128 + 128)
    rows = 128 * (4 + summary_parents(folder))
    (total,) = re.findall(r"All params: (\d+)", log_of(folder))  # counted before there were rows
    assert summary["tunable_ratio"] == pytest.approx((adapters + rows) / (int(total) + rows))


def summary_parents(folder: Path) -> int:
    rows, _ = outcome(folder)
    return len({name.split()[0] for row in rows for name in row["classes"]})


def test_the_written_config_gives_the_same_run_again(whole, workplace):
    _, folder, _ = whole
    written = json.loads((folder / "config.json").read_text())
    assert set(written) == set(Config.model_fields)
    assert config_hash(load_config(folder / "config.json").config) == config_hash(Config(**ADAPTER))
    assert lethe("--config", folder / "config.json", "--set", "prefix=again") == 0
    assert_same_run(only_run(), folder)


def test_environment_says_where_it_ran(whole):
    _, folder, _ = whole
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]
    assert environment["device"] == "cpu" and environment["threads"] == torch.get_num_threads()


def test_keys_without_use_are_named_once_in_the_log(workplace):
    assert lethe("--config", experiment(SIMPLE, prompt_pool=True, debug=False)) == 0
    assert log_of(only_run()).count("Keys without a use here, ignored: debug, prompt_pool\n") == 1


def test_another_config_gets_its_hash_and_overwrites_nothing(workplace):
    assert lethe("--config", experiment(SIMPLE)) == 0
    first = only_run()
    before = contents(first.parent)
    other = load_config(experiment(SIMPLE, scale=7.0)).config
    assert lethe("--config", "experiment.json") == 0
    stem = f"{first.name}_{config_hash(other)}"
    after = contents(first.parent)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {f"{stem}.log"} | {f"{stem}/{name}" for name in LEFT - {"curves.png"}}
    assert lethe("--config", "experiment.json") == 0  # again: it finds its own place
    assert set(contents(first.parent)) == set(after)


def test_the_same_config_runs_anew_in_its_place(workplace):
    assert lethe("--config", experiment(SIMPLE)) == 0
    folder = only_run()
    lines, rows = log_of(folder).splitlines(), outcome(folder)
    assert lethe("--config", "experiment.json") == 0
    assert outcome(folder) == rows
    assert len(log_of(folder).splitlines()) == len(lines)


def test_each_seed_has_its_log_and_all_have_a_table(workplace):
    file = experiment(SIMPLE, seed=[1, 2], convnet_type="tiny_vit")
    assert lethe("--config", file) == 0
    folders = [config.parent for config in sorted(Path("logs").rglob("config.json"))]
    assert [folder.name for folder in folders] == ["_1_tiny_vit", "_2_tiny_vit"]
    for seed, other, folder in ((1, 2, folders[0]), (2, 1, folders[1])):
        log = log_of(folder)
        assert log.count(f"seed: [{seed}]") == 1 and f"seed: [{other}]" not in log
        assert log.count("Learning on ") == 1 and log.count("Class order: ") == 1
    orders = [re.search("Class order: .*", log_of(folder))[0] for folder in folders]
    assert orders[0] != orders[1]
    table = (folders[0].parent / f"_seeds_tiny_vit_{config_hash(load_config(file).config)}.md").read_text()
    last = [outcome(folder)[1]["accuracy_last"] for folder in folders]
    mean, std = sum(last) / 2, abs(last[0] - last[1]) / 2**0.5  # of two values
    assert f"| last | {last[0]:.2f} | {last[1]:.2f} | {mean:.2f} ± {std:.2f} |" in table
    assert table.startswith("| figure | seed 1 | seed 2 | mean ± std |")


def test_seeds_of_another_config_keep_their_table(workplace):
    for scale in (20.0, 7.0):
        assert lethe("--config", experiment(SIMPLE, seed=[1, 2], scale=scale)) == 0
    assert len(list(Path("logs").rglob("*seeds*.md"))) == 2


def test_another_seed_gives_another_run(whole, workplace):
    _, folder, _ = whole
    assert lethe("--config", experiment(ADAPTER, seed=7)) == 0
    assert [row["classes"] for row in outcome(only_run())[0]] != [row["classes"] for row in outcome(folder)[0]]


def test_workers_do_not_change_the_figures(workplace, monkeypatch):
    monkeypatch.setattr("data.images.WORTH", 0)
    few = {"init_cls": None, "increment": None, "sessions": [{"learn": 3}], "init_epochs": 1, "cache_gb": 0}
    for workers in (0, 2):
        assert lethe("--config", experiment(ADAPTER, **few, workers=workers, logs=f"logs{workers}")) == 0
    assert_same_run(only_run(Path("logs0")), only_run(Path("logs2")))


def test_resume_after_every_moment_of_a_run(whole, tmp_path_factory):
    base, folder, _ = whole
    moments = sorted((base / "moments").iterdir())
    assert len(moments) == MOMENTS
    for moment in moments:
        place = tmp_path_factory.mktemp("resumed") / moment.name
        shutil.copytree(moment, place)
        with at_work(place, tmp_path_factory):
            assert lethe("--config", experiment(ADAPTER), "--resume") == 0, moment
        assert_same_run(place / only_run(place / "logs"), folder)
        assert not list(place.rglob("phase_*"))


def test_resume_of_a_finished_run_changes_nothing(whole, workplace):
    _, folder, _ = whole
    shutil.copytree(folder.parents[4], "logs")
    before = contents(Path("logs"))
    assert before
    assert lethe("--config", experiment(ADAPTER), "--resume") == 0
    assert contents(Path("logs")) == before


def test_a_half_written_checkpoint_is_ignored(whole, workplace):
    base, folder, _ = whole
    shutil.copytree(sorted((base / "moments").iterdir())[5] / "logs", "logs")
    checkpoint = only_run() / "checkpoint"
    for name in ("phase_0.safetensors.part", "session.safetensors.part"):
        (checkpoint / name).write_bytes(b"\0" * 100)
    assert lethe("--config", experiment(ADAPTER), "--resume") == 0
    assert_same_run(only_run(), folder)
    assert "Resumed after session 0 of 3" in log_of(only_run())


def at_the_third_session(base: Path) -> Path:
    """The run's folder as it was towards the end of the third session, below the current directory."""
    kept = sorted((base / "moments").glob("*/logs/**/session.safetensors"))
    late = [file for file in kept if len(read_notes(file)["results"]) == 2][-1]
    shutil.copytree(base / "moments" / late.relative_to(base).parts[1] / "logs", "logs")
    return only_run()


def test_the_state_before_a_damaged_one_is_gone_on_from_and_this_is_said(whole, workplace, capsys):
    base, folder, _ = whole
    damaged = at_the_third_session(base) / "checkpoint" / "session.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert lethe("--config", experiment(ADAPTER), "--resume") == 0
    assert_same_run(only_run(), folder)
    said = f"{damaged}: the checkpoint is damaged ("
    for text in (log_of(only_run()), capsys.readouterr().err):
        assert said in text and "; going on from the one before it\n" in text
    assert "Resumed after session 0 of 3\n" in log_of(only_run())


def test_a_damaged_phase_is_trained_anew_and_this_is_said(whole, workplace):
    base, folder, _ = whole
    checkpoint = at_the_third_session(base) / "checkpoint"
    for name, place in (("phase_0", 20), ("phase_1", -20)):
        file = checkpoint / f"{name}.safetensors"
        content = bytearray(file.read_bytes())
        content[place] ^= 0xFF
        file.write_bytes(bytes(content))
    assert lethe("--config", experiment(ADAPTER), "--resume") == 0
    assert_same_run(only_run(), folder)
    assert log_of(only_run()).count("the phase starts anew\n") == 2


def test_resume_after_kill_9_twice(whole, workplace):
    _, folder, _ = whole
    file = experiment(ADAPTER)
    kill_at("phase_0.safetensors", "--config", file)  # within session 0
    kill_at("phase_1.safetensors", "--config", file, "--resume")  # within the second phase of session 1
    assert lethe("--config", file, "--resume") == 0
    assert_same_run(only_run(), folder)


def kill_at(shown: str, *words) -> None:
    """Start a run in a process of its own and kill it as soon as a checkpoint has appeared."""
    words, environment = command_line(*words)
    with Path("stderr.txt").open("wb") as errors:
        process = subprocess.Popen(words, env=environment, stderr=errors, stdout=errors)
        deadline = time.monotonic() + 120
        while not list(Path("logs").rglob(shown)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL, Path("stderr.txt").read_text()
    assert not (only_run() / "summary.json").exists()


@pytest.mark.parametrize("model_name", ["finetune", "retrain"])
def test_a_run_cut_at_every_checkpoint_ends_the_same(workplace, monkeypatch, capsys, model_name):
    stream = {"init_cls": None, "increment": None, "sessions": [{"learn": 2}, {"learn": 1}]}
    settings = ADAPTER | stream | {"model_name": model_name, "optimizer": "sgd"}
    assert lethe("--config", experiment(settings, logs="whole")) == 0
    cut_after_writing(monkeypatch)
    codes = [lethe("--config", experiment(settings), "--resume")]
    while codes[-1] == 130 and len(codes) < 20:
        assert capsys.readouterr().err.endswith(
            "lethe: interrupted; a run goes on with --resume, forget with the same command\n"
        )
        codes.append(lethe("--config", "experiment.json", "--resume"))
    # two sessions, each with one epoch, the end of its only phase, and its own end
    assert codes == [130] * 6 + [0]
    assert_same_run(only_run(), only_run(Path("whole")))


def test_resume_with_another_config_is_refused(whole, workplace):
    _, folder, _ = whole
    shutil.copytree(folder.parents[4], "logs")
    before = contents(Path("logs"))
    with pytest.raises(CheckpointError, match=r"another config \(differing: init_lr, margin\); resume with that"):
        trainer.run(load_config(experiment(ADAPTER, init_lr=0.1, margin=0.1, logs="logs", workers=1)), resume=True)
    assert contents(Path("logs")) == before


def test_a_new_start_forgets_the_old_checkpoint(whole, workplace):
    base, folder, _ = whole
    shutil.copytree(sorted((base / "moments").iterdir())[9] / "logs", "logs")
    assert lethe("--config", experiment(ADAPTER)) == 0
    assert_same_run(only_run(), folder)
    assert log_of(only_run()).count("Learning on 0-2") == 1


def test_a_file_asks_for_a_gpu_that_is_not_there(monkeypatch, workplace, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert lethe("--config", experiment(SIMPLE, device=["0"])) == 0
    assert "device 'cuda' of the config is not there (0 GPUs); running on the CPU" in capsys.readouterr().err
    assert "Running on cpu in fp32\n" in log_of(only_run())
