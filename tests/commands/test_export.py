"""`main.py export`: the code of every model card, run where this project is not, gives the logits of the run."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import trainer
from convs.names import SHIPPED
from convs.vit import TINY_ARCHITECTURE as VIT
from models import load_run
from tests.forgetting import COMET, FALCON, FORGET, MEADOW
from tests.support import SIMPLE, at_work, experiment, lethe, only_run

ONNX = [name for name in ("onnx", "onnxscript", "onnxruntime") if not find_spec(name)]
NO_ONNX = pytest.mark.skipif(bool(ONNX), reason=f"not installed: {', '.join(ONNX)}")
SHORT = {"zero_shot": [], "forget_epochs": 2}
ASKED = [{"forget": {"classes": [name], "exemplars": 4, "retain": {"few": 2}}} for name in (MEADOW, FALCON)]
ATTENTION = {"lora_rank": 2, "lora_pos": "attention", "bnd": 40.0}
RUNS = {
    "lora": FORGET | SHORT | {"tune": "lora"},
    "adapter": FORGET | SHORT,
    # two requests, merged into the weights one after the other
    "gs_lora": FORGET | SHORT | {"model_name": "gs_lora", "convnet_type": "tiny_vit", "sessions": ASKED, **ATTENTION},
    "flat": SIMPLE | {"sessions": [{"learn": 7}]},  # no row of a parent
    "ease": SIMPLE | {"model_name": "ease", "sessions": [{"learn": 3}, {"learn": 4}], "epochs": 1},  # more than rows
}
EXPORTS = [
    ("lora", "open_clip"),
    ("lora", "peft"),
    ("gs_lora", "timm"),
    ("gs_lora", "peft"),
    ("flat", "timm"),
    ("adapter", "torchscript"),
    ("ease", "torchscript"),
    *([] if ONNX else [("adapter", "onnx")]),
]
# the code of each card, in its folder, with neither this project nor anything else beside the libraries on the path
ELSEWHERE = """
import os, re, sys, timm, open_clip, torch
from safetensors.torch import load_file

images, bases = torch.load("images.pt"), torch.load("bases.pt")
home, found = os.getcwd(), {}
for name in sys.argv[1:]:
    os.chdir(os.path.join(home, name))
    code = re.search(r"```python\\n(.*?)```", open("MODEL_CARD.md", encoding="utf-8").read(), re.S)[1]
    space = {"images": images}
    if name.endswith("-peft"):
        vit = name.startswith("gs_lora")
        build = timm.models.VisionTransformer if vit else open_clip.CLIP
        space["original"] = build(**bases["vit" if vit else "clip"])
        tensors = load_file(bases["weights"][vit])
        state = {key[4:]: value.float() for key, value in tensors.items() if key.startswith("net.")}
        space["original"].load_state_dict(state)
    with torch.no_grad():
        exec(code, space)
    found[name] = {level: torch.as_tensor(value) for level, value in space["logits"].items()}
    os.chdir(home)
assert not {"models", "convs", "commands", "utils.errors"} & set(sys.modules)
torch.save(found, "found.pt")
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Iterator[Path]:
    """Where the runs and all exports of them are."""
    with at_work(tmp_path_factory.mktemp("exports"), tmp_path_factory) as base, pytest.MonkeyPatch.context() as patch:
        for plots, name in ((trainer.plots, "curves"), (trainer.request_plots, "requests")):
            patch.setattr(plots, name, lambda *_: None)
        patch.setattr(trainer.group_plots, "heat_map", lambda *_: None)
        for name, settings in RUNS.items():
            assert lethe("--config", experiment(settings, logs=f"logs/{name}")) == 0
        (place("lora") / "audits.md").write_text("# Audits of x\n\n| | original |\n| --- | ---: |\n| forget | 91.7 |\n")
        for name, to in EXPORTS:
            assert lethe("export", place(name), "--to", to, "--out", f"{name}-{to}") == 0
        yield base


def place(name: str) -> Path:
    return only_run(Path("logs") / name)


@pytest.fixture(scope="module")
def found(base) -> dict:
    """What the code of the cards makes of five images, in a process of its own."""
    from convs.clip_models import TINY_ARCHITECTURE as CLIP

    torch.save(torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0)), base / "images.pt")
    weights = [str(SHIPPED / f"tiny_{kind}.safetensors") for kind in ("clip", "vit")]
    torch.save({"vit": VIT | {"num_classes": 0}, "clip": CLIP, "weights": weights}, base / "bases.pt")
    (base / "elsewhere.py").write_text(ELSEWHERE)
    words = [sys.executable, "-I", "elsewhere.py", *(f"{name}-{to}" for name, to in EXPORTS)]
    done = subprocess.run(words, cwd=base, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return torch.load(base / "found.pt")


@pytest.fixture(scope="module")
def runs(base) -> dict:
    """The runs, loaded here."""
    return {name: load_run(place(name), "cpu") for name in RUNS}


@pytest.mark.parametrize(("name", "to"), EXPORTS)
def test_the_same_logits_where_this_project_is_not(base, found, runs, name, to):
    _, *ours = runs[name].answers(torch.load(base / "images.pt"))
    theirs = found[f"{name}-{to}"]
    assert theirs.keys() == ({"fine"} if (name, to) == ("flat", "timm") else {"fine", "coarse"})
    for level, logits in zip(("fine", "coarse"), ours, strict=True):
        assert level not in theirs or (theirs[level] - logits).abs().max() < 1e-4 * max(1, logits.abs().max())


@NO_ONNX
def test_onnx_is_among_them():
    assert ("adapter", "onnx") in EXPORTS


def test_training_has_moved_what_is_written(base):
    for folder in ("lora-peft", "gs_lora-peft"):
        tensors = load_file(base / folder / "adapter_model.safetensors")
        joint = [name for name in tensors if "lora_B" in name and "out_proj" not in name]
        assert joint and all(tensors[name].abs().max() > 1e-4 for name in joint)
    tensors = load_file(place("adapter") / "checkpoint" / "session.safetensors")
    assert all(value.abs().max() > 1e-3 for name, value in tensors.items() if name.endswith("adapter.up.weight"))


def test_names_and_preprocessing_lie_beside_the_weights(base, runs):
    found = json.loads((base / "gs_lora-timm" / "classes.json").read_text())
    run = runs["gs_lora"]
    assert found["names"] == {level: list(names) for level, names in run.answers.names.items()}
    assert found["forgotten"] == {"fine": sorted([MEADOW, FALCON]), "coarse": []}
    assert found["parents"][COMET] == "Veltro" and found["heads"] == {"fine": "cosine", "coarse": "cosine"}
    image = Image.effect_noise((90, 70), 80).convert("RGB")
    look = found["preprocess"]
    width, height = (round(side * look["resize"] / 70) for side in (90, 70))
    assert run.prepare(image).shape == (3, look["size"], look["size"]) and (width, height) == (91, 71)
    assert json.loads((base / "lora-open_clip" / "classes.json").read_text())["templates"] == FORGET["templates"]


def test_open_clip_reads_the_text_tower_and_its_tokenizer(base, runs):
    import open_clip

    folder = f"local-dir:{base / 'lora-open_clip'}"
    net, tokenizer = open_clip.create_model(folder).eval(), open_clip.get_tokenizer(folder)
    backbone = runs["lora"].model.backbone
    texts = ["a photo of a Veltro Comet.", "my car!"]
    assert torch.allclose(net.encode_text(tokenizer(texts)), backbone.encode_text(texts), atol=1e-5)


def test_a_lora_that_was_not_merged_is_written_as_it_is(base):
    tensors = load_file(base / "lora-peft" / "adapter_model.safetensors")
    config = json.loads((base / "lora-peft" / "adapter_config.json").read_text())
    assert config["r"] == 8 and len(tensors) == 2 * 2 * 4  # A and B of two layers in four blocks
    merged = json.loads((base / "gs_lora-peft" / "adapter_config.json").read_text())
    assert merged["r"] == 2 * 2  # two requests of rank two


def test_the_card_tells_what_was_asked_and_how_it_went(base):
    card = (base / "lora-open_clip" / "MODEL_CARD.md").read_text(encoding="utf-8")
    summary = json.loads((place("lora") / "summary.json").read_text())
    assert f"- session 0: forget (fine) {MEADOW}" in card
    assert f"| forget fine | {summary['forget_fine_before']:.2f} | {summary['forget_fine']:.2f} |" in card
    assert f"| Q-U |  | {summary['qu']:.2f} |" in card
    assert "| forget | 91.7 |" in card and "# Audits of x" not in card
    for heading in ("What it was asked", "How well it did", "Audits", "Use", "Good to know", "Licence"):
        assert card.count(f"\n## {heading}\n") == 1
    assert "does not crop" in card  # the backbone's own pre-processing does
    other = (base / "adapter-torchscript" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "None was made." in other and "holds a change" not in other
    assert "holds a change to the original weights" in (base / "lora-peft" / "MODEL_CARD.md").read_text()
    assert re.search(r"best of its children", (base / "flat-timm" / "MODEL_CARD.md").read_text())


@pytest.mark.parametrize(
    ("name", "to", "reason"),
    [
        ("adapter", "open_clip", "parallel adapters have a ReLU inside and cannot be merged"),
        ("adapter", "peft", "the run has no LoRA"),
        ("lora", "timm", "no model that timm alone can build; torchscript and onnx hold any model"),
        ("gs_lora", "open_clip", "no model that open_clip alone can build"),
    ],
)
def test_what_cannot_be_written_is_said_and_leaves_nothing(base, capsys, name, to, reason):
    assert lethe("export", place(name), "--to", to, "--out", "there/new") == 2
    out, err = capsys.readouterr()
    assert out == "" and reason in err and err.splitlines()[-1].startswith("lethe: ")
    assert not any(Path("there").iterdir())


def test_a_folder_that_is_there_is_left_alone(base, capsys):
    before = {file.name for file in (base / "flat-timm").iterdir()}
    assert lethe("export", place("flat"), "--to", "torchscript", "--out", "flat-timm") == 2
    assert "is there already" in capsys.readouterr().err
    assert {file.name for file in (base / "flat-timm").iterdir()} == before


def test_a_package_that_is_not_there_is_named(base, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert lethe("export", place("flat"), "--to", "onnx", "--out", "new") == 2
    assert "--to onnx needs the package 'onnx'; pip install onnx onnxscript" in capsys.readouterr().err
    assert not Path("new").exists() and not Path("new.part").exists()


def test_weights_alone_are_not_all_of_a_learner_that_classifies_otherwise(base, capsys):
    assert lethe("export", place("ease"), "--to", "timm", "--out", "ease-timm") == 2
    said = capsys.readouterr().err
    assert "'ease' classifies by more than a tower and rows; choose torchscript or onnx" in said
    assert not Path("ease-timm").exists()
