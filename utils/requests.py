"""The session grammar: what the `sessions` key of an experiment may say, and the requests that a run makes of it.

A session is `{"learn": n}`, `{"learn": [names]}`, `{"forget": n}`, `{"forget": [names]}` or
`{"forget": {"classes": …, "level": …, "take": …, "retain": …, "exemplars": …, "missing": …}}`, each with an optional
`"repeat": n`.
Instead of a list of names, the text `"file.json#set"` (an object of lists) or `"file.txt"` (one name a line) names a
set that lies in a file beside the experiment.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic.functional_validators import AfterValidator

from utils.errors import ConfigError, nearest

if TYPE_CHECKING:
    from utils.schema import Config

STRICT = ConfigDict(frozen=True, extra="forbid")


def distinct(values: tuple) -> tuple:
    """The values as they are.

    Raises:
        ValueError: one of them stands there twice.
    """
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{twice[0]!r} is listed twice")
    return values


Count = Annotated[int, Field(strict=True, ge=1)]
Name = Annotated[str, Field(min_length=1)]
Repeat = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(distinct)]


class HybridClasses(BaseModel):
    """Concepts to forget, each at its own level; a count is taken in class order."""

    model_config = STRICT
    fine: Count | Names | None = None
    coarse: Count | Names | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> HybridClasses:
        if self.fine is None and self.coarse is None:
            raise ValueError('a hybrid request names classes under "fine", "coarse" or both')
        return self


class Few(BaseModel):
    """Retained data: so many images of each class."""

    model_config = STRICT
    few: Count


class Ratio(BaseModel):
    """This share of each class's images."""

    model_config = STRICT
    ratio: Annotated[float, Field(strict=True, gt=0, le=1)]


class LearnRequest(BaseModel):
    """Learn so many further classes (in class order) or these.

    Attributes:
        classes: a count, or class names.
    """

    model_config = STRICT
    classes: Count | Names


class ForgetRequest(BaseModel):
    """Forget classes at a level of the hierarchy.

    Attributes:
        classes: a count (in class order), names, or for a hybrid request names per level.
        level: which labels must go: the fine ones, a parent with its children, or per concept (`hybrid`).
        take: from which end of the class order a count is taken.
        retain: which images of the other classes the unlearner may see.
        exemplars: which forget images per class it may see (None: all), or a folder of images from elsewhere.
        missing: how many of the classes to keep, the first in class order, it may see no image of all the same.
    """

    model_config = STRICT
    classes: Count | Names | HybridClasses
    level: Literal["fine", "coarse", "hybrid"] = "fine"
    take: Literal["first", "last"] = "first"
    retain: Literal["none", "all"] | Few | Ratio = "none"
    exemplars: Count | Ratio | Name | None = None
    missing: Annotated[int, Field(strict=True, ge=0)] = 0

    @model_validator(mode="after")
    def _level_fits(self) -> ForgetRequest:
        if (self.level == "hybrid") != isinstance(self.classes, HybridClasses):
            raise ValueError('level "hybrid" goes with {"fine": […], "coarse": […]} as classes, and only with it')
        return self

    @model_validator(mode="after")
    def _missing_beside_retained(self) -> ForgetRequest:
        if self.missing and self.retain == "none":
            raise ValueError('"missing" goes with retained images; without them every class kept is missing')
        return self


Request = LearnRequest | ForgetRequest


def _lifted(value: Any) -> Any:
    """The short forms of a forget request, written out."""
    if isinstance(value, int | list | tuple) and not isinstance(value, bool):
        return {"classes": value}
    if not isinstance(value, dict):
        return value
    if value and set(value) <= {"fine", "coarse"}:
        value = {"classes": value}
    return {"level": "hybrid", **value} if isinstance(value.get("classes"), dict) else value


class Learn(BaseModel):
    """One entry of `sessions` that teaches."""

    model_config = STRICT
    learn: Count | Names
    repeat: Repeat = 1

    @model_validator(mode="after")
    def _repeatable(self) -> Learn:
        if self.repeat > 1 and not isinstance(self.learn, int):
            raise ValueError('"repeat" goes with a count; named classes can be learned only once')
        return self

    def request(self) -> LearnRequest:
        """What each repetition asks for."""
        return LearnRequest(classes=self.learn)


class Forget(BaseModel):
    """One entry of `sessions` that takes away."""

    model_config = STRICT
    forget: Annotated[ForgetRequest, BeforeValidator(_lifted)]
    repeat: Repeat = 1

    @model_validator(mode="after")
    def _repeatable(self) -> Forget:
        if self.repeat > 1 and not isinstance(self.forget.classes, int):
            raise ValueError('"repeat" goes with a count; named classes can be forgotten only once')
        return self

    def request(self) -> ForgetRequest:
        """What each repetition asks for."""
        return self.forget


def _kind(entry: Any) -> str | None:
    if isinstance(entry, Learn | Forget):
        return type(entry).__name__.lower()
    kinds = [kind for kind in ("learn", "forget") if isinstance(entry, dict) and kind in entry]
    return kinds[0] if len(kinds) == 1 else None


Entry = Annotated[Annotated[Learn, Tag("learn")] | Annotated[Forget, Tag("forget")], Discriminator(_kind)]


def expand(sessions: tuple[Learn | Forget, ...]) -> list[Request]:
    """The requests of a stream in order, every `repeat` written out."""
    return [entry.request() for entry in sessions for _ in range(entry.repeat)]


def expand_requests(config: Config, total: int) -> list[Request]:
    """One request for each session of a run.

    `init_cls` and `increment` cut the class order as PyCIL does: `init_cls` classes, then `increment` at a time, and
    what is left over last.

    Args:
        config: with `sessions`, with `init_cls` and `increment`, or with `num_tasks` and its kin.
        total: how many classes the data set has.

    Raises:
        ConfigError: more classes are asked for than exist, or classes are left that no session would learn.
    """
    if config.num_tasks is not None:
        return _tasks(config, total)
    if config.sessions is None:
        return [LearnRequest(classes=count) for count in _class_increments(config, total)]
    requests = expand(config.sessions)
    _check_counts(config.dataset, requests, total)
    return requests


def _tasks(config: Config, total: int) -> list[Request]:
    """GS-LoRA's stream (Zhao et al., CVPR 2024, section 5): classes go from the end, a few images of all are shown."""
    first = config.per_forget_cls if config.num_of_first_cls is None else total - config.num_of_first_cls
    taken = first + config.per_forget_cls * (config.num_tasks - 1)
    if first < 1 or taken >= total:
        raise ConfigError(
            f"'num_tasks': {config.num_tasks} requests would forget {taken} of the {total} classes of "
            f"{config.dataset!r}, the first of them {first}; each must take some, and some must stay"
        )
    shown = {"exemplars": config.few_shot_num, "retain": "all"}
    if config.few_shot_num:
        shown["retain"] = Few(few=config.few_shot_num)
    elif config.data_ratio:
        shown = dict.fromkeys(shown, Ratio(ratio=config.data_ratio))
    counts = [first, *[config.per_forget_cls] * (config.num_tasks - 1)]
    return [ForgetRequest(classes=count, take="last", missing=config.open_cls_num, **shown) for count in counts]


def _class_increments(config: Config, total: int) -> list[int]:
    first = total if config.init_cls == "all" else config.init_cls
    if first is None or first > total:
        raise ConfigError(f"'init_cls' is {first}, but {config.dataset!r} has {total} classes; lower it")
    left = total - first
    if left and config.increment is None:
        raise ConfigError(f"'increment' is missing: 'init_cls' = {first} leaves {left} classes of {config.dataset!r}")
    step = config.increment or 1
    return [first, *[step] * (left // step), *([left % step] if left % step else [])]


def _check_counts(dataset: str, requests: list[Request], total: int) -> None:
    learned = 0
    for index, request in enumerate(requests):
        asked = request.classes if isinstance(request.classes, int) else 0
        learned += asked if isinstance(request, LearnRequest) else 0
        if max(asked, learned) > total:
            verb = "learn" if isinstance(request, LearnRequest) else "forget"
            raise ConfigError(
                f"'sessions': session {index} asks to {verb} {asked} classes, {max(asked, learned)} in all, "
                f"but {dataset!r} has {total}; ask for fewer"
            )


def with_named_sets(sessions: Any, folder: Path, place: str) -> Any:
    """`sessions` as read from JSON, each text that names a set in a file replaced by the names that stand there.

    Args:
        sessions: the raw value of the key.
        folder: what relative file names start from.
        place: where the key stands, for error messages.

    Raises:
        ConfigError: there is no such file or set, or it does not hold names.
    """
    if not isinstance(sessions, list):
        return sessions
    try:
        return [_with_names(entry, folder) for entry in sessions]
    except LookupError as error:
        raise ConfigError(f"{place}: 'sessions': {error.args[0]}") from error


def _with_names(entry: Any, folder: Path) -> Any:
    if not isinstance(entry, dict):
        return entry
    places = ("learn", "forget", "classes", "fine", "coarse")
    return {key: _looked_up(value, folder) if key in places else value for key, value in entry.items()}


def _looked_up(value: Any, folder: Path) -> Any:
    return _named_set(value, folder) if isinstance(value, str) else _with_names(value, folder)


def _named_set(reference: str, folder: Path) -> list[str]:
    file_name, _, set_name = reference.partition("#")
    found = _read_names(folder / file_name, reference)
    if set_name or isinstance(found, dict):
        sets = found if isinstance(found, dict) else {}
        if set_name not in sets:
            raise LookupError(f"{str(folder / file_name)!r} holds no set {set_name!r}{nearest(set_name, sets)}")
        found = sets[set_name]
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise LookupError(f"{reference!r} is not a list of class names")
    return found


def _read_names(file: Path, reference: str) -> Any:
    try:
        text = file.read_text(encoding="utf-8-sig")
        return (
            json.loads(text) if file.suffix == ".json" else [line.strip() for line in text.splitlines() if line.strip()]
        )
    except (OSError, ValueError, RecursionError) as error:
        listed = json.dumps([reference], ensure_ascii=False)
        raise LookupError(
            f"{reference!r} would be a file of class names, but {str(file)!r} is none; write a single class as {listed}"
        ) from error
