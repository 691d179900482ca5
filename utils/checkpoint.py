"""What a run needs to go on after it was cut: one file per finished session, one per phase of the session under way."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from utils.atomic import write_bytes
from utils.errors import CheckpointError
from utils.loop import Progress
from utils.processes import by_the_first


@dataclass(frozen=True)
class Saved:
    """Tensors and what was noted about them."""

    tensors: dict[str, Tensor]
    notes: dict


class RunCheckpoint:
    """The checkpoint folder of one run.

    Args:
        folder: made on the first write.
        config_hash: a checkpoint of another config is refused.
    """

    def __init__(self, folder: Path, config_hash: str):
        self.folder, self.config_hash = folder, config_hash

    @by_the_first
    def save_session(self, tensors: dict[str, Tensor], notes: dict) -> None:
        """Replace the last session's state and drop the phases that led to it."""
        write_tensors(self.folder / "session.safetensors", tensors, notes | {"config": self.config_hash})
        self._drop_phases()

    def load_session(self) -> Saved | None:
        """The state after the last finished session, or None before the first.

        Raises:
            CheckpointError: the file is damaged or belongs to another config.
        """
        return self._load(self.folder / "session.safetensors")

    @by_the_first
    def save_phase(self, session: int, phase: int, progress: Progress, finished: bool) -> None:
        """Keep where a phase stands; of a finished one without the optimizer."""
        tensors = {f"param.{i}": value for i, value in enumerate(progress.params)}
        tensors |= {f"tracked.{i}": value for i, value in enumerate(progress.tracked)}
        if not finished:
            for i, state in progress.optimizer.items():
                tensors |= {f"optimizer.{i}.{name}": torch.as_tensor(value) for name, value in state.items()}
        notes = {"session": session, "epoch": progress.epoch, "finished": finished, "config": self.config_hash}
        write_tensors(self._phase_file(phase), tensors, notes)

    def load_phase(self, session: int, phase: int) -> tuple[Progress, bool] | None:
        """Where a phase of a session stood and whether it had finished, or None where nothing was saved.

        Raises:
            CheckpointError: the file is damaged or belongs to another config.
        """
        saved = self._load(self._phase_file(phase))
        if saved is None or saved.notes["session"] != session:
            return None
        optimizer: dict[int, dict[str, Tensor]] = {}
        for key in (key for key in saved.tensors if key.startswith("optimizer.")):
            _, position, name = key.split(".")
            optimizer.setdefault(int(position), {})[name] = saved.tensors[key]
        params, tracked = (_listed(saved.tensors, kind) for kind in ("param", "tracked"))
        return Progress(saved.notes["epoch"], params, optimizer, tracked), saved.notes["finished"]

    @by_the_first
    def drop_phases(self, before: int | None = None) -> None:
        """Forget the phases of a session that is done.

        Args:
            before: only those of earlier sessions than this one, which stay where a run was cut between a session's
                end and this; None: all.
        """
        self._drop_phases(before)

    def _drop_phases(self, before: int | None = None) -> None:
        for file in self.folder.glob("phase_*.safetensors*"):
            if before is None or file.suffix != ".safetensors" or read_notes(file).get("session", -1) < before:
                file.unlink()

    @by_the_first
    def clear(self) -> None:
        """Forget everything: a new run starts here."""
        for file in self.folder.glob("*.safetensors*"):
            file.unlink()

    def _phase_file(self, phase: int) -> Path:
        return self.folder / f"phase_{phase}.safetensors"

    def _load(self, file: Path) -> Saved | None:
        if not file.exists():
            return None
        saved = read_tensors(file)
        if saved.notes.get("config") != self.config_hash:
            raise CheckpointError(
                f"{file}: was written by another config ({saved.notes.get('config')}, this one is {self.config_hash}); "
                "resume with that config, or start anew without --resume"
            )
        return saved


def _listed(tensors: Mapping[str, Tensor], kind: str) -> list[Tensor]:
    """`kind.0`, `kind.1`, … in their order."""
    return [tensors[f"{kind}.{i}"] for i in range(sum(key.startswith(f"{kind}.") for key in tensors))]


def write_tensors(file: Path, tensors: dict[str, Tensor], notes: dict) -> None:
    """Write tensors and JSON notes as one safetensors file, atomically; tensors that share memory are written apart.

    Their digest stands beside the notes: a damaged file may still be one that can be opened.

    Raises:
        WriteError: the disk is full or the folder cannot be written.
    """
    own = dict(_unshared(tensors))
    write_bytes(file, save(own, {"lethe": json.dumps(notes, ensure_ascii=False), "digest": _digest(own)}))


def _digest(tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"{name} {value.dtype} {list(value.shape)} ".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _unshared(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The tensors on the CPU, each in memory of its own: safetensors refuses tied ones."""
    taken = set()
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        if value.untyped_storage().data_ptr() in taken:
            value = value.clone()
        taken.add(value.untyped_storage().data_ptr())
        yield name, value


def read_tensors(file: Path) -> Saved:
    """Read what `write_tensors` wrote.

    Raises:
        CheckpointError: the file is damaged.
    """
    with _opened(file) as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if (opened.metadata() or {}).get("digest", "") != _digest(tensors):
            raise ValueError("its content is not what was written")
        return Saved(tensors, _notes(opened))


def read_notes(file: Path) -> dict:
    """The notes alone.

    Raises:
        CheckpointError: the file is damaged.
    """
    with _opened(file) as opened:
        return _notes(opened)


@contextmanager
def _opened(file: Path) -> Iterator[safe_open]:
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file}: the checkpoint is damaged ({error}); start anew without --resume") from error


def _notes(opened: safe_open) -> dict:
    return json.loads((opened.metadata() or {}).get("lethe", "{}"))
