"""What the jobs of `main.py --launcher` get: the options of `--launcher-set`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from utils.errors import ConfigError, nearest
from utils.explain import explain

OPTION = "--launcher-set"

Count = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Above0 = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True, min_length=1)]


class Options(BaseModel):
    """What a job gets, complete and checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpus: Count | None = Field(None, description="GPUs of one run, a process on each; else one where there is one")
    parallel: Positive | None = Field(
        None, description="runs at a time; else as many as this machine's GPUs suffice for, or as Slurm lets run"
    )
    hours: Above0 | None = Field(
        None, description="after which a job is cut, queued again and gone on with; else never here, 24 with Slurm"
    )
    requeues: Count = Field(10, description="how often that may happen to a job; pre-emptions do not count")
    partition: Text | None = Field(None, description="Slurm's; else its default")
    account: Text | None = Field(None, description="Slurm's; else yours")
    cpus: Positive = Field(4, description="cores of one process, with Slurm")
    memory: Above0 | None = Field(None, description="GB of one run, with Slurm; else the partition's default")


def read_options(settings: Sequence[str]) -> Options:
    """The options of a command line.

    Args:
        settings: `option=value` each; of one that is given twice the last counts.

    Raises:
        ConfigError: no option has such a name, or the value is of the wrong type or out of range.
    """
    values = dict(_option(text) for text in settings)
    try:
        return Options.model_validate(values)
    except ValidationError as error:
        _, problem = explain(error, values)
        raise ConfigError(f"{OPTION} {problem}") from error


def _option(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or name not in Options.model_fields:
        raise ConfigError(f"{OPTION} {text!r}: expected option=value{nearest(name, Options.model_fields)}")
    if Options.model_fields[name].annotation == Text | None:  # a partition may be called 7
        return name, value
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
