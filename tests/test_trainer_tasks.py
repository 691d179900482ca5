"""Runs of continual forgetting: what they leave, that a cut changes nothing, what cannot be asked; pairs to verify."""

import csv
import json
from pathlib import Path

import pytest

import trainer
from tests.support import SIMPLE, assert_same_run, cut_after_writing, experiment, lethe, log_of, only_run
from utils.continual import TASK_FIGURES

TASKS = {
    "dataset": "toymini",
    "model_name": "gs_lora_pp",
    "convnet_type": "tiny_vit",
    "device": "cpu",
    "num_tasks": 2,
    "per_forget_cls": 2,
    "few_shot_num": 2,
    "open_cls_num": 1,
    "forget_epochs": 3,
    "forget_lr": 0.01,
    "forget_batch_size": 8,
    "bnd": 20.0,
    "ema": 0.5,
    "ema_from": 1,
    "lora_files": True,
    "checkpoint_every": 1,
    "workers": 0,
}


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    """A figure takes as long as a run."""
    monkeypatch.setattr(trainer.plots, "curves", lambda *_: None)
    monkeypatch.setattr(trainer.request_plots, "requests", lambda *_: None)


def test_a_run_leaves_its_tasks_groups_and_loras(workplace):
    assert lethe("--config", experiment(TASKS)) == 0
    folder = only_run()
    summary = json.loads((folder / "summary.json").read_text())
    drop, retained = summary["drop"], summary["acc_r"]
    assert summary["h"] == pytest.approx(2 * drop * retained / (drop + retained)) if drop > 0 else summary["h"] == 0
    with (folder / "classes.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    start = {row["name"]: float(row["before"]) for row in rows if row["session"] == "0"}
    last = [row for row in rows if row["session"] == "1"]
    asked = [row for row in last if row["role"] == "forget"]
    assert len(asked) == 2 and [row["missing"] for row in last].count("True") == 1
    assert drop == pytest.approx(sum(start[row["name"]] - float(row["after"]) for row in asked) / 2)
    table = (folder / "table.md").read_text()
    assert f"| session | {' | '.join(TASK_FIGURES.values())} |" in table and "group_norm.block 3" in summary
    assert (folder / "groups.png").stat().st_size > 1000
    for session in ("session_0", "session_1"):
        files = {file.name for file in (folder / "lora" / session).iterdir()}
        assert files == {"adapter_config.json", "adapter_model.safetensors"}
    assert Path(folder.parent.name) == Path("2x2") and "Forgetting (fine)" in log_of(folder)


@pytest.mark.parametrize("model_name", ["gs_lora_pp", "scrub_s", "mas"])
def test_a_run_cut_at_every_checkpoint_ends_the_same(workplace, monkeypatch, model_name):
    changes = {"model_name": model_name, "forget_lr": 1e-3}
    assert lethe("--config", experiment(TASKS, logs="whole", **changes)) == 0
    cut_after_writing(monkeypatch)
    codes = [lethe("--config", experiment(TASKS, **changes), "--resume")]
    while codes[-1] == 130 and len(codes) < 20:
        codes.append(lethe("--config", "experiment.json", "--resume"))
    assert codes == [130] * (2 * (3 + 1)) + [0]  # two epochs, the phase, the session; twice
    assert_same_run(only_run(), only_run(Path("whole")))


def test_a_request_without_retained_images_is_refused(refused):
    file = experiment({key: TASKS[key] for key in ("dataset", "model_name", "convnet_type")}, sessions=[{"forget": 1}])
    assert 'such as "retain": {"ratio": 0.1}' in refused("--config", file)


def test_pairs_are_verified_at_the_end(workplace):
    index = [json.loads(line) for line in Path("data/cache/toymini/test.jsonl").read_text().splitlines()]
    root = Path("data/cache/toymini").resolve()
    rows = ["first,second,same"]
    for one in index[::2]:
        for other in index[1::5]:
            same = int(one["fine_label"] == other["fine_label"])
            rows.append(f"{root / one['img_path']},{root / other['img_path']},{same}")
    Path("pairs.csv").write_text("\n".join(rows) + "\n")
    assert lethe("--config", experiment(SIMPLE, pairs="pairs.csv")) == 0
    summary = json.loads((only_run() / "summary.json").read_text())
    assert 0 <= summary["verification_auc"] <= 1 and 50 <= summary["verification_accuracy"] <= 100
    assert (only_run() / "roc.png").stat().st_size > 1000


def test_a_missing_list_of_pairs_stops_before_anything_is_trained(refused):
    assert "no such list of pairs" in refused("--config", experiment(SIMPLE, pairs="none.csv"))
    assert not Path("logs").exists()
