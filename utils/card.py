"""The model card beside an exported model: what it was taught and asked to forget, how well, how to load it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.formats import Grid, markdown
from utils.plain import finite, one_line
from utils.results import SCORES, SessionResult
from utils.schema import Config
from utils.tables import figure_text, title_of

MEASURED = (
    "On test images, in percent: at the end of the run or, where there are two, before and after its last request."
)
SHOWN = ("accuracy_last", "accuracy_average", "coarse_accuracy_last")
NO_AUDIT = (
    "None was made. Accuracy alone does not tell a concept that is erased from one that is only denied; "
    "`python main.py audit RUN_DIR` does, for runs that only forget."
)
ADAPTER_ALONE = (
    "This folder holds a change to the original weights, not a model: whoever loads those without it has the model "
    "from before the requests."
)


def model_card(
    config: Config,
    rows: Sequence[SessionResult],
    summary: Mapping[str, float],
    *,
    audits: str,
    inputs: str,
    loading: str,
    notes: Sequence[str] = (),
) -> str:
    """The card in markdown.

    Args:
        config: of the run.
        rows: its sessions.
        summary: its flat figures.
        audits: the table of its audits; empty where there is none.
        inputs: how images are prepared, one sentence.
        loading: Python that loads the model.
        notes: what else a user must know.
    """
    source = Path(config.weights).name if config.weights else "the backbone's own weights"
    made = (
        f"`{config.convnet_type}` ({source}), changed by the learner `{config.model_name}` on the data set "
        f"`{config.dataset}`, seed {config.seed[0]}."
    )
    parts = [f"# {config.convnet_type} after {len(rows)} session{'s' * (len(rows) != 1)} of {config.model_name}", made]
    parts += ["## What it was asked", "\n".join(_asked(row) for row in rows)]
    parts += ["## How well it did", MEASURED, _figures(summary, rows)]
    parts += ["## Audits", _demoted(audits) if audits else NO_AUDIT]
    parts += ["## Use", inputs, f"```python\n{loading}```"]
    parts += ["## Good to know", "\n".join(f"- {note}" for note in [*notes, *_always(rows)])]
    return "\n\n".join([*parts, "## Licence", _licence(config)]) + "\n"


def _asked(row: SessionResult) -> str:
    level = f" ({row.request.level})" if row.request else ""
    return f"- session {row.index}: {row.kind}{level} {one_line(', '.join(row.classes))}"


def _figures(summary: Mapping[str, float], rows: Sequence[SessionResult]) -> str:
    learnt = sum(row.kind == "learn" for row in rows)
    shown = {*SHOWN, *(["forgetting"] if learnt > 1 else [])}  # by learning; a request's is measured otherwise
    names = [name for name in summary if f"{name}_before" in summary or name in shown]
    cells = [[title_of(name), _before(name, summary), figure_text(name, summary[name])] for name in names]
    return markdown(Grid(["figure", "before", "after"], [row for row in cells if row[2] != "–"]))


def _before(name: str, summary: Mapping[str, float]) -> str:
    value = None if name in SCORES else summary.get(f"{name}_before")
    return figure_text(name, value) if finite(value) else ""


def _demoted(audits: str) -> str:
    """Without the heading, which the card has."""
    return "\n".join(line for line in audits.strip().split("\n") if not line.startswith("# ")).strip()


def _always(rows: Sequence[SessionResult]) -> list[str]:
    forgets = [row for row in rows if row.kind == "forget"]
    kept = "Names that were to be forgotten stay in the classifier as candidates, as they were when it was measured."
    return [kept] if forgets else []


def _licence(config: Config) -> str:
    return (
        f"The weights are derived from `{config.convnet_type}` and were trained on `{config.dataset}`: the licences of "
        "both apply to them, and this card grants none. Whoever publishes the model names its licence here."
    )
