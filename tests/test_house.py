"""The house keeps its order: who imports whom, what stands in one file only, what `--help` may load."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from utils.config import load_config

ROOT = Path(__file__).resolve().parents[1]

# room → what it may import beside itself; a room not named here has no place in the house
MAY_IMPORT = {
    "utils": set(),
    "data": {"utils"},
    "convs": {"utils"},
    "models": {"utils", "data", "convs"},
    "audits": {"utils", "data", "convs", "models"},
    "trainer": {"utils", "data", "convs", "models"},
    "commands": {"utils", "data", "convs", "models", "audits", "trainer"},
    "main": {"utils", "data", "convs", "models", "trainer", "commands"},
}
HEAVY = {"torch", "torchvision", "timm", "open_clip", "matplotlib", "scipy", "sklearn"}
LIGHT = (
    "main.py",
    "commands/compare.py",
    "commands/export.py",
    "commands/forget.py",
    "commands/predict.py",
    "commands/prepare.py",
    "commands/report.py",
    "utils/config.py",
    "utils/errors.py",
    "utils/smoke.py",
    "data/index.py",
    "convs/names.py",
)
# `Config` objects are made from files by the reader alone, and from other `Config`s by the schema
MAKES_CONFIGS = {"utils/config.py", "utils/schema.py"}


def sources(*rooms: str) -> list[Path]:
    """The Python files of rooms (a package or a module each)."""
    found = [file for room in rooms for file in sorted((ROOT / room).rglob("*.py"))]
    return found + [ROOT / f"{room}.py" for room in rooms if (ROOT / f"{room}.py").exists()]


HOUSE = sources(*MAY_IMPORT)
BENCHMARKS = sources("benchmarks")


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), name_of(file))


def imported(node: ast.AST, package: str) -> list[str]:
    """The dotted names of modules that a statement or an `import_module("…")` imports; empty for anything else."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        return [base, *(f"{base}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Call) and node.args and called(node) in ("import_module", "__import__"):
        first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
        return [str(first.value)] if isinstance(first, ast.Constant) else []
    return []


def called(node: ast.Call) -> str:
    """`f` of `f(…)` and of `a.b.f(…)`."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def package_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).parent.parts)


def all_imports(file: Path) -> set[str]:
    return {name for node in ast.walk(tree_of(file)) for name in imported(node, package_of(file))}


def top_imports(file: Path) -> set[str]:
    """What importing the file imports at once: not what its functions do, nor what only type checkers see."""
    return {name for node in _at_once(tree_of(file).body) for name in imported(node, package_of(file))}


def _at_once(body: list[ast.stmt]) -> Iterator[ast.AST]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        for field in ("body", "orelse", "finalbody", "handlers"):
            yield from _at_once(getattr(node, field, []))


def files_of(module: str) -> list[Path]:
    """The files of this house that importing a module runs: its packages and itself."""
    parts = module.split(".")
    places = [ROOT.joinpath(*parts[:end]) for end in range(1, len(parts) + 1)]
    candidates = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py"))]
    return [file for file in candidates if file.exists()]


def loaded_by(file: Path) -> set[str]:
    """Every module that importing a file ends up importing."""
    names, waiting, seen = set(), [file], {file}
    while waiting:
        for name in top_imports(waiting.pop()):
            names.add(name)
            fresh = [found for found in files_of(name) if found not in seen]
            seen.update(fresh)
            waiting += fresh
    return names


def lines_with(files: list[Path], wanted) -> list[str]:
    return [f"{name_of(file)}:{node.lineno}" for file in files for node in ast.walk(tree_of(file)) if wanted(node)]


# the checks themselves


def test_the_readers_of_imports_see_every_form():
    text = (
        "import a.b\nfrom c import d\nif x:\n    import e\nif TYPE_CHECKING:\n    import f\n"
        "def g():\n    import h\nimport_module('i.j')\nimport_module(f'k.{name}')\nfrom . import l\nfrom .m import n\n"
        "from ..o import p\n"
    )
    tree = ast.parse(text)
    found = {name for node in ast.walk(tree) for name in imported(node, "room.inner")}
    assert {"a.b", "c", "c.d", "e", "f", "h", "i.j", "k.", "room.inner.l", "room.inner.m", "room.o"} <= found
    at_once = {name for node in _at_once(tree.body) for name in imported(node, "room.inner")}
    assert {"a.b", "c", "e"} <= at_once and not {"f", "h"} & at_once


def test_every_room_is_there():
    missing = [room for room in MAY_IMPORT if room != "audits" and not sources(room)]
    assert not missing and ROOT / "utils" / "loop.py" in HOUSE


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_who_may_import_whom(room):
    allowed = MAY_IMPORT[room] | {room}
    everywhere = MAY_IMPORT.keys() | {"tests", "benchmarks"}
    wrong = {
        f"{name_of(file)} imports {name}"
        for file in sources(room)
        for name in all_imports(file)
        if (top := name.split(".")[0]) in everywhere and top not in allowed
    }
    assert not wrong


def test_main_imports_the_house_lazily():
    at_top = {name for name in top_imports(ROOT / "main.py") if name.split(".")[0] in MAY_IMPORT}
    assert all(name.startswith("utils.errors") for name in at_top)


@pytest.mark.parametrize("light", LIGHT)
def test_what_help_and_the_config_load_is_light(light):
    assert not {name for name in loaded_by(ROOT / light) if name.split(".")[0] in HEAVY}


@pytest.mark.parametrize("listed", ["convs/names.py", "data/registry.py", "models/__init__.py"])
def test_list_loads_no_model_library(listed):
    assert not {name.split(".")[0] for name in loaded_by(ROOT / listed)} & {"timm", "open_clip", "torch"}


def test_a_run_over_a_plain_vit_waits_for_no_image_text_library():
    assert not {name.split(".")[0] for name in loaded_by(ROOT / "trainer.py")} & {"open_clip", "transformers"}


def test_only_the_loop_goes_backward():
    def goes(node):
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "backward"

    assert {place.split(":")[0] for place in lines_with(HOUSE, goes)} == {"utils/loop.py"}
    texts = {name_of(file) for file in HOUSE if ".backward(" in file.read_text(encoding="utf-8")}
    assert texts == {"utils/loop.py"}


def test_only_the_loop_has_an_optimizer():
    def has(node):
        if isinstance(node, ast.Attribute):
            return node.attr == "optim"
        return any(name.startswith("torch.optim") for name in imported(node, ""))

    assert {place.split(":")[0] for place in lines_with(HOUSE, has)} == {"utils/loop.py"}


def test_nothing_prints():
    assert not lines_with(
        HOUSE + BENCHMARKS,
        lambda node: isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print",
    )


def test_only_the_config_reader_opens_experiments():
    def makes(node):
        if not isinstance(node, ast.Call):
            return False
        owner = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        return isinstance(owner, ast.Name) and owner.id == "Config"

    assert {place.split(":")[0] for place in lines_with(HOUSE, makes)} <= MAKES_CONFIGS

    def names_the_folder(node):  # a path to the experiments that is not help for the reader of a message
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        return text.strip("/") == "exps" or (text.startswith("exps/") and " " not in text)

    assert {place.split(":")[0] for place in lines_with(HOUSE, names_the_folder)} <= MAKES_CONFIGS


NO_EXPERIMENTS = {ROOT / "exps/schema.json", ROOT / "exps/requests.json"}
EXPERIMENTS = sorted(set((ROOT / "exps").glob("*.json")) - NO_EXPERIMENTS)


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.name)
def test_every_experiment_loads(file):
    assert load_config(file).path == file
