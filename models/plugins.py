"""Learners from files of the user's own: `"plugins": ["my_method.py"]` in an experiment."""

import hashlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from models import LEARNERS
from models.learner import Learner
from utils.config import Config, digest_of
from utils.errors import ConfigError


def load_plugins(files: Sequence[str]) -> None:
    """Make the learners of some files known to the factory. **The files are executed**, each once in a process.

    A plugin holds `LEARNERS`, a dictionary from `model_name` to a subclass of `Learner`.

    Args:
        files: as `Config.plugins` has them.

    Raises:
        ConfigError: a file is missing, fails when executed, names no learner, or takes a name that is taken.
    """
    for file in map(Path, files):
        name = f"lethe_plugin_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
        if name not in sys.modules:
            sys.modules[name] = module = ModuleType(name)
            try:
                _execute(file, module)
                LEARNERS.update(_entries(file, module))
            except ConfigError:
                del sys.modules[name]
                raise


def check_unchanged(config: Config) -> None:
    """See that plugins still hold what they held when a config was written; a run's own `config.json` says so.

    Raises:
        ConfigError: they do not: its figures would stand beside those of another method.
    """
    there = all(Path(file).is_file() for file in config.plugins)  # of those that are not, `load_plugins` says so
    if config.plugins and there and config.plugins_digest != digest_of(config.plugins):
        raise ConfigError(
            f"key 'plugins': {', '.join(config.plugins)} changed since this config was written; run the experiment's "
            "own file, which makes another run of it"
        )


def _execute(file: Path, module: ModuleType) -> None:
    if not file.is_file():
        raise ConfigError(f"key 'plugins': {file}: no such file; paths start from the experiment's folder")
    module.__file__ = str(file)
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{file}{_line(error, file)}: {type(error).__name__}: {error}") from error


def _line(error: Exception, file: Path) -> str:
    """`:line` of the last place in the file that led to an error."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}" if error.filename == str(file) else ""
    places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f":{places[-1]}" if places else ""


def _entries(file: Path, module: ModuleType) -> dict[str, tuple[str, str, str]]:
    """The rows for the factory's table."""
    found = getattr(module, "LEARNERS", None)
    if not isinstance(found, dict) or not found:
        raise ConfigError(f'{file}: a plugin says what it brings: LEARNERS = {{"my_method": MyLearner}}')
    for name, method in found.items():
        if not (isinstance(method, type) and issubclass(method, Learner)):
            raise ConfigError(f"{file}: LEARNERS[{name!r}] is no subclass of models.learner.Learner")
        if not isinstance(name, str) or name != name.strip().lower() or name in LEARNERS:
            why = "is taken" if name in LEARNERS else "is no name in lower case"
            raise ConfigError(f"{file}: the name {name!r} {why}; choose another")
        if vars(module).get(method.__name__) is not method:
            raise ConfigError(f"{file}: {method.__name__} is not defined at the top of the file, where it is looked up")
    return {name: (module.__name__, method.__name__, _summary(method)) for name, method in found.items()}


def _summary(method: type) -> str:
    return (method.__doc__ or "a plugin's").strip().splitlines()[0]
