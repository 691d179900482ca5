"""What audits found, as pages: a row a figure, a column a model."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from audits.relearning import STEPS
from audits.runs import CONTROL, ORACLE, ORIGINAL, AuditedRun
from audits.verdict import VERDICTS, WORST, Figures
from utils.comparison import Comparison, Row, Run, compare
from utils.formats import Best, Grid, markdown
from utils.metrics import mean_std
from utils.plain import one_line

LATE, BELOW = f"> {STEPS} steps", "↓"
SIGNS = {
    LATE: "not within as many steps, the most that were taken",
    BELOW: f"below {WORST}: the members stand out by being known worst, which gives them away like being known best",
}
SPREAD = "Mean ± sample standard deviation over seeds; a model that is the same for all of them stands alone."
Found = tuple[Figures, str]  # of one model: the figures, and the verdict, empty where there is none


def pages(found: Sequence[AuditedRun]) -> str:
    """Runs side by side: a table for those that share their references, a column an experiment, over its seeds."""
    groups: dict[tuple, list[AuditedRun]] = {}
    for item in found:
        groups.setdefault(item.setting, []).append(item)
    return "\n".join(page(some[0]) if len(some) == 1 else _together(some) for some in groups.values())


def page(found: AuditedRun) -> str:
    """The page of one run."""
    config = found.config
    title = f"Audits of {config.model_name} on {config.dataset}, {config.convnet_type}, seed {config.seed[0]}"
    return _page(title, [], {name: [_of(found, name)] for name in found.figures})


def _together(found: Sequence[AuditedRun]) -> str:
    """One table, the learners in the order in which they were given."""
    by_folder = {item.folder: item for item in found}
    compared = compare([Run(item.folder, item.config, {}) for item in found], ["model_name"])[0]
    learners = {_label(row): [by_folder[run.folder] for run in row.runs.values()] for row in _in_order(compared, found)}
    counted = [item for items in learners.values() for item in items]
    columns = {ORIGINAL: _shared(counted, ORIGINAL)}
    columns |= {label: [_of(item, item.config.model_name) for item in items] for label, items in learners.items()}
    columns |= {name: _shared(counted, name) for name in (CONTROL, ORACLE) if name not in columns}
    seeds = [f"- {label}: seeds {', '.join(str(x.config.seed[0]) for x in items)}" for label, items in learners.items()]
    twins = [f"- not counted, the same experiment and seed as another run: {run.folder}" for run in compared.twins]
    title = f"Audits of {', '.join(learners)} on {found[0].config.convnet_type}, {compared.task}"
    return _page(title, [SPREAD, "\n".join([*seeds, *twins])], {name: some for name, some in columns.items() if some})


def _label(row: Row) -> str:
    """The learner, and what tells it from another of the name."""
    name, *others = row.labels.items()
    return ", ".join([name[1], *(f"{key} {value}" for key, value in others)])


def _in_order(compared: Comparison, found: Sequence[AuditedRun]) -> list[Row]:
    place = {item.folder: number for number, item in enumerate(found)}
    return sorted(compared.rows, key=lambda row: min(place[run.folder] for run in row.runs.values()))


def _of(item: AuditedRun, name: str) -> Found:
    return item.figures[name], item.verdicts.get(name, "")


def _shared(items: Sequence[AuditedRun], name: str) -> list[Found]:
    """A reference of several runs, each time that it was looked at."""
    return list({id(item.figures[name]): _of(item, name) for item in items if name in item.figures}.values())


def _page(title: str, remarks: Sequence[str], columns: Mapping[str, Sequence[Found]]) -> str:
    names = dict.fromkeys(name for column in columns.values() for figures, _ in column for name in figures)
    rows = [[name, *(_cell(name, column) for column in columns.values())] for name in names]
    judged = any(word for column in columns.values() for _, word in column)
    rows += [[Best("verdict"), *map(_words, columns.values())]] if judged else []
    cells = "".join(cell for row in rows for cell in row[1:])
    notes = [f"- *{sign}*: {meaning}" for sign, meaning in SIGNS.items() if sign in cells]
    notes += [f"- *{word}*: {meaning}" for word, meaning in VERDICTS.items()] if judged else []
    parts = [f"# {one_line(title)}", *remarks, markdown(Grid(["", *columns], rows)), "\n".join(notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cell(name: str, column: Sequence[Found]) -> str:
    """One value, or the mean over several; "–" where it cannot be known, nothing where it was not asked for."""
    values = [figures[name] for figures, _ in column if name in figures]
    known = [value for value in values if not math.isnan(value)]
    if late := sum(map(math.isinf, known)):
        return LATE if late == len(known) else f"{LATE} ({late} of {len(known)})"
    if not known:
        return "–" if values else ""
    share = name.startswith(("cka", "neighbours", "tug")) or name.endswith("_auc")
    texts = [f"{value:.{2 if share else 1}f}" for value in mean_std(known)]
    text = " ± ".join(texts) if len(known) > 1 else texts[0]
    return f"{text} {BELOW}" if name.endswith("_auc") and sum(known) / len(known) < WORST else text


def _words(column: Sequence[Found]) -> str:
    """The verdict, or how often each was given."""
    words = Counter(word for _, word in column)
    return next(iter(words)) if len(words) == 1 else "; ".join(f"{word} ({times})" for word, times in words.items())
