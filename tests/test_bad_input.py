"""Every mistake a user can make ends in one clear line, with exit code 2, and leaves nothing half-written."""

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.support import ADAPTER, SIMPLE, command_line, contents, experiment, lethe, only_run
from utils.checkpoint import read_tensors, write_tensors

ONE_STEP = {"init_cls": None, "increment": None, "sessions": [{"learn": 2}], "init_epochs": 1, "batch_size": 64}
CLASSES = ("red", "green", "blue")


@pytest.fixture
def never_started(refused):
    """The same for an experiment that differs from `SIMPLE`; nothing may have been written."""

    def run(*words, **changes) -> str:
        line = refused("--config", experiment(SIMPLE, **changes), *words)
        assert not Path("logs").exists()
        return line

    return run


def test_unknown_key(never_started):
    assert never_started(epoch=3).startswith("experiment.json:1: unknown key 'epoch'; did you mean 'epochs'")
    assert never_started("--set", "batchsize=3").startswith("--set batchsize: unknown key 'batchsize'; did you mean")


def test_wrong_value(never_started):
    assert never_started(batch_size=0) == "experiment.json:1: 'batch_size' = 0: must be at least 1"
    assert "--set scale" in never_started("--set", "scale=big")
    assert "--set scale: expected key=value" in never_started("--set", "scale").replace('"', "")


def test_no_such_experiment(refused):
    experiment(SIMPLE)
    assert refused("--config", "experment.json") == (
        "experment.json: no such experiment file; did you mean 'experiment.json'?"
    )
    Path("broken.json").write_text('{"dataset": "toymini",\n "model_name" "adapter"}')
    assert refused("--config", "broken.json").startswith("broken.json:2: not JSON")
    assert not Path("logs").exists()


def test_a_mistake_in_the_last_of_several_stops_all(refused):
    good, bad = experiment(SIMPLE), experiment(SIMPLE, "second.json", epoch=3)
    assert refused("--config", good, bad).startswith("second.json:1: unknown key")
    assert not Path("logs").exists()


@pytest.mark.parametrize(
    "words, part",
    [
        (["--cofnig", "x.json"], "--cofnig"),
        (["--config"], "--config: expected at least one argument"),
        ([], "give an experiment: --config"),
        (["prepare", "folder"], "--root"),
        (["prepare", "foldr", "--root", "."], "did you mean 'folder'"),
    ],
)
def test_wrong_arguments(refused, words, part):
    assert part in refused(*words)


@pytest.mark.parametrize(
    "changes, part",
    [
        ({"model_name": "adaptor"}, "key 'model_name': no learner 'adaptor'; did you mean 'adapter' or"),
        ({"convnet_type": "vit_base_patch16_225"}, "'vit_base_patch16_225' is unknown to timm; did you mean 'vit_base"),
        ({"convnet_type": "ViT-B-17"}, "'ViT-B-17' is unknown to open_clip; did you mean 'ViT-B-16'"),
        ({"convnet_type": "resnet18"}, "'resnet18' has no transformer blocks; choose a ViT"),
        (
            {"dataset": "toymni"},
            "key 'dataset': no set 'toymni' in data/sets/ and none embedded; did you mean 'toym",
        ),
        ({"templates": "carz"}, "key 'templates': 'carz' is no set of templates; did you mean 'cars'?"),
        (
            {"sessions": [{"learn": ["Veltro Comt"]}]},
            "session 0 asks to learn 'Veltro Comt', but 'toymini' has no such class; did you mean 'Veltro Comet' or",
        ),
        ({"exclude": ["Veltro Comt"]}, "key 'exclude': 'toymini' has no class 'Veltro Comt'; did you mean 'Veltro Com"),
        (
            {"sessions": [{"learn": 4}, {"learn": 9}]},
            "session 1 asks to learn 9 classes, 13 in all, but 'toymini'",
        ),
        ({"sessions": None, "init_cls": 13}, "'init_cls' is 13, but 'toymini' has 12 classes"),
        (
            {"sessions": [{"learn": ["Veltro Comet"]}, {"learn": 12}]},
            "session 1 asks for 12 new classes, but only 11",
        ),
        ({"sessions": [{"learn": 2}, {"forget": 1}]}, "session 1 asks to forget, which learner 'simplecil' cannot do"),
        ({"weights": "none.safetensors"}, "none.safetensors: no such weights file"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_not_there(never_started, changes, part):
    assert part in never_started(**changes)


@pytest.mark.parametrize(
    "sessions, part",
    [
        ([{"learn": ["Veltro Arrow"]}, {"forget": 1}], "'Veltro Arrow', the only fine class known by then"),
        (
            [{"learn": ["Veltro Arrow", "Veltro Comet"]}, {"forget": {"classes": ["Veltro"], "level": "coarse"}}],
            "'Veltro', the only coarse class known by then",
        ),
    ],
)
def test_what_cannot_be_taken_for_another(never_started, sessions, part):
    line = never_started(model_name="adapter", coarse_weight=0.5, sessions=sessions)
    assert line.startswith(f"key 'sessions': session 1 asks to forget {part}, and loss 'hinge' needs another one")
    assert line.endswith("choose one of: ga, gdiff, kl, npo, me")


def test_a_gpu_that_is_not_there(never_started, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert never_started("--device", "cuda") == (
        "--device cuda: this machine has 0 usable GPU(s); use --device cpu or auto"
    )
    assert 'expected "auto"' in never_started("--device", "gpu")


# weights


@pytest.mark.parametrize(
    "name, content",
    [
        ("weights.safetensors", b"\x08\0\0\0\0\0\0\0{}"),
        ("weights.safetensors", b""),
        ("weights.pt", b"no tensors at all"),
        ("weights.pt", b""),
        ("weights.pt", b"\x80\x02}q\x00X\x04\x00\x00\x00\xff\xff\xff\xffq\x01."),
        ("weights.pt", b"\x80\x02e."),
    ],
)
def test_damaged_weights(never_started, name, content):
    Path(name).write_bytes(content)
    assert never_started(weights=name).startswith(f"{name}: ")


def test_weights_of_another_backbone(never_started):
    save_file({"net.cls_token": torch.zeros(1, 1, 64)}, "weights.safetensors")
    assert "weights.safetensors: does not fit this backbone" in never_started(weights="weights.safetensors")


# data


@pytest.fixture
def photos(workplace) -> Path:
    """An indexed set `mine` of three colours, six training images and one test image each, and its folder."""
    folder = Path("data/sets/mine")
    folder.mkdir(parents=True)
    for split, count in (("train", 6), ("test", 1)):
        rows = []
        for number, name in enumerate(CLASSES * count):
            path = f"{split}-{number}.png"
            Image.new("RGB", (16, 16), name).save(folder / path)
            rows.append({"img_path": path, "coarse_label": name, "fine_label": name})
        write_rows(folder / f"{split}.jsonl", rows)
    (folder / "set.json").write_text('{"root": "."}')
    return folder


def write_rows(file: Path, rows: list[dict]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def change_line(file: Path, number: int, text: str) -> None:
    lines = file.read_text().splitlines()
    lines[number - 1] = text
    file.write_text("\n".join(lines) + "\n")


MINE = {"dataset": "mine", "sessions": [{"learn": 3}]}


def test_the_photos_are_good(photos, capsys):
    assert lethe("--config", experiment(SIMPLE, **MINE)) == 0


@pytest.mark.parametrize(
    "line, part",
    [
        ('{"img_path": "train-4.png"', "train.jsonl:5: not JSON"),
        ('["train-4.png", "red", "red"]', "train.jsonl:5: expected an object with img_path, coarse_label, fine_label"),
        (
            '{"img_path": "train-4.png", "coarse_label": "red"}',
            "train.jsonl:5: field 'fine_label' is missing",
        ),
        ('{"img_path": 4, "coarse_label": "red", "fine_label": "red"}', "train.jsonl:5: field 'img_path'"),
        ("", "train.jsonl:5: not JSON"),
    ],
)
def test_a_line_of_the_index_that_is_wrong(never_started, photos, line, part):
    change_line(photos / "train.jsonl", 5, line)
    assert part in never_started(**MINE)


def test_an_index_that_is_missing_or_empty(never_started, photos):
    (photos / "test.jsonl").write_text("")
    assert "data/sets/mine/test.jsonl: the index is empty" in never_started(**MINE)
    (photos / "test.jsonl").unlink()
    assert "data/sets/mine/test.jsonl: no such index" in never_started(**MINE)
    (photos / "train.jsonl").unlink()
    assert "no set 'mine'" in never_started(**MINE)


@pytest.mark.parametrize("about", ["{", "[]", '{"root": 5}'])
def test_a_set_file_that_is_wrong(never_started, photos, about):
    (photos / "set.json").write_text(about)
    assert "data/sets/mine/set.json: " in never_started(**MINE)


def test_a_class_with_one_image(never_started, photos):
    rows = [json.loads(line) for line in (photos / "train.jsonl").read_text().splitlines()]
    greens = [row for row in rows if row["fine_label"] == "green"]
    write_rows(photos / "train.jsonl", [row for row in rows if row not in greens[1:]])
    line = never_started(**MINE)
    assert "data/sets/mine/train.jsonl: class 'green' has 1 image(s), at least 2 are needed" in line
    assert lethe("--config", experiment(SIMPLE, dataset="mine", exclude=["green"])) == 0


def test_a_class_without_test_images(never_started, photos):
    change_line(photos / "test.jsonl", 2, json.dumps(dict.fromkeys(("img_path", "coarse_label", "fine_label"), "red")))
    assert "data/sets/mine/test.jsonl: class 'green' has 0 image(s), at least 1 are needed" in never_started(**MINE)


def test_a_class_of_two_parents(never_started, photos):
    change_line(photos / "train.jsonl", 8, '{"img_path": "train-7.png", "coarse_label": "red", "fine_label": "green"}')
    line = never_started(**MINE)
    assert "data/sets/mine/train.jsonl:8: class 'green' stands under 'red' here and under 'green' before" in line


def damage_missing(file: Path) -> str:
    file.unlink()
    return "does not exist; mend the index or set 'data_root'"


def damage_truncated(file: Path) -> str:
    file.write_bytes(file.read_bytes()[:50])
    return "is truncated or not an image"


def damage_text(file: Path) -> str:
    file.write_text("not an image")
    return "is truncated or not an image"


@pytest.mark.parametrize("damage", [damage_missing, damage_truncated, damage_text])
@pytest.mark.parametrize("split, number", [("train", 17), ("test", 2)])
def test_an_image_that_is_damaged(refused, photos, damage, split, number):
    file = photos / f"{split}-{number - 1}.png"
    part = damage(file)
    line = refused("--config", experiment(SIMPLE, **MINE))
    assert line.startswith(f"data/sets/mine/{split}.jsonl:{number}: ") and str(file) in line and part in line
    left_by_a_cut_run()


def test_a_missing_test_image_shows_before_training(never_started, photos):
    (photos / "test-1.png").unlink()
    assert "data/sets/mine/test.jsonl:2: image" in never_started(**MINE)


def test_an_unknown_learner_in_the_second_file_shows_before_the_first_has_run(refused):
    first, second = experiment(SIMPLE), "second.json"
    Path(second).write_text(Path(first).read_text().replace("simplecil", "simplecli"))
    assert "no learner 'simplecli'; did you mean 'simplecil'?" in refused("--config", first, second)
    assert not Path("logs").exists()


def left_by_a_cut_run() -> None:
    """A run that fell over its data has no tables; its log is there to read."""
    if Path("logs").exists():
        assert set(contents(only_run())) == {"config.json", "environment.json"}


def test_an_image_that_is_damaged_in_a_worker(refused, photos, monkeypatch):
    monkeypatch.setattr("data.images.WORTH", 0)
    damage_truncated(photos / "train-16.png")
    line = refused("--config", experiment(SIMPLE, **MINE, cache_gb=0, workers=1))
    assert line.startswith("data/sets/mine/train.jsonl:17: ") and "Caught" not in line
    left_by_a_cut_run()


# training


def test_a_loss_that_is_not_finite(refused):
    changes = ONE_STEP | {"init_epochs": 3, "init_lr": 1e30, "coarse_weight": 0}
    line = refused("--config", experiment(ADAPTER, **changes))
    assert line.startswith("session 0: loss term 'fine' became nan in phase 'adapt', epoch 2, step 1")
    folder = only_run()
    assert line in folder.with_name(folder.name + ".log").read_text()
    assert not (folder / "summary.json").exists() and not (folder / "checkpoint/session.safetensors").exists()


@pytest.mark.parametrize("model_name", ["adapter", "finetune"])
def test_weights_that_the_last_step_spoiled(refused, model_name):
    line = refused("--config", experiment(ADAPTER, **ONE_STEP, model_name=model_name, optimizer="sgd", init_lr=1e30))
    assert "finite" in line
    assert not (only_run() / "summary.json").exists()


# places


def test_logs_that_cannot_be_written(refused):
    Path("file").write_text("in the way")
    line = refused("--config", experiment(SIMPLE, logs="file"))
    assert line.startswith("file/simplecil/") and line.endswith("set 'logs' to another folder")
    assert Path("file").read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_logs_that_are_read_only(refused):
    Path("closed").mkdir(mode=0o500)
    assert "set 'logs' to another folder" in refused("--config", experiment(SIMPLE, logs="closed"))


def test_a_full_disk(refused, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in refused("--config", experiment(SIMPLE))


# checkpoints


@pytest.fixture
def cut(workplace, capsys) -> Path:
    """The folder of a run that was cut after its last session."""
    assert lethe("--config", experiment(SIMPLE)) == 0
    (only_run() / "summary.json").unlink()
    return only_run()


def test_a_damaged_checkpoint(refused, cut):
    file = cut / "checkpoint/session.safetensors"
    whole = file.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\xff" * 200):
        file.write_bytes(content)
        before = contents(Path("logs"))
        line = refused("--config", "experiment.json", "--resume")
        assert line.startswith(f"{file}: ") and "damaged" in line and "without --resume" in line
        assert contents(Path("logs")) == before


def test_a_checkpoint_of_another_config(refused, cut):
    before = contents(Path("logs"))
    line = refused("--config", "experiment.json", "--resume", "--set", "scale=7")
    assert line.startswith(f"{cut}: the run there has another config (differing: scale)")
    assert contents(Path("logs")) == before
    settings = json.loads((cut / "config.json").read_text())
    (cut / "config.json").write_text(json.dumps(settings | {"scale": 7.0}))  # only the checkpoint itself knows now
    line = refused("--config", "experiment.json", "--resume", "--set", "scale=7")
    assert "session.safetensors: was written by another config" in line


def test_a_checkpoint_that_does_not_fit_the_model(refused, cut):
    file = cut / "checkpoint/session.safetensors"
    notes = read_tensors(file).notes
    for tensors in ({"other": torch.zeros(1)}, {name: value[:, :5] for name, value in load_file(file).items()}):
        write_tensors(file, tensors, notes)
        line = refused("--config", "experiment.json", "--resume")
        assert "does not fit the model" in line and "without --resume" in line


def test_a_config_of_another_version_beside_the_checkpoint(refused, cut):
    for text in ("{", '{"dataset": "toymini", "what_was": 1}'):
        (cut / "config.json").write_text(text)
        assert "not a config of this version" in refused("--config", "experiment.json", "--resume")


# the real command line


def test_a_process_of_its_own(photos):
    damage_truncated(photos / "test-1.png")
    for changes, part in (
        ({"epoch": 3}, "experiment.json:1: unknown key 'epoch'"),
        (MINE, "data/sets/mine/test.jsonl:2: data"),
    ):
        words, environment = command_line("--config", experiment(SIMPLE, **changes))
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
        *before, last = done.stderr.removesuffix("\n").split("\n")
        assert done.returncode == 2 and done.stdout == ""
        assert last.startswith("lethe: ") and part in last.replace(str(Path.cwd()) + "/", "")
        assert "Traceback" not in done.stderr and not any(line.startswith("lethe: ") for line in before)
