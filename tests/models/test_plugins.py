"""Learners from a file of the user's: found beside the experiment, executed once, refused in one line."""

import json
import sys
from pathlib import Path

import pytest

from models import LEARNERS, learner_class
from models.plugins import check_unchanged, load_plugins
from tests.support import SIMPLE, lethe, log_of, only_run
from utils.config import config_hash, load_config
from utils.errors import ConfigError

MINE = '''
"""A method of my own."""

from dataclasses import dataclass

from models.simplecil import SimpleCilLearner


@dataclass(frozen=True)
class Setting:
    value: "int"


class Mine(SimpleCilLearner):
    """Class means, and a word in the log."""

    def phases(self, session):
        import logging

        logging.getLogger("lethe").info("mine is at work")
        yield from super().phases(session)


LEARNERS = {"mine": Mine}
'''


pytestmark = pytest.mark.usefixtures("learners_as_before")


@pytest.fixture
def plugin(tmp_path):
    """A function that writes a plugin and loads it."""

    def load(text: str, name: str = "my_method.py") -> None:
        (tmp_path / name).write_text(text, encoding="utf-8")
        load_plugins([str(tmp_path / name)])

    return load


def test_a_file_beside_the_experiment_runs(workplace):
    folder = workplace / "mine"
    folder.mkdir()
    (folder / "my_method.py").write_text(MINE)
    (folder / "x.json").write_text(json.dumps(SIMPLE | {"model_name": "mine", "plugins": ["my_method.py"]}))
    assert lethe("--config", folder / "x.json", folder / "x.json") == 0  # from another folder, and twice
    assert "mine is at work" in log_of(only_run()) and only_run().parts[1] == "mine"
    again = load_config(only_run() / "config.json").config
    assert Path(again.plugins[0]) == folder / "my_method.py"  # the run's own record leads back to it
    assert config_hash(again) == config_hash(again.changed(plugins=["/elsewhere/my_method.py"]))


def test_the_factory_knows_it_by_its_first_line(plugin):
    plugin(MINE)
    assert LEARNERS["mine"][2] == "Class means, and a word in the log." and learner_class("mine").__name__ == "Mine"


def test_it_is_executed_once(plugin, tmp_path):
    count = tmp_path / "count"
    text = MINE + f"\nopen({str(count)!r}, 'a').write('x')\n"
    plugin(text)
    plugin(text)
    assert count.read_text() == "x"


@pytest.mark.parametrize(
    "text, said",
    [
        ("x = 1\nx +\n", r"my_method\.py:2: SyntaxError"),
        ("x = 1\n\ny = z\n", r"my_method\.py:3: NameError: name 'z'"),
        ("import nowhere_to_be_found", r"my_method\.py:1: ModuleNotFoundError"),
        ("x = 1", "a plugin says what it brings"),
        ("LEARNERS = {}", "a plugin says what it brings"),
        ("LEARNERS = {'mine': dict}", "no subclass of"),
        (MINE.replace('"mine"', '"hinge"'), "'hinge' is taken"),
        (MINE.replace('"mine"', '"Mine"'), "lower case"),
        (MINE.replace('"mine"', "1"), "lower case"),
        (MINE + "\ndel Mine\n", "not defined at the top"),
    ],
)
def test_what_is_no_plugin_is_refused_and_leaves_nothing(plugin, text, said):
    before, modules = dict(LEARNERS), set(sys.modules)
    with pytest.raises(ConfigError, match=said):
        plugin(text)
    assert before == LEARNERS and not {name for name in set(sys.modules) - modules if name.startswith("lethe_plugin")}


def test_two_plugins_may_not_share_a_name(plugin):
    plugin(MINE)
    with pytest.raises(ConfigError, match="'mine' is taken"):
        plugin(MINE, "other.py")


def test_a_missing_file_and_a_wrong_value_are_one_line(refused):
    def said(plugins) -> str:
        Path("x.json").write_text(json.dumps(SIMPLE | {"plugins": plugins}))
        return refused("--config", "x.json")

    assert "my_method.py: no such file; paths start from the experiment's folder" in said(["my_method.py"])
    assert "'plugins'" in said("my_method.py") and "'plugins.0'" in said([3]) and "twice" in said(["a.py", "a.py"])
    assert not Path("logs").exists()


def test_runs_by_other_code_are_told_apart(refused):
    settings = SIMPLE | {"model_name": "mine", "plugins": ["my_method.py"]}
    Path("x.json").write_text(json.dumps(settings))
    Path("my_method.py").write_text(MINE)
    assert lethe("--config", "x.json") == 0
    folder = only_run()
    written = load_config(folder / "config.json").config
    assert config_hash(written) == config_hash(load_config(Path("x.json")).config)
    Path("my_method.py").write_text(MINE + "\n# changed\n")
    assert written == load_config(folder / "config.json").config
    assert "differing: plugins_digest" in refused("--config", "x.json", "--resume")
    assert "my_method.py changed since this config was written" in refused("--config", folder / "config.json")
    Path("other.py").write_text(MINE.replace('"mine"', '"theirs"'))
    upper = {"base": str(folder / "config.json"), "plugins": ["other.py"], "model_name": "theirs", "logs": "others"}
    Path("y.json").write_text(json.dumps(upper))
    assert lethe("--config", "y.json") == 0
    Path("my_method.py").unlink()
    check_unchanged(written)  # that a file is missing is said where it is loaded


def test_a_run_that_is_only_looked_at_executes_nothing(refused):
    folder = Path("logs/run")
    folder.mkdir(parents=True)
    (folder / "harm.py").write_text("open('harmed', 'w')")
    (folder / "summary.json").write_text("{}")
    (folder / "config.json").write_text(json.dumps(SIMPLE | {"model_name": "mine", "plugins": ["harm.py"]}))
    (folder / "summary.json").write_text("{}")
    assert (
        "'mine' comes from a plugin, and no command executes one" in refused("audit", folder)
        and not Path("harmed").exists()
    )
