"""`main.py forget`: from folders of photographs to a model that open_clip loads and that knows the concepts no more."""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import open_clip
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from commands import forget
from convs import export
from convs.clip_models import TINY_ARCHITECTURE, build_clip
from convs.names import SHIPPED
from data.concepts import gather
from data.world import world_classes
from tests.support import assert_same_run, at_work, contents, cut_after_writing, lethe, only_run
from utils.config import load_config

ASKED = {"Veltro Comet": "Veltro", "Ostara Meadow": "Ostara"}
QUICK = ("--epochs", 50, "--device", "cpu", "--set", "workers=0", "--set", "forget_lr=5e-5")
QUICK += ("--set", "kl_fine=100", "--set", "kl_coarse=50", "--set", "margin_fine=5.0")
MODEL = ("--model", "tiny_clip", "--templates", "drawn")
REQUEST = (*MODEL, "--exemplars", "ask", "--zero-shot", "keep", "--parents", "parents.json")
# asks the model in a folder, by open_clip alone, for the names behind some pictures
ELSEWHERE = """
import json, sys, open_clip, torch
from PIL import Image
from torch.nn.functional import normalize

names, templates, files = json.load(open("asked.json"))
model, _, preprocess = open_clip.create_model_and_transforms("local-dir:" + sys.argv[1])
tokenizer = open_clip.get_tokenizer("local-dir:" + sys.argv[1])
with torch.no_grad():
    rows = [model.eval().encode_text(tokenizer([text.replace("{}", name) for text in templates])) for name in names]
    rows = torch.stack([normalize(normalize(each, dim=-1).mean(0), dim=-1) for each in rows])
    seen = torch.stack([preprocess(Image.open(file).convert("RGB")) for file in files])
    answers = (normalize(model.encode_image(seen), dim=-1) @ rows.T).argmax(1).tolist()
assert not {"models", "convs", "commands", "utils.errors"} & set(sys.modules)
print(json.dumps([names[answer] for answer in answers]))
"""
# a named architecture and its weights, as a person would load them, beside the whole folder
BY_NAME = """
import open_clip, torch

open_clip.add_model_config("configs")
model, _, _ = open_clip.create_model_and_transforms("ViT-small", pretrained="out/model/open_clip_model.safetensors")
other = open_clip.create_model("local-dir:out/model")
images, words = torch.randn(2, 3, 64, 64), open_clip.get_tokenizer("ViT-small")(["a red car", "a plum"])
with torch.no_grad():
    assert torch.equal(model.eval().encode_image(images), other.eval().encode_image(images))
    assert torch.equal(model.encode_text(words), other.encode_text(words))
"""


def lay_out(folder: Path) -> None:
    """The miniature's pictures as a person would hand them over: two cars to go, the others by make, to stay."""
    pictures = folder / "data/cache/toymini/images"
    for make, car in world_classes("toymini"):
        place = folder / ("ask" if car in ASKED else f"keep/{make}") / car.replace(" ", "_")
        place.mkdir(parents=True)
        for split in ("train", "test"):
            for file in pictures.glob(f"{split}/{car.lower().replace(' ', '-')}-*.png"):
                shutil.copy(file, place / f"{split}{file.name[-7:]}")
    (folder / "parents.json").write_text(json.dumps(ASKED))


@pytest.fixture
def handed(workplace) -> Path:
    lay_out(workplace)
    return workplace


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Iterator[Path]:
    """Where one request has been followed to its end."""
    with at_work(tmp_path_factory.mktemp("forget"), tmp_path_factory) as base:
        lay_out(base)
        assert lethe("forget", *REQUEST, *QUICK, "--out", "out") == 0
        yield base


def test_what_comes_out(done):
    assert {place.name for place in Path("out").iterdir()} == {
        "audits.md",
        "forget.json",
        "logs",
        "model",
        "report.html",
        "sets",
    }
    card = Path("out/model/MODEL_CARD.md").read_text(encoding="utf-8")
    assert "forget (fine) " in card and "| **verdict** |" in card
    assert "Veltro Comet" in Path("out/report.html").read_text(encoding="utf-8")
    summary = json.loads((only_run(Path("out/logs")) / "summary.json").read_text())
    assert summary["forget_fine_before"] >= 75.0 and summary["forget_fine"] == 0.0
    assert summary["zero_shot"] >= 50.0 and summary["retain_fine"] >= 50.0


def test_the_experiment_is_an_ordinary_one(done):
    config = load_config(Path("out/forget.json")).config
    assert (config.model_name, config.tune, config.dataset) == ("hinge", "all", "exemplars+keep")
    assert (config.forget_epochs, config.forget_lr, config.checkpoint_every) == (50, 5e-5, 13)
    (asked,) = config.sessions
    assert set(asked.forget.classes) == set(ASKED) and asked.forget.level == "fine" and asked.forget.retain == "none"
    lines = [json.loads(line) for line in Path("out/sets/exemplars/train.jsonl").read_text().splitlines()]
    assert {(line["fine_label"], line["coarse_label"]) for line in lines} == set(ASKED.items())


def test_open_clip_alone_loads_it_and_finds_the_concepts_no_more(done):
    original = Path(mkdtemp(dir=done))
    export.write_open_clip(build_clip("tiny_clip"), original)
    held_out = [json.loads(line)["img_path"] for line in Path("out/sets/exemplars/test.jsonl").read_text().splitlines()]
    kept = sorted(Path("keep").rglob("test000.png"))
    files = [str(done / file) for file in [*(Path("ask") / path for path in held_out), *kept]]
    truth = [Path(file).parent.name.replace("_", " ") for file in files]
    templates = json.loads(Path("out/model/classes.json").read_text())["templates"]
    Path("asked.json").write_text(json.dumps([[car for _, car in world_classes("toymini")], templates, files]))
    Path("elsewhere.py").write_text(ELSEWHERE)
    before, after = (answers(name) for name in (original, "out/model"))
    gone = len(held_out)
    right = [[told == true for told, true in zip(some, truth, strict=True)] for some in (before, after)]
    assert gone == 4 and sum(right[0][:gone]) >= 3 and not any(right[1][:gone])
    assert len(kept) == 10 and sum(right[0][gone:]) >= 9 and sum(right[1][gone:]) >= 5


def answers(model) -> list[str]:
    """What a model calls the pictures, by open_clip in a process of its own."""
    words = [sys.executable, "-I", "elsewhere.py", str(model)]
    process = subprocess.run(words, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_the_same_command_finds_everything_done(done, capsys):
    before = contents(Path("out"))
    assert lethe("forget", *REQUEST, *QUICK, "--out", "out") == 0
    said = capsys.readouterr().err
    assert "nothing is left to do" in said and "Epoch" not in said
    after = contents(Path("out"))
    assert before.keys() == after.keys() and {name for name in after if after[name] != before[name]} <= {"report.html"}


def test_another_request_does_not_go_on_there(done, capsys):
    for change in (("--epochs", 51), ("--parents", "other.json")):
        Path("other.json").write_text(json.dumps(ASKED | {"Veltro Comet": "car"}))
        assert lethe("forget", *REQUEST, *QUICK, *change, "--out", "out") == 2
        assert "--out out: holds another request (" in capsys.readouterr().err
    assert not list(done.glob(".out*"))


def test_a_cut_request_goes_on(handed, monkeypatch, capsys):
    short = (*REQUEST, *QUICK, "--epochs", 2)
    with monkeypatch.context() as patch:
        cut_after_writing(patch, "phase")
        assert lethe("forget", *short, "--out", "cut") == 130
    assert not Path("cut/model").exists() and Path("cut/forget.json").is_file()
    with monkeypatch.context() as patch:  # and again, when all but the model is there
        patch.setattr("models.export.export_run", interrupted)
        assert lethe("forget", *short, "--out", "cut") == 130
    assert Path("cut/report.html").is_file() and not Path("cut/model").exists()
    assert lethe("forget", *short, "--out", "cut") == 0
    assert "It is not forgotten (Quality" in capsys.readouterr().err  # by two steps
    assert lethe("forget", *short, "--out", "whole") == 0
    assert_same_run(*(only_run(Path(name) / "logs") for name in ("cut", "whole")))
    weights = [load_file(Path(name) / "model/open_clip_model.safetensors") for name in ("cut", "whole")]
    assert weights[0].keys() == weights[1].keys() and all(weights[0][k].equal(weights[1][k]) for k in weights[0])


def interrupted(*_) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def named(handed, monkeypatch) -> tuple[str, ...]:
    """The miniature as a model that open_clip knows by its name, its weights in a file."""
    Path("configs").mkdir()
    Path("configs/ViT-small.json").write_text(json.dumps(TINY_ARCHITECTURE))
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-small", TINY_ARCHITECTURE)
    save_file(build_clip("tiny_clip").net.state_dict(), "weights.safetensors")
    return ("--model", "ViT-small", "--weights", "weights.safetensors")


def test_names_alone_for_a_model_that_open_clip_knows(named, capsys):
    names = {"red car": None, "Veltro Harbor": "Veltro"}
    Path("names.json").write_text(json.dumps(names))
    shutil.rmtree("ask/Ostara_Meadow")
    words = (*named, "--exemplars", "ask", "--retain-names", "names.json", "--epochs", 1, "--device", "cpu")
    assert lethe("forget", *words, "--out", "out") == 0
    said = capsys.readouterr().err
    assert "'Veltro Comet'; 8 photographs to forget by, 2 to test by" in said
    assert "2 names, 0 of them with photographs (red car, Veltro Harbor)" in said
    assert re.search(r"This will take about .*: 1 steps of", said)
    audits = Path("out/audits.md").read_text(encoding="utf-8")
    assert "prompt_paraphrases" in audits and "nan" not in audits and "verdict" not in audits
    assert json.loads(Path("out/model/classes.json").read_text())["names"]["fine"] == ["Veltro Comet", *names]
    card = Path("out/model/MODEL_CARD.md").read_text(encoding="utf-8")
    assert 'create_model_and_transforms("ViT-small", pretrained="open_clip_model.safetensors")' in card
    done = subprocess.run([sys.executable, "-I", "-c", BY_NAME], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_epochs_follow_from_the_number_of_photographs(handed):
    concepts = gather(Path("ask"), [Path("keep")])
    found = {}
    for words in ((), ("--set", "forget_batch_size=3"), ("--epochs", "2"), ("--set", "forget_epochs=5")):
        parser = argparse.ArgumentParser()
        forget.add_arguments(parser)
        args = parser.parse_args([*MODEL, "--exemplars", "ask", "--out", "out", *words])
        forget._prepare(Path("draft"), args, concepts)
        found[words] = load_config(Path("draft/forget.json")).config.forget_epochs
    # 16 photographs are one batch of 32 or six of 3, and 375 steps are to be taken
    assert list(found.values()) == [375, 63, 2, 5]
    assert not Path("out").exists()


WRONG = {
    "no folder": (("--exemplars", "nowhere"), "nowhere: no such folder of photographs"),
    "no images": (("--exemplars", "empty"), "empty/plum: holds no image"),
    "one image": (("--exemplars", "single"), "'plum' has 1 image(s), 1 to show and 0 to test by; at least 2"),
    "twins": (("--exemplars", "twins"), "the folders 'Plum' and 'plum' name one class"),
    "no photograph": (("--exemplars", "damaged"), "1 photograph(s) cannot be read"),
    "parents": (("--parents", "strange.json"), "'Veltro Comt' is none of the concepts; did you mean 'Veltro Comet'"),
    "no file": (("--parents", "nowhere.json"), "nowhere.json: cannot be read"),
    "model": (("--model", "ViT-L-15"), "--model ViT-L-15: is unknown to open_clip; did you mean 'ViT-"),
    "no weights": (("--weights", "nowhere.pt"), "nowhere.pt: no such weights file"),
    "tag": (("--model", "ViT-B-32", "--weights", "nowhere.pt"), "'nowhere.pt' of 'ViT-B-32' are neither a file nor"),
    "other weights": (("--weights", SHIPPED / "tiny_vit.safetensors"), "tiny_vit.safetensors: "),
    "out is a file": (("--out", "parents.json"), "--out parents.json: is a file"),
    "out is full": (("--out", "keep"), "--out keep: is there already, and not from this command"),
    "out below a file": (("--out", "parents.json/out"), "parents.json"),
    "own key": (("--set", "dataset=toymini"), "--set dataset: follows from the command's own options"),
    "seeds": (("--set", "seed=[1,2]"), "one model comes out, so there is one seed"),
    "unknown key": (("--set", "epocs=1"), "unknown key 'epocs'"),
    "adapters": (("--set", "tune=adapter"), "parallel adapters have a ReLU inside and cannot be merged"),
    "templates": (("--templates", "carz"), "'carz' is no set of templates; did you mean 'cars'"),
    "epochs": (("--epochs", "-1"), "'forget_epochs'"),
}


@pytest.mark.parametrize(("words", "reason"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_before_anything_is_there(handed, refused, words, reason):
    for place, count in {"empty/plum": 0, "single/plum": 1, "twins/plum": 2, "twins/Plum": 2}.items():
        Path(place).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8)).save(Path(place, f"{number}.png"))
    shutil.copytree("ask", "damaged")
    Path("damaged/Veltro_Comet/test000.png").write_bytes(b"no picture")
    Path("strange.json").write_text('{"Veltro Comt": "Veltro"}')
    before = contents(handed)
    assert reason in refused("forget", *REQUEST, "--device", "cpu", "--out", "out", *words)
    assert contents(handed) == before and not Path("out").exists() and not list(handed.glob(".out*"))
