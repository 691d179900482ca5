"""`exps/README.md`: what every experiment is, what it takes and what is to be expected, written from its `about`.

The first line of an `about` says what the experiment is, lines that begin with `python main.py` are its commands, and
a last line "TIME; SCORE" says what was measured or published.
"""

from collections.abc import Sequence
from pathlib import Path

from utils.atomic import write_text
from utils.config import load_config

HEAD = """# The experiments

Written from the files themselves by `make pages`; do not edit. With `--smoke` each is a dry run of seconds. Accuracies
are percent, ± the sample standard deviation over the experiment's seeds, brackets a 95 % interval. A score's source is
[docs/results.md](../docs/results.md), the experiment itself (measured when it was written), or the paper (*published*:
under its conditions, see [docs/methods.md](../docs/methods.md)). "Not measured" means just that: it loads and passes
its dry run, and its score here is not known.

| experiment | what | commands | run time | score | source |
| --- | --- | --- | --- | --- | --- |
"""
UNKNOWN = "not measured"
COMMAND = "python main.py "


def experiments_page(files: Sequence[Path]) -> str:
    """The page, in markdown.

    Args:
        files: the experiments.

    Raises:
        ConfigError: one cannot be read.
    """
    return HEAD + "".join(f"| {' | '.join(_cells(file))} |\n" for file in sorted(files))


def write_experiments_page(path: Path, files: Sequence[Path]) -> None:
    """Write the page of some experiments."""
    write_text(path, experiments_page(files))


def expectation(about: Sequence[str]) -> tuple[str, str, str]:
    """Run time, score and where that is from; "not measured" where it is not known."""
    time, _, score = about[-1].partition("; ")
    if len(about) == 1 or not score or about[-1].startswith(COMMAND):
        return UNKNOWN, UNKNOWN, "–"
    source = "published" if "published" in score else "[results](../docs/results.md)"
    if "published" not in score and "docs/results.md" not in score:
        source = "–" if UNKNOWN in score else "the experiment"
    time = time.removeprefix("time ")
    return time, score.replace(" (docs/results.md)", "").removeprefix("published: ").removeprefix("published "), source


def _cells(file: Path) -> list[str]:
    about = load_config(file).config.about
    lines = (about,) if isinstance(about, str) else about
    time, score, source = expectation(lines)
    steps = lines[1:] if (time, score) == (UNKNOWN, UNKNOWN) else lines[1:-1]
    cells = [f"[{file.stem}]({file.name})", lines[0], "<br>".join(map(_step, steps)), time, score, source]
    return [cell.replace("|", "\\|") for cell in cells]


def _step(line: str) -> str:
    return f"`{line}`" if line.startswith(COMMAND) else line
