"""`utils.checkpoint`: whole files or none, damage and foreign configs refused, everything comes back."""

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from utils.atomic import write_bytes, write_text
from utils.checkpoint import RunCheckpoint, read_notes, read_tensors, write_tensors
from utils.errors import CheckpointError, WriteError
from utils.loop import Phase, Progress, Recipe, fit
from utils.streams import TensorStream


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def progress(value=1.0, epoch=3):
    return Progress(epoch, [torch.full((2, 2), value)], {0: {"momentum_buffer": torch.full((2, 2), value + 1)}})


@pytest.fixture
def checkpoint(tmp_path):
    return RunCheckpoint(tmp_path / "run" / "checkpoint", "abc")


def refused(act):
    with pytest.raises((CheckpointError, WriteError)) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_tensors_and_notes_come_back(tmp_path):
    tensors = {
        "half": torch.randn(3, 2).half(),
        "whole": torch.arange(4),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "none": torch.zeros(0, 3),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "spread": torch.tensor([1.0, 2.0]).expand(3, 2),
        "weight": nn.Parameter(torch.ones(2)),
    }
    write_tensors(tmp_path / "a" / "b.safetensors", tensors, {"names": ["Škoda", "BYD"], "epoch": 3})
    saved = read_tensors(tmp_path / "a" / "b.safetensors")
    assert saved.notes == {"names": ["Škoda", "BYD"], "epoch": 3} and saved.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert saved.tensors[name].dtype == value.dtype and torch.equal(saved.tensors[name], value.detach())
    assert os.listdir(tmp_path / "a") == ["b.safetensors"]


def test_tied_and_overlapping_tensors_are_written_apart(tmp_path):
    table = torch.arange(12.0).reshape(4, 3)
    tensors = {"table": table, "tied": table, "row": table[1], "upper": table[:3], "lower": table[1:]}
    write_tensors(tmp_path / "x", tensors, {})
    saved = read_tensors(tmp_path / "x").tensors
    assert all(torch.equal(saved[name], value) for name, value in tensors.items())


def test_nothing_saved_yet(checkpoint):
    assert checkpoint.load_session() is None and checkpoint.load_phase(0, 0) is None
    checkpoint.clear()
    assert not checkpoint.folder.exists()


@pytest.mark.parametrize("failing", ["write", "flush", "move"])
def test_a_full_disk_leaves_the_last_checkpoint_and_no_half_file(checkpoint, monkeypatch, failing):
    checkpoint.save_session({"x": torch.ones(3)}, {"session": 0})
    file = checkpoint.folder / "session.safetensors"
    with monkeypatch.context() as patched:
        if failing == "write":
            patched.setattr(Path, "open", full_disk)
        elif failing == "flush":
            patched.setattr(os, "fsync", full_disk)
        else:
            patched.setattr(os, "replace", full_disk)
            patched.setattr(Path, "replace", full_disk)
        message = refused(lambda: checkpoint.save_session({"x": torch.zeros(3)}, {"session": 1}))
    assert str(file) in message and "No space left" in message
    assert os.listdir(checkpoint.folder) == ["session.safetensors"]
    saved = checkpoint.load_session()
    assert saved.tensors["x"].tolist() == [1, 1, 1] and saved.notes["session"] == 0


def test_a_session_that_could_not_be_saved_keeps_its_phases(checkpoint, monkeypatch):
    checkpoint.save_phase(0, 0, progress(), finished=True)
    monkeypatch.setattr(os, "fsync", full_disk)
    refused(lambda: checkpoint.save_session({}, {}))
    assert checkpoint.load_phase(0, 0)[1]


def test_a_process_killed_while_writing_leaves_the_old_file(checkpoint, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*args):
        raise Killed

    checkpoint.save_phase(0, 0, progress(1.0), finished=False)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", kill)
        with pytest.raises(Killed):
            checkpoint.save_phase(0, 0, progress(2.0), finished=False)
    (tmp,) = checkpoint.folder.glob("*.part")  # nobody was left to remove it
    assert checkpoint.load_phase(0, 0)[0].params[0].unique().tolist() == [1.0]
    checkpoint.save_session({}, {})
    assert not tmp.exists() and checkpoint.load_session().tensors == {}


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = refused(lambda: write_bytes(tmp_path / "file" / "below" / "x", b"content"))
    assert "cannot be written (Not a directory)" in message
    (tmp_path / "folder").mkdir()
    assert "cannot be written (Is a directory)" in refused(lambda: write_bytes(tmp_path / "folder", b"content"))
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_name_that_is_no_text_is_said(tmp_path):
    (tmp_path / "x").write_text("before")
    message = refused(lambda: write_text(tmp_path / "x", "a\nb/caf\udce9.png"))  # Latin-1, as a folder may hold it
    assert (
        message
        == f"{tmp_path / 'x'}: cannot be written ('a\\nb/caf\\udce9.png' holds what is no UTF-8 text); rename it"
    )
    assert (tmp_path / "x").read_text() == "before"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(checkpoint, share):
    checkpoint.save_session({"x": torch.randn(100)}, {})
    truncate(checkpoint.latest, share)
    message = refused(checkpoint.load_session)
    assert f"{checkpoint.latest}: the checkpoint is damaged" in message and "start anew without --resume" in message


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_phase_starts_anew_and_that_is_said(checkpoint, share, caplog):
    for phase in range(2):
        checkpoint.save_phase(1, phase, progress(), finished=False)
    file = checkpoint.folder / "phase_0.safetensors"
    truncate(file, share)
    assert checkpoint.load_phase(1, 0) is None and checkpoint.load_phase(1, 1) is not None
    checkpoint.drop_phases(before=1)
    assert checkpoint.load_phase(1, 0) is None and checkpoint.load_phase(1, 1) is not None
    assert caplog.text.count(f"{file}: the checkpoint is damaged") >= 1 and "the phase starts anew" in caplog.text


def truncate(file: Path, share: float) -> None:
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


# the state before the last one


def save_sessions(checkpoint, count):
    for session in range(count):
        checkpoint.save_session({"x": torch.full((3,), float(session))}, {"session": session})


def test_the_state_before_the_last_one_is_kept_and_no_older_one(checkpoint):
    save_sessions(checkpoint, 1)
    assert os.listdir(checkpoint.folder) == ["session.safetensors"]
    save_sessions(checkpoint, 4)
    assert sorted(os.listdir(checkpoint.folder)) == ["earlier.safetensors", "session.safetensors"]
    assert read_notes(checkpoint.earlier)["session"] == 2 and checkpoint.load_session().notes["session"] == 3
    assert checkpoint.damage == ""
    checkpoint.drop_earlier()
    checkpoint.drop_earlier()
    assert os.listdir(checkpoint.folder) == ["session.safetensors"]


def test_a_damaged_state_is_replaced_by_the_one_before_it(checkpoint):
    save_sessions(checkpoint, 3)
    truncate(checkpoint.latest, 0.9)
    for again in (checkpoint, RunCheckpoint(checkpoint.folder, "abc")):  # loading changes nothing on the disk
        saved = again.load_session()
        assert saved.notes["session"] == 1 and saved.tensors["x"].tolist() == [1, 1, 1]
        assert again.damage.startswith(f"{checkpoint.latest}: the checkpoint is damaged (")
    checkpoint.save_session({"x": torch.full((3,), 2.0)}, {"session": 2})
    assert checkpoint.damage == "" and checkpoint.load_session().notes["session"] == 2
    assert read_notes(checkpoint.earlier)["session"] == 1  # what was damaged has taken no sound one's place


def test_two_damaged_states_are_refused(checkpoint):
    save_sessions(checkpoint, 2)
    for file in (checkpoint.latest, checkpoint.earlier):
        truncate(file, 0.5)
    assert f"{checkpoint.latest}: the checkpoint is damaged" in refused(checkpoint.load_session)


def test_a_state_that_cannot_be_moved_leaves_the_one_before_it(checkpoint, monkeypatch):
    save_sessions(checkpoint, 2)
    moves, move = [], os.replace

    def second_fails(*places):
        moves.append(places)
        return move(*places) if len(moves) == 1 else full_disk()

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", second_fails)
        refused(lambda: checkpoint.save_session({}, {"session": 2}))
    assert len(moves) == 2 and os.listdir(checkpoint.folder) == ["earlier.safetensors"]
    assert checkpoint.load_session().notes["session"] == 1 and checkpoint.damage == ""
    checkpoint.save_session({}, {"session": 2})
    assert checkpoint.load_session().notes["session"] == 2 and read_notes(checkpoint.earlier)["session"] == 1


def test_a_state_that_cannot_be_read_back_takes_no_place(checkpoint, monkeypatch):
    save_sessions(checkpoint, 2)
    flush = os.fsync

    def spoilt(descriptor):  # as a disk that says it has written what it has not
        flush(descriptor)
        os.pwrite(descriptor, b"\xff", os.fstat(descriptor).st_size - 1)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", spoilt)
        message = refused(lambda: checkpoint.save_session({"x": torch.ones(3)}, {"session": 2}))
    assert message.startswith(f"{checkpoint.latest}: cannot be written (what was read back is not what was written)")
    assert checkpoint.load_session().notes["session"] == 1 and read_notes(checkpoint.earlier)["session"] == 0
    assert not list(checkpoint.folder.glob("*.part"))


def test_another_configs_state_is_no_damage(checkpoint):
    save_sessions(checkpoint, 2)
    assert "another config" in refused(RunCheckpoint(checkpoint.folder, "xyz").load_session)


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\xff" * 100, b"PK\x03\x04" * 50])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    assert "damaged" in refused(lambda: read_tensors(tmp_path / "x"))


def test_any_flipped_byte_of_the_header_is_refused(checkpoint):
    checkpoint.save_session({"x": torch.ones(4)}, {"session": 0})
    file = checkpoint.folder / "session.safetensors"
    whole = file.read_bytes()
    for place in range(len(whole) - 16):  # the last 16 bytes are the values
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        refused(checkpoint.load_session)


def test_another_config_is_refused(checkpoint):
    checkpoint.save_session({"x": torch.ones(1)}, {})
    checkpoint.save_phase(1, 0, progress(), finished=False)
    other = RunCheckpoint(checkpoint.folder, "xyz")
    for act in (other.load_session, lambda: other.load_phase(1, 0)):
        message = refused(act)
        assert "another config" in message and "abc" in message and "xyz" in message


def test_weights_of_another_kind_are_no_checkpoint(checkpoint):
    write_tensors(checkpoint.folder / "session.safetensors", {"x": torch.ones(1)}, {})
    assert "another config" in refused(checkpoint.load_session)


def test_a_phase_of_another_session_is_ignored(checkpoint):
    checkpoint.save_phase(1, 0, progress(), finished=True)
    checkpoint.save_session({}, {})
    checkpoint.save_phase(1, 0, progress(), finished=True)  # as if the process had died before dropping it
    assert checkpoint.load_phase(2, 0) is None and checkpoint.load_phase(0, 0) is None
    assert checkpoint.load_phase(1, 0) is not None and checkpoint.load_phase(1, 1) is None


def test_the_end_of_a_session_drops_its_phases(checkpoint):
    for phase in range(12):
        checkpoint.save_phase(0, phase, progress(float(phase)), finished=phase < 11)
    assert checkpoint.load_phase(0, 11)[0].params[0][0, 0] == 11
    checkpoint.save_session({"x": torch.ones(1)}, {"session": 0})
    assert os.listdir(checkpoint.folder) == ["session.safetensors"]


def test_phases_of_sessions_that_are_done_go_without_those_of_the_one_under_way(checkpoint):
    for phase, session in enumerate((0, 1, 2, 0)):
        checkpoint.save_phase(session, phase, progress(), finished=phase == 1)
    (checkpoint.folder / "phase_9.safetensors.part").write_bytes(b"half")
    checkpoint.drop_phases(before=2)
    assert os.listdir(checkpoint.folder) == ["phase_2.safetensors"]
    assert checkpoint.load_phase(2, 2) is not None


def test_notes_are_read_without_the_tensors(checkpoint, tmp_path):
    write_tensors(tmp_path / "x", {"big": torch.zeros(9)}, {"session": 3})
    assert read_notes(tmp_path / "x") == {"session": 3}
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:20])
    assert "damaged" in refused(lambda: read_notes(tmp_path / "x"))


def test_a_phase_is_replaced_and_finished_ones_keep_no_optimizer(checkpoint):
    checkpoint.save_phase(0, 0, progress(1.0, epoch=1), finished=False)
    checkpoint.save_phase(0, 0, progress(2.0, epoch=2), finished=False)
    found, finished = checkpoint.load_phase(0, 0)
    assert (found.epoch, finished) == (2, False) and found.optimizer[0]["momentum_buffer"][0, 0] == 3.0
    checkpoint.save_phase(0, 0, progress(4.0, epoch=5), finished=True)
    found, finished = checkpoint.load_phase(0, 0)
    assert (found.epoch, finished, found.optimizer) == (5, True, {}) and found.params[0][0, 0] == 4.0


def test_parameters_keep_their_order_beyond_ten(checkpoint):
    params = [torch.full((1,), float(place)) for place in range(23)]
    checkpoint.save_phase(0, 0, Progress(1, params, {}), finished=False)
    assert [value.item() for value in checkpoint.load_phase(0, 0)[0].params] == list(range(23))


@pytest.mark.parametrize(("optimizer", "names"), [("adamw", {"step", "exp_avg", "exp_avg_sq"}), ("sgd", None)])
def test_the_optimizers_state_survives(checkpoint, optimizer, names):
    net, kept = nn.Linear(3, 2), []

    def keep(progress):
        checkpoint.save_phase(0, 0, progress, finished=False)
        kept.append({place: dict(state) for place, state in progress.optimizer.items()})

    stream = TensorStream({"x": torch.randn(7, 3)})
    recipe = Recipe(epochs=1, lr=0.1, batch_size=2, optimizer=optimizer)
    phase = Phase("p", net, {"x": stream}, lambda b: {"l": net(b["x"]["x"]).square().mean()}, net.parameters(), recipe)
    fit(phase, seed=0, after_epoch=keep)
    found = checkpoint.load_phase(0, 0)[0].optimizer
    assert found.keys() == kept[0].keys() == {0, 1}
    for place, state in kept[0].items():
        assert found[place].keys() == state.keys() == (names or {"momentum_buffer"})
        for name, value in state.items():
            assert torch.equal(found[place][name], value) and found[place][name].shape == value.shape
    if optimizer == "adamw":
        assert found[0]["step"].ndim == 0 and found[0]["step"] == 4  # 7 rows in steps of 2


def test_clear_forgets_the_checkpoint_and_nothing_else(checkpoint):
    checkpoint.save_session({}, {})
    checkpoint.save_phase(1, 0, progress(), finished=False)
    (checkpoint.folder / "phase_1.safetensors.part").write_bytes(b"half")
    (checkpoint.folder / "notes.txt").write_text("the user's own")
    checkpoint.clear()
    assert os.listdir(checkpoint.folder) == ["notes.txt"]
    assert checkpoint.load_session() is None and checkpoint.load_phase(1, 0) is None


@pytest.mark.parametrize("place", [-1, -9, -17])
def test_a_single_changed_bit_shows(tmp_path, place):
    """In any of the tensors: the file can still be opened."""
    tensors = {"a": torch.arange(2.0), "b": torch.tensor(7), "c": torch.tensor([True] * 8), "none": torch.empty(0, 3)}
    write_tensors(tmp_path / "x", tensors, {"n": 1})
    assert read_tensors(tmp_path / "x").notes == {"n": 1}
    content = bytearray((tmp_path / "x").read_bytes())
    content[place] ^= 1
    (tmp_path / "x").write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=r"damaged \(its content is not what was written\)"):
        read_tensors(tmp_path / "x")


def test_a_figure_changed_among_the_notes_shows(tmp_path):
    write_tensors(tmp_path / "x", {"a": torch.arange(2.0)}, {"top1": 91.5})
    content = (tmp_path / "x").read_bytes()
    assert content.count(b"91.5") == 1
    (tmp_path / "x").write_bytes(content.replace(b"91.5", b"93.5"))
    assert "its content is not what was written" in refused(lambda: read_tensors(tmp_path / "x"))


def test_the_state_that_was_loaded_is_never_dropped(tmp_path):
    """After a damaged last state, or a kill between the two moves, the one before it is the only one."""
    for broken in (lambda file: file.write_bytes(file.read_bytes()[:-9]), lambda file: file.unlink()):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        first = RunCheckpoint(folder, "hash")
        first.save_session({"w": torch.tensor([1.0])}, {"results": [1]})
        first.save_session({"w": torch.tensor([2.0])}, {"results": [1, 2]})
        broken(first.latest)
        for _ in range(2):  # cut again before the next session has ended
            again = RunCheckpoint(folder, "hash")
            assert again.load_session().tensors["w"].tolist() == [1.0]
            again.drop_earlier()
        again.save_session({"w": torch.tensor([3.0])}, {"results": [1, 2]})
        again.drop_earlier()
        assert not again.earlier.exists()
        assert RunCheckpoint(folder, "hash").load_session().tensors["w"].tolist() == [3.0]
