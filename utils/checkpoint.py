"""What a run needs to go on after it was cut: the state after its last session, and where the one under way stands.

The state before the last one stays beside it, in case that is damaged, until a purge or the end of the run.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from utils.atomic import write_bytes
from utils.errors import CheckpointError, WriteError
from utils.loop import Progress
from utils.processes import by_the_first

log = logging.getLogger("lethe")


class Damaged(CheckpointError):
    """A file whose content is not what was written."""


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

    Attributes:
        damage: what is wrong with the last session's state, where the one before it was loaded in its place.
    """

    def __init__(self, folder: Path, config_hash: str):
        self.folder, self.config_hash = folder, config_hash
        self.latest, self.earlier = folder / "session.safetensors", folder / "earlier.safetensors"
        self.damage = ""

    @by_the_first
    def save_session(self, tensors: dict[str, Tensor], notes: dict) -> None:
        """Set the last session's state aside for this one, once that has been read back, and drop the phases before it.

        Raises:
            WriteError: it cannot be written, or not be read back; the last state stays where it is.
        """
        write_tensors(self.latest, tensors, notes | {"config": self.config_hash}, self._make_room)
        self.damage = ""
        self._drop_phases()

    def _make_room(self, new: Path) -> None:
        _read_back(new)
        if self.latest.exists() and not self.damage:  # else what is set aside already is better
            self.latest.replace(self.earlier)

    def load_session(self) -> Saved | None:
        """The state after the last finished session, or None before the first; where it is damaged, the one before it.

        Raises:
            CheckpointError: the files are damaged or belong to another config.
        """
        try:
            return self._load(self.latest) or self._load(self.earlier)  # a run may be killed between the two moves
        except Damaged as error:
            saved = self._earlier()
            if saved is None:
                raise CheckpointError(f"{error}; start anew without --resume") from error
            self.damage = str(error)
            return saved

    def _earlier(self) -> Saved | None:
        try:
            return self._load(self.earlier)
        except Damaged:
            return None

    @by_the_first
    def drop_earlier(self) -> None:
        """Keep the last session's state alone: the one before it may hold what has been forgotten since.

        Where the last one is missing or damaged, that is the state which was loaded, and it stays.
        """
        if self.latest.exists() and not self.damage:
            self.earlier.unlink(missing_ok=True)

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
        """Where a phase of a session stood and whether it had finished, or None where nothing sound was saved.

        Raises:
            CheckpointError: the file belongs to another config.
        """
        try:
            saved = self._load(self._phase_file(phase))
        except Damaged as error:
            log.warning("%s; the phase starts anew", error)
            return None
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
            if before is None or file.suffix != ".safetensors" or _session_of(file) < before:
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


def _session_of(phase: Path) -> int:
    try:
        return read_notes(phase).get("session", -1)
    except Damaged as error:
        log.warning("%s; the phase starts anew", error)
        return -1


def _listed(tensors: Mapping[str, Tensor], kind: str) -> list[Tensor]:
    """`kind.0`, `kind.1`, … in their order."""
    return [tensors[f"{kind}.{i}"] for i in range(sum(key.startswith(f"{kind}.") for key in tensors))]


def write_tensors(
    file: Path, tensors: dict[str, Tensor], notes: dict, ready: Callable[[Path], None] | None = None
) -> None:
    """Write tensors and JSON notes as one safetensors file, atomically; tensors that share memory are written apart.

    A digest of both stands beside the notes: a damaged file may still be one that can be opened. `ready` is that of
    `utils.atomic.write_bytes`.

    Raises:
        WriteError: the disk is full or the folder cannot be written.
    """
    own = dict(_unshared(tensors))
    said = json.dumps(notes, ensure_ascii=False)
    write_bytes(file, save(own, {"lethe": said, "digest": _digest(said, sorted(own.items()))}), ready)


def _digest(notes: str, tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Of the notes' text and of tensors in the order of their names."""
    found = hashlib.blake2b(notes.encode(), digest_size=16)
    for name, value in tensors:
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
        Damaged: it is not what was written.
    """
    with _opened(file) as opened:
        tensors = dict(_tensors(opened))
        _check(opened, tensors.items())
        return Saved(tensors, _notes(opened))


def read_notes(file: Path) -> dict:
    """The notes alone.

    Raises:
        Damaged: they are not what was written.
    """
    with _opened(file) as opened:
        return _notes(opened)


def _read_back(file: Path) -> None:
    """See that a file can be read again, from the disk rather than from memory, without holding all of it.

    Raises:
        WriteError: it cannot.
    """
    with file.open("rb") as written:
        os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        with _opened(file) as opened:
            _check(opened, _tensors(opened))
    except Damaged as error:
        raise WriteError("what was read back is not what was written") from error


def _tensors(opened: safe_open) -> Iterator[tuple[str, Tensor]]:
    return ((name, opened.get_tensor(name)) for name in sorted(opened.keys()))


def _check(opened: safe_open, tensors: Iterable[tuple[str, Tensor]]) -> None:
    about = opened.metadata() or {}
    if about.get("digest") != _digest(about.get("lethe", ""), tensors):
        raise ValueError("its content is not what was written")


@contextmanager
def _opened(file: Path) -> Iterator[safe_open]:
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except (SafetensorError, OSError, ValueError) as error:
        raise Damaged(f"{file}: the checkpoint is damaged ({error})") from error


def _notes(opened: safe_open) -> dict:
    return json.loads((opened.metadata() or {}).get("lethe", "{}"))
