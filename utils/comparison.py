"""Many runs side by side: which answer the same task, their figures over seeds, who leads by more than luck."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

from utils.explain import shown
from utils.metrics import mean_std
from utils.plain import finite
from utils.requests import LearnRequest, Request, expand
from utils.schema import NO_EFFECT, Config, config_hash, resolved, stream_hash

PAIRS = 3  # a test over fewer common seeds says nothing
NAMED = 3  # as many classes of a request are named
# less of these is better; what was to be forgotten is measured by names that start with `FORGOTTEN`
LESS = {"forgetting", "ece", "wall_s", "peak_mb", "tunable_ratio", "acc_f", "acc_o"}
FORGOTTEN = ("forget_", "past_")


@dataclass(frozen=True)
class Run:
    """A run as its folder tells of it.

    Attributes:
        folder: where it is.
        config: of the one seed that it has.
        figures: its summary; None where it is not finished.
    """

    folder: Path
    config: Config
    figures: Mapping[str, float] | None

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.config.seed[0]

    def figure(self, metric: str) -> float | None:
        """A figure, None where it has none."""
        value = (self.figures or {}).get(metric)
        return float(value) if finite(value) else None


@dataclass(frozen=True)
class Row:
    """The seeds of one experiment.

    Attributes:
        labels: what tells it from the other rows of its table, by the keys of the config.
        runs: seed → run, ascending.
    """

    labels: Mapping[str, str]
    runs: Mapping[int, Run]

    def values(self, metric: str) -> dict[int, float]:
        """Seed → figure, of the runs that have it."""
        found = {seed: run.figure(metric) for seed, run in self.runs.items()}
        return {seed: value for seed, value in found.items() if value is not None}


@dataclass(frozen=True)
class Comparison:
    """Experiments on one task, and how far they have come.

    Attributes:
        task: what they were asked, in words.
        rows: sorted by their labels.
        twins: runs whose experiment and seed are those of another that counts.
        levels: at which something was to be forgotten; at level fine the parents are to stay.
    """

    task: str
    rows: Sequence[Row]
    twins: Sequence[Run]
    levels: frozenset[str] = frozenset({"fine"})

    @cached_property
    def seeds(self) -> list[int]:
        """Every seed that some experiment has."""
        return sorted({seed for row in self.rows for seed in row.runs})

    def metric(self) -> str:
        """What the task is judged by: Q-U where it asks to forget, else the average accuracy."""
        return "qu" if any(row.values("qu") for row in self.rows) else "accuracy_average"

    def ranked(self, metric: str) -> list[tuple[float, Row]]:
        """The rows that have a figure with its mean, the best first."""
        stays = metric.startswith("forget_coarse") and self.levels == {"fine"}
        known = [(row, list(row.values(metric).values())) for row in self.rows]
        means = [(mean_std(values)[0], row) for row, values in known if values]
        return sorted(means, key=lambda pair: pair[0], reverse=stays or not less_is_better(metric))

    def best(self, metric: str) -> list[Row]:
        """The rows whose mean is the best; several only where they are equal."""
        if metric.startswith("forget_coarse") and "hybrid" in self.levels:
            return []  # some parents are to go, others to stay
        means = self.ranked(metric)
        return [row for mean, row in means if mean == means[0][0]]

    def lacking(self, row: Row) -> list[int]:
        """The seeds that others have and a row has not."""
        return [seed for seed in self.seeds if seed not in row.runs]


def less_is_better(metric: str) -> bool:
    """Whether the smaller of two figures is the better one."""
    bare = metric.removeprefix("coarse_").removesuffix("_before")
    return bare in LESS or bare.startswith(FORGOTTEN)


def significance(one: Mapping[int, float], other: Mapping[int, float]) -> float | None:
    """The two-sided p of a paired t-test over the common seeds; None below three, or where all pairs differ alike.

    Args:
        one: seed → figure.
        other: the same of another experiment.
    """
    from scipy.stats import ttest_rel  # slow to import, and most tables have no seeds enough

    common = sorted(one.keys() & other.keys())
    if len(common) < PAIRS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # differences without spread: the answer is nan or a false 0
        found = ttest_rel([one[seed] for seed in common], [other[seed] for seed in common])
    spread = {round(one[seed] - other[seed], 9) for seed in common}
    return float(found.pvalue) if len(spread) > 1 else None


def compare(runs: Iterable[Run], keys: Sequence[str]) -> list[Comparison]:
    """Group runs by task, and within a task by experiment; nothing but seeds is ever averaged.

    Args:
        runs: in the order in which the first of two twins counts.
        keys: of the config, which name the rows; keys in which rows of the same name differ are added.

    Returns:
        A comparison a task, sorted by its words.
    """
    tasks: dict[tuple, list[Run]] = {}
    for run in runs:
        tasks.setdefault(task(run.config), []).append(run)
    found = [(asked, _compared(some, keys)) for asked, some in tasks.items()]
    return sorted(_told_apart(found), key=lambda item: item.task)


def _told_apart(found: Sequence[tuple[tuple, Comparison]]) -> list[Comparison]:
    """Tasks that the same words describe get a part of their hash."""
    times = Counter(item.task for _, item in found)
    return [
        replace(item, task=f"{item.task} (task {_digest(asked)})") if times[item.task] > 1 else item
        for asked, item in found
    ]


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:4]


def _compared(runs: Sequence[Run], keys: Sequence[str]) -> Comparison:
    experiments: dict[tuple, dict[int, Run]] = {}
    twins = []
    for run in sorted(runs, key=lambda run: run.figures is None):  # of two the finished one counts
        # `repeat` or not, a stream is what it asks
        asked = (stream_hash(run.config), config_hash(run.config.model_copy(update={"sessions": None})))
        same = experiments.setdefault((*_labels(run.config, keys).items(), *asked), {})
        if same.setdefault(run.seed, run) is not run:
            twins.append(run)
    found = [dict(sorted(same.items())) for same in experiments.values()]
    configs = [next(iter(same.values())).config for same in found]
    columns = [*keys, *_differing(configs, keys)]
    rows = [Row(_labels(config, columns), same) for config, same in zip(configs, found, strict=True)]
    rows = sorted(rows, key=lambda row: tuple(row.labels.values()))
    return Comparison(_words(configs[0]), rows, twins, _levels(configs[0]))


def _levels(config: Config) -> frozenset[str]:
    """One of a stream that forgets at several is `hybrid`, too."""
    found = {item.level for item in expand(config.sessions or ()) if not isinstance(item, LearnRequest)}
    return frozenset(found or {"fine"}) if len(found) < 2 else frozenset({"hybrid"})


def _differing(configs: Sequence[Config], keys: Sequence[str]) -> list[str]:
    """The keys that tell rows of the same name apart, in the order of the schema."""
    alike: dict[tuple, list[Config]] = {}
    for config in configs:
        alike.setdefault(tuple(_labels(config, keys).values()), []).append(config)
    open_keys = [key for key in Config.model_fields if key not in {*NO_EFFECT, *keys}]
    groups = [some for some in alike.values() if len(some) > 1]
    return [key for key in open_keys if any(len({_label(config, key) for config in some}) > 1 for some in groups)]


def _labels(config: Config, keys: Sequence[str]) -> dict[str, str]:
    return {key: _label(config, key) for key in keys}


def _label(config: Config, key: str) -> str:
    """A key's value in few words; a stream's is the name of its folder in the logs."""
    if key == "sessions":
        return stream_hash(config)
    value = resolved(config)[key]
    value = value[0] if key == "seed" else value
    text = value if isinstance(value, str) else shown(value)
    return f"{text} #{_digest(value)}" if text.endswith("…") and text != value else text  # cut ones may begin alike


def task(config: Config) -> tuple:
    """What has to be the same for figures to be comparable: the data and what is asked, not what is shown for it."""
    counts = ("init_cls", "increment", "num_tasks", "num_of_first_cls", "per_forget_cls", "open_cls_num")
    settings = ("dataset", "exclude", "known", "validation", "shuffle", *counts)
    asked = [_asked(request) for request in expand(config.sessions or ())]
    return (*(getattr(config, key) for key in settings), *asked)


def _asked(request: Request) -> tuple:
    learns = isinstance(request, LearnRequest)
    return (request.classes,) if learns else (request.classes, request.level, request.take)


def _words(config: Config) -> str:
    """The task for people."""
    if config.num_tasks is not None:
        hidden = f", {config.open_cls_num} of the rest without images" if config.open_cls_num else ""
        stream = f"{config.num_tasks} requests to forget {config.per_forget_cls} classes{hidden}"
    elif config.sessions is None:
        stream = (
            "all at once" if config.increment is None else f"{config.init_cls} classes, then {config.increment} each"
        )
    else:
        words = groupby(_request_words(request) for request in expand(config.sessions))
        counted = [(said, len(list(some))) for said, some in words]
        stream = ", ".join(said if times == 1 else f"{times} × {said}" for said, times in counted)
    left_out = f", without {_class_words(config.exclude)}" if config.exclude else ""
    held_out = f", tested on {config.validation:g} of the training images" if config.validation else ""
    return f"{config.dataset}: {stream}{'' if config.shuffle else ', in the own order of the set'}{left_out}{held_out}"


def _request_words(request: Request) -> str:
    verb = "learn" if isinstance(request, LearnRequest) else "forget"
    level = "" if verb == "learn" or request.level == "fine" else f" ({request.level})"
    return f"{verb} {_class_words(request.classes)}{level}"


def _class_words(classes: object) -> str:
    if hasattr(classes, "fine"):
        return " and ".join(_class_words(part) for part in (classes.fine, classes.coarse) if part)
    if isinstance(classes, tuple):
        return ", ".join(classes[:NAMED]) + (f" … ({len(classes)})" if len(classes) > NAMED else "")
    return f"{classes} class" + "es" * (classes != 1)
