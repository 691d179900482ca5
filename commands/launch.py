"""`main.py --launcher`: each run of some experiments a job, on this machine or through Slurm, by submitit."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from audits.runs import has_audits
from commands import audit
from models.plugins import check_unchanged, load_plugins
from trainer import run_at, write_seeds
from utils.config import Config, Loaded, config_hash, log_stem
from utils.errors import ConfigError, LetheError, told
from utils.launch_options import OPTION, Options, read_options
from utils.logs import log_to_console
from utils.place import Place, find_place

if TYPE_CHECKING:
    import submitit

ROOT = Path(__file__).resolve().parents[1]
LOCAL = "local"
NEVER, SLURM_HOURS = 24.0 * 365, 24.0  # after so many hours a job is cut
LOOK = 1.0  # seconds between two looks at the jobs; submitit asks Slurm itself more rarely
log = logging.getLogger("lethe")


@dataclass(frozen=True)
class Job:
    """One run, as it is sent away. Queued again after a cut, it goes on from the run's last checkpoint.

    Attributes:
        loaded: the experiment, with one seed.
        place: where the run's files go.
        strict: whether a device that is not there is an error.
        words: the command line that the run is of, for its tables.
        gpus: which of this machine's it sees, as CUDA_VISIBLE_DEVICES has them; None: those that Slurm gives it.
    """

    loaded: Loaded
    place: Place
    strict: bool
    words: tuple[str, ...] = ()
    gpus: str | None = None

    def __str__(self) -> str:
        return f"{self.loaded.path}, seed {self.loaded.config.seed[0]}"

    def __call__(self) -> str | None:
        """Carry the run out; returns why that was not possible, or None where it was."""
        log_to_console()
        sys.argv[:] = self.words
        if self.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus
        _meet()
        try:
            check_unchanged(self.loaded.config)
            load_plugins(self.loaded.config.plugins)
            run_at(self.loaded, self.place, strict_device=self.strict)
            audit.follow(self.loaded.config, strict_device=self.strict)
        except (LetheError, OSError) as error:
            log.error("%s", told(error))
            return told(error)
        except Exception as error:  # a fault of one run must not hide what became of the others
            log.exception("the run failed")
            return f"{type(error).__name__}: {error}"
        return None

    @property
    def done(self) -> bool:
        """Whether nothing is left to do: the run is finished, and audited where it is to be."""
        return self.place.finished() is not None and has_audits(self.place.folder, self.loaded.config.audit)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit queues when the job is cut: the same again, for the run keeps its own checkpoints."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def launch(experiments: Sequence[Loaded], cluster: str, settings: Sequence[str], *, strict_device: bool = False) -> int:
    """Have all runs carried out that are not finished, wait for them, and say which failed.

    Args:
        experiments: one job for each of their seeds.
        cluster: `local` or `slurm`.
        settings: `option=value`, see `Options`.
        strict_device: whether a device that is not there is an error.

    Returns:
        The exit code: 1 where a run failed.

    Raises:
        ConfigError: an option is not as it must be, submitit is not installed, there is no Slurm, or it refuses.
        CheckpointError: where a run would stand, there is one of another version.
    """
    options = read_options(settings)
    jobs = _jobs(experiments, strict_device)
    waiting = [job for job in jobs if not job.done]
    log.info("%d runs, %d of them finished before", len(jobs), len(jobs) - len(waiting))
    failures = _followed(waiting, cluster, options, Path(experiments[0].config.logs)) if waiting else []
    _write_tables(experiments, jobs)
    for line in failures:
        log.error("failed: %s", line)
    log.info("%d of %d runs are finished", len(jobs) - len(failures), len(jobs))
    return 1 if failures else 0


def _jobs(experiments: Sequence[Loaded], strict: bool) -> list[Job]:
    """A job for every seed; what would be the same run in the same place runs once."""
    jobs: dict[tuple[Path, str], Job] = {}
    for loaded in experiments:
        for seed in loaded.config.seed:
            key = _key(loaded.config, seed)
            if key in jobs:
                log.info("%s, seed %d: the same run as %s, sent once", loaded.path, seed, jobs[key].loaded.path)
                continue
            taken = [job.place.folder for job in jobs.values()]
            place = find_place(loaded.config, seed, False, taken)
            jobs[key] = Job(_single(loaded, seed), place, strict, tuple(sys.argv))
    return list(jobs.values())


def _key(config: Config, seed: int) -> tuple[Path, str]:
    """What makes a run another one: where its log goes, and what is computed."""
    return Path(config.logs) / log_stem(config, seed), config_hash(config)


def _single(loaded: Loaded, seed: int) -> Loaded:
    """One seed, on the GPUs that the job is given, whichever number they have elsewhere."""
    device = loaded.config.device.partition(":")[0]
    return loaded.with_config(loaded.config.changed(seed=seed, device=device))


def _followed(jobs: Sequence[Job], cluster: str, options: Options, logs: Path) -> list[str]:
    """Send jobs away and wait for them; a line for each that failed."""
    rooms = _gpu_sets(options) if cluster == LOCAL else [None] * len(jobs)
    executor, failures = _executor(cluster, options, len(jobs), logs), []
    log.info("logs of the jobs: %s", executor.folder)
    ended = tqdm(_ended(jobs, rooms, executor), total=len(jobs), desc="runs", leave=False, disable=None)
    for number, (job, handle) in enumerate(ended, 1):
        why = _failure(handle)
        failures += [f"{job}: {why}; its log: {handle.paths.stderr}"] if why else []
        log.info("%s: %s (%d of %d)", job, "failed" if why else "finished", number, len(jobs))
    return failures


def _gpu_sets(options: Options) -> list[str]:
    """The GPUs of every run that may be at work on this machine at a time, as CUDA_VISIBLE_DEVICES has them.

    Raises:
        ConfigError: a run is to have more of them than there are.
    """
    count, seen = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    there = seen.split(",") if seen else [str(number) for number in range(count)]
    each = min(1, count) if options.gpus is None else options.gpus
    if count and each > count:
        raise ConfigError(f"{OPTION} gpus={each}: this machine has {count}")
    sets = [",".join(there[i : i + each]) for i in range(0, count - each + 1, each)] if count and each else [""]
    return [sets[i % len(sets)] for i in range(options.parallel or len(sets))]


def _executor(cluster: str, options: Options, runs: int, logs: Path) -> submitit.Executor:
    """What sends so many runs away; the logs of the jobs go to a folder of this launch's own below `logs`."""
    submitit = _submitit()
    if cluster != LOCAL and shutil.which("srun") is None:
        raise ConfigError("--launcher slurm: no Slurm is here ('srun' is not found); use --launcher local")
    (logs / "jobs").mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix=f"{datetime.now():%Y-%m-%d_%H-%M-%S}_", dir=logs / "jobs")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # a job may start anywhere
    python = shlex.join(["env", f"PYTHONPATH={path}", sys.executable])
    own = {f"{cluster}_python": python, f"{cluster}_max_num_timeout": options.requeues}
    executor = submitit.AutoExecutor(folder, cluster, **own)
    executor.update_parameters(**_parameters(cluster, options, runs))
    return executor


def _submitit() -> ModuleType:
    try:
        import submitit
    except ImportError as error:
        raise ConfigError("--launcher needs the package 'submitit'; pip install submitit") from error
    return submitit


def _parameters(cluster: str, options: Options, runs: int) -> dict[str, object]:
    """The same in submitit's words; what is None it leaves out, and the local one what is Slurm's."""
    hours = options.hours or (NEVER if cluster == LOCAL else SLURM_HOURS)
    gpus = 1 if options.gpus is None else options.gpus
    return {
        "name": "lethe",
        "timeout_min": max(1, round(60 * hours)),
        "tasks_per_node": max(1, gpus),
        "gpus_per_node": gpus or None,
        "cpus_per_task": options.cpus,
        "mem_gb": options.memory,
        "slurm_partition": options.partition,
        "slurm_account": options.account,
        "slurm_array_parallelism": options.parallel or runs,
        "slurm_srun_args": [f"--cpus-per-task={options.cpus}"],  # srun does not take it from sbatch since 22.05
    }


def _ended(
    jobs: Sequence[Job], rooms: Sequence[str | None], executor: submitit.Executor
) -> Iterator[tuple[Job, submitit.Job]]:
    """Send jobs away, at any time no more than there is room for; each comes back when it has ended."""
    waiting, free, running = deque(jobs), deque(rooms), []
    try:
        while waiting or running:
            fresh = [replace(waiting.popleft(), gpus=free.popleft()) for _ in range(min(len(waiting), len(free)))]
            running += zip(fresh, _submitted(executor, fresh), strict=True) if fresh else ()
            ended = [pair for pair in running if pair[1].done()]
            running = [pair for pair in running if pair not in ended]
            free.extend(job.gpus for job, _ in ended)
            yield from ended
            if not ended:
                time.sleep(LOOK)
    except KeyboardInterrupt:
        _leave(running, executor.cluster)
        raise


def _submitted(executor: submitit.Executor, jobs: Sequence[Job]) -> list[submitit.Job]:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        return executor.submit_array(jobs)
    except (FailedJobError, FailedSubmissionError) as error:
        raise ConfigError(f"--launcher {executor.cluster}: the jobs were refused ({told(error)})") from error


def _leave(running: Sequence[tuple[Job, submitit.Job]], cluster: str) -> None:
    """Whoever waited does so no longer: jobs of this machine end, Slurm's stay."""
    if cluster != LOCAL:
        log.warning("%d jobs stay in Slurm's queue (squeue, scancel)", len(running))
        return
    for _, handle in running:
        handle.cancel()


def _failure(handle: submitit.Job) -> str | None:
    """Why a job that has ended did not finish its run; None where it did."""
    from submitit.core.utils import UncompletedJobError

    try:
        return next(filter(None, handle.results()), None)
    except UncompletedJobError:
        return f"the job ended before the run did (state {handle.state})"


def _meet() -> None:
    """Where several processes carry a run out together, they are told of each other as torchrun would."""
    from submitit import JobEnvironment
    from submitit.helpers import TorchDistributedEnvironment

    if JobEnvironment().num_tasks > 1:
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)


def _write_tables(experiments: Sequence[Loaded], jobs: Sequence[Job]) -> None:
    """Of each experiment of several seeds, all finished, the table that a run of all seeds leaves."""
    places = {_key(job.loaded.config, job.loaded.config.seed[0]): job.place for job in jobs}
    for config in [loaded.config for loaded in experiments if len(loaded.config.seed) > 1]:
        summaries = [places[_key(config, seed)].finished() for seed in config.seed]
        if all(summary is not None for summary in summaries):
            write_seeds(config, summaries)
