from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rushkit.errors import CheckpointError, RushkitError
from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.names import POINTERS
from rushkit.run.store import CheckpointStore

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills are tried in forked children")


def content(step: int) -> dict[str, torch.Tensor]:
    return {"w": torch.full((50,), float(step)), "n": torch.tensor(step)}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_child(work: Callable[[], int | None]) -> int:
    """Run ``work`` in a forked child; its exit code is what ``work`` returns, or minus the signal that ended it."""
    with warnings.catch_warnings():
        # Newer Pythons warn of forks beside threads; the child below uses none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 99
        with contextlib.suppress(BaseException):
            code = work() or 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_last_two_and_the_best_stay(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints")
    for step in range(1, 7):
        store.save(step, content(step), {"step": step}, best=step == 2)
    assert names(tmp_path / "checkpoints") == [
        "best",
        "last",
        "step-000002.safetensors",
        "step-000005.safetensors",
        "step-000006.safetensors",
    ]
    assert store.load_latest().meta == {"step": 6}
    assert load_checkpoint(store.pointed("best")).meta == {"step": 2}


def test_an_older_best_goes_when_a_better_one_comes(tmp_path):
    store = CheckpointStore(tmp_path, keep=3)
    for step in range(1, 8):
        store.save(step, content(step), {}, best=step in (1, 3))
    assert [name for name in names(tmp_path) if name.startswith("step")] == [
        f"step-00000{step}.safetensors" for step in (3, 5, 6, 7)
    ]


def test_there_is_always_one_to_fall_back_to(tmp_path):
    store = CheckpointStore(tmp_path, keep=1)
    for step in (1, 2, 3):
        store.save(step, content(step), {"step": step})
    (tmp_path / "step-000003.safetensors").write_bytes(b"torn")
    assert CheckpointStore(tmp_path, warn=lambda _: None).load_latest().meta == {"step": 2}


def test_steps_beyond_six_digits_stay_in_order(tmp_path):
    store = CheckpointStore(tmp_path)
    for step in (999_998, 999_999, 1_000_000):
        store.save(step, content(step), {"step": step})
    (tmp_path / "last").unlink()
    assert store.load_latest().meta == {"step": 1_000_000}
    assert "step-999998.safetensors" not in names(tmp_path)


def test_an_empty_store_has_no_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path / "none")
    assert store.load_latest() is None
    assert store.pointed("best") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-5] + bytes([data[-5] ^ 4]) + data[-4:],
    ],
    ids=["empty", "cut short", "one flipped bit"],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, damage):
    heard: list[str] = []
    store = CheckpointStore(tmp_path, warn=heard.append)
    for step in (1, 2, 3):
        torn = store.save(step, content(step), {"step": step})
    torn.write_bytes(damage(torn.read_bytes()))
    assert store.load_latest().meta == {"step": 2}
    assert len(heard) == 1
    assert str(torn) in heard[0]
    assert "step-000002" in heard[0]


def test_after_a_fall_back_the_run_goes_on_and_overwrites_the_damaged_one(tmp_path):
    heard: list[str] = []
    store = CheckpointStore(tmp_path, warn=heard.append)
    for step in (10, 20):
        store.save(step, content(step), {"step": step}).write_bytes(b"torn" if step == 20 else b"")
    store.save(10, content(10), {"step": 10})
    store.save(15, content(15), {"step": 15})
    assert store.load_latest().meta == {"step": 15}
    assert heard == []
    assert (tmp_path / "step-000010.safetensors").exists()
    store.save(20, content(20), {"step": 20})
    assert store.load_latest().meta == {"step": 20}
    assert [name for name in names(tmp_path) if name.startswith("step")] == [
        "step-000015.safetensors",
        "step-000020.safetensors",
    ]


def test_the_warning_goes_to_logging_by_default(tmp_path, caplog):
    store = CheckpointStore(tmp_path)
    store.save(1, content(1), {})
    store.save(2, content(2), {}).write_bytes(b"")
    store.load_latest()
    assert "step-000002.safetensors is empty" in caplog.text


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    store = CheckpointStore(tmp_path, warn=lambda text: None)
    for step in (1, 2):
        store.save(step, content(step), {}).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"no checkpoint loads: .*step-000002.*step-000001"):
        store.load_latest()


@pytest.mark.parametrize("pointer", [b"", b"\xff\xfe", b"../../etc/passwd\n", b"step-000009.safetensors\n"])
def test_a_pointer_that_points_nowhere_is_no_obstacle(tmp_path, pointer):
    store = CheckpointStore(tmp_path, warn=lambda text: None)
    for step in (1, 2):
        store.save(step, content(step), {"step": step})
    (tmp_path / "last").write_bytes(pointer)
    assert store.load_latest().meta == {"step": 2}


def test_leftovers_of_a_killed_writer_go_when_a_writer_opens_and_stay_for_readers(tmp_path):
    leftover = tmp_path / ".step-000007.safetensors.123.partial"
    leftover.write_bytes(b"half")
    CheckpointStore(tmp_path, writable=False)
    assert leftover.exists()
    CheckpointStore(tmp_path)
    assert not leftover.exists()


def test_a_reader_cannot_save(tmp_path):
    with pytest.raises(CheckpointError, match="reading only"):
        CheckpointStore(tmp_path, writable=False).save(1, content(1), {})


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RushkitError, match=r"cannot write .*file"):
        CheckpointStore(tmp_path / "file").save(1, content(1), {})


# The calls between which the files on the disk change.
FILE_CALLS = {"open", "write", "flush", "fsync", "close", "__exit__", "replace", "unlink", "mkdir"}


def save_until_killed(folder: Path, call: int) -> None:
    """Resume, save step after step, and die by SIGKILL just before the given call to the file system."""
    # A byte for every save that returned.
    told = os.open(folder / "told", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    store = CheckpointStore(folder / "checkpoints")
    latest = store.load_latest()
    first = latest.meta["step"] + 1 if latest else 1
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        if event == "c_call" and argument.__name__ in FILE_CALLS:
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    for step in range(first, first + 50):
        store.save(step, content(step), {"step": step}, best=step % 3 == 0)
        os.write(told, bytes([step % 256]))


def test_a_kill_at_any_call_leaves_a_state_that_loads(tmp_path):
    """Killed at each of the first 80 file calls in turn, about three saves' worth, and resumed each time."""
    folder = tmp_path / "checkpoints"
    order = list(range(1, 81))
    random.Random(7).shuffle(order)
    leftovers = before = 0
    for call in order:
        assert in_child(lambda call=call: save_until_killed(tmp_path, call)) == -signal.SIGKILL
        if not folder.exists():
            continue
        leftovers += any(name.endswith(".partial") for name in names(folder))
        steps = {int(path.stem.removeprefix("step-")): load_checkpoint(path) for path in folder.glob("step-*")}
        for step, checkpoint in steps.items():
            assert torch.equal(checkpoint.tensors["w"], content(step)["w"])
        for pointer in POINTERS:
            assert not (folder / pointer).exists() or (folder / (folder / pointer).read_text().strip()).exists()
        told = (tmp_path / "told").read_bytes()
        if told:
            latest = CheckpointStore(folder, writable=False).load_latest()
            # What was told is there, and of the saves that nobody was told of at most the one that was under way.
            assert told[-1] <= latest.meta["step"] <= max(told[-1], before) + 1
            before = latest.meta["step"]
            # A fall-back is there as well, once two saves have returned.
            assert len(steps) >= min(len(told), 2)
            assert len(steps) <= 5
    assert leftovers > 10
    CheckpointStore(folder)
    assert not any(name.endswith(".partial") for name in names(folder))


def test_no_room_stops_with_a_clear_error_and_the_last_checkpoint_loads(tmp_path):
    """A file-size limit stands for the full disk: the system refuses a write half way, with EFBIG for ENOSPC."""
    resource = pytest.importorskip("resource")
    CheckpointStore(tmp_path).save(1, content(1), {"step": 1})

    def fill() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        store = CheckpointStore(tmp_path)
        try:
            store.save(2, {"w": torch.zeros(100_000)}, {"step": 2})
        except RushkitError as error:
            said = [error.message, error.hint or ""]
        else:
            return 1
        expected = [
            str(tmp_path / "step-000002.safetensors"),
            "no room",
            "390.8 KiB",
            "are free on its disk",
            "--resume",
        ]
        return 0 if all(part in " ".join(said) for part in expected) else 2

    assert in_child(fill) == 0
    assert names(tmp_path) == ["last", "step-000001.safetensors"]
    assert CheckpointStore(tmp_path).load_latest().meta == {"step": 1}
