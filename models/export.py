"""The model of a run as files of other libraries, its names, heads and model card beside them."""

import json
from pathlib import Path

import open_clip
import torch

from convs import export
from convs.backbone import Preprocess
from convs.clip import ClipBackbone
from convs.lora import lora_places
from convs.peft_files import write_lora
from models.inference import Answers, LoadedRun, load
from models.runs import reopen
from utils.atomic import whole_folder, write_text
from utils.card import ADAPTER_ALONE, model_card
from utils.config import Config
from utils.errors import ConfigError
from utils.results import SessionResult
from utils.run_folder import AUDIT_PAGE, finished

WHOLE = ("torchscript", "onnx")  # files that hold the classifier, too
EXACT = {"device": "cpu", "precision": "fp32"}
# code that takes `images` [B, 3, size, size] to `logits` by level
LOADING = {
    "open_clip": """import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:.")
tokenizer = open_clip.get_tokenizer("local-dir:.")
features = model.eval().encode_image(images)
""",
    "timm": """import timm

model = timm.create_model("local-dir:.", pretrained=True).eval()
features = model(images)
""",
    "peft": """from peft import PeftModel

# `original`: the library's model with the weights named above
model = PeftModel.from_pretrained(original, ".").eval()
features = model.base_model.model{call}(images)
""",
    "torchscript": """import torch

outputs = torch.jit.load("model.pt").eval()(images)
logits = dict(zip({levels}, outputs[1:]))
""",
    "onnx": """import onnxruntime

outputs = onnxruntime.InferenceSession("model.onnx").run(None, {{"images": images.numpy()}})
logits = dict(zip({levels}, outputs[1:]))
""",
}
HEADS = """
from safetensors.torch import load_file
from torch.nn.functional import normalize

heads = load_file("heads.safetensors")
"""
COSINE = 'logits["{0}"] = normalize(features, dim=-1) @ heads["{0}.weight"].T\n'
LINEAR = 'logits["{0}"] = features @ heads["{0}.weight"].T + heads["{0}.bias"]\n'


def export_run(run: Path, to: str, out: Path) -> None:
    """Write a run's model; the folder is there whole or not at all.

    Args:
        run: the folder of a finished run.
        to: `open_clip`, `timm`, `peft`, `torchscript` or `onnx`.
        out: a folder that is not there yet, or empty.

    Raises:
        ConfigError: the model cannot be written in this form, or the folder is there already.
        LetheError: there is no finished run, or its data set's index or weights are not there any more.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: is there already; name a folder that is not")
    originals = _originals(run) if to == "peft" else []
    loaded = load(run, **EXACT)
    if not loaded.by_rows and to not in WHOLE:
        raise ConfigError(
            f"--to {to}: '{loaded.config.model_name}' classifies by more than a tower and rows; choose "
            f"{' or '.join(WHOLE)}, which hold everything"
        )
    with whole_folder(out) as folder:
        kinds = _write(loaded, to, originals, folder)
        write_text(folder / "classes.json", json.dumps(_described(loaded, to, kinds), indent=1, ensure_ascii=False))
        write_text(folder / "MODEL_CARD.md", _card(loaded, to, kinds))


def _originals(folder: Path) -> list[torch.Tensor]:
    """The weights beside the LoRAs, as they were before the first session."""
    _, built = reopen(folder, torch.device("cpu"), images=False, precision="fp32")
    return [place.weight.detach().clone() for place in lora_places(built.learner.model.backbone)]


@torch.no_grad()
def _write(loaded: LoadedRun, to: str, originals: list[torch.Tensor], folder: Path) -> dict[str, str]:
    """The model's files; returns the kinds of the heads that lie beside it, by level."""
    backbone, size = loaded.model.backbone, loaded.model.backbone.preprocess.size
    if to == "torchscript":
        export.write_torchscript(loaded.answers, size, folder)
    elif to == "onnx":
        export.write_onnx(loaded.answers, size, ["features", *loaded.answers.names], folder)
    elif to == "peft":
        rank = loaded.config.lora_rank * max(1, sum(row["kind"] == "forget" for row in loaded.rows))
        write_lora(folder, export.lora_layers(backbone, originals, rank))
    else:
        export.make_plain(backbone, to)
        (export.write_open_clip if to == "open_clip" else export.write_timm)(backbone, folder)
    return {} if to in WHOLE else export.write_heads(loaded.model, folder)


def _described(loaded: LoadedRun, to: str, kinds: dict[str, str]) -> dict:
    """What a program needs to know beside the weights."""
    look, order, names = loaded.model.backbone.preprocess, loaded.order, loaded.answers.names
    own = {"size": look.size, "mean": look.mean, "std": look.std, "interpolation": look.interpolation}
    return {
        "format": to,
        "backbone": loaded.config.convnet_type,
        "preprocess": own | {"resize": _resize(look), "crop": "center"},
        "names": {level: list(some) for level, some in names.items()},
        "forgotten": {level: sorted(loaded.forgotten[level]) for level in names},
        "parents": {name: order.coarse[order.parents[label]] for label, name in enumerate(names["fine"])},
        "heads": kinds,
        "templates": list(loaded.model.templates),
    }


def _resize(look: Preprocess) -> int:
    return round(look.size / look.crop_pct)


def _card(loaded: LoadedRun, to: str, kinds: dict[str, str]) -> str:
    audits = loaded.folder / AUDIT_PAGE
    return model_card(
        loaded.config,
        [SessionResult.from_json(row) for row in loaded.rows],
        finished(loaded.folder),
        audits=audits.read_text(encoding="utf-8") if audits.exists() else "",
        inputs=_inputs(loaded.model.backbone.preprocess),
        loading=_loading(loaded.answers, to, kinds),
        notes=_notes(loaded, to, kinds),
    )


def _inputs(look: Preprocess) -> str:
    return (
        f"An image in RGB is resized ({look.interpolation}) until its short side has {_resize(look)} pixels, cut to "
        f"the {look.size} × {look.size} in its middle, scaled to 0…1, and normalised by mean {look.mean} and standard "
        f"deviation {look.std}. In this folder, with `images` [B, 3, {look.size}, {look.size}] made like that:"
    )


def _loading(answers: Answers, to: str, kinds: dict[str, str]) -> str:
    call = ".encode_image" if isinstance(answers.model.backbone, ClipBackbone) else ""
    code = LOADING[to].format(levels=tuple(answers.names), call=call)
    if not kinds:
        return code
    lines = [(LINEAR if kind == "linear" else COSINE).format(level) for level, kind in kinds.items()]
    return code + HEADS + "logits = {}\n" + "".join(lines)


def _notes(loaded: LoadedRun, to: str, kinds: dict[str, str]) -> list[str]:
    answers = loaded.answers
    notes = ["The names behind the logits, in order, are in `classes.json`."]
    if kinds and set(answers.names) - set(kinds):
        notes.append("A coarse name scores as the best of its children, see `parents` in `classes.json`.")
    if to == "open_clip":
        notes += _by_name(loaded.config)
        if answers.model.backbone.preprocess.crop_pct != 1:
            notes.append("open_clip's own `preprocess` does not crop; the sentence under *Use* is what was measured.")
    return notes + ([ADAPTER_ALONE] if to == "peft" else [])


def _by_name(config: Config) -> list[str]:
    """How open_clip loads the file where it knows the architecture by name."""
    if config.convnet_type not in open_clip.list_models() or config.img_size:
        return []
    call = f'create_model_and_transforms("{config.convnet_type}", pretrained="{export.OPEN_CLIP_FILE}")'
    return [f"The weights alone: `open_clip.{call}`; the pre-processing is then what open_clip has for the name."]
