from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rushkit.errors import Busy, Replaced, RushkitError
from rushkit.study import claims

CLAIMANT = Path(__file__).with_name("claimant.py")


def claimed_by(folder: Path, number: int, **changes: object) -> Path:
    """A claim such as another machine would have made."""
    about = {"host": "elsewhere", "pid": 1, "time": "", "machine": "elsewhere boot", "born": "1"} | changes
    path = folder / f"claim.{number}"
    path.write_text(json.dumps(about) + "\n")
    return path


def silent_for(path: Path, seconds: float) -> None:
    about = path.stat()
    os.utime(path, (about.st_atime, about.st_mtime - seconds))


def test_a_job_that_nobody_works_on_has_no_holder(tmp_path):
    assert claims.holder(tmp_path) is None
    assert claims.holder(tmp_path / "nowhere") is None


def test_who_holds_a_job_is_told_by_its_claim(tmp_path):
    with claims.take(tmp_path) as claim:
        holder = claims.holder(tmp_path)
        assert (holder.number, holder.pid, claim.number) == (1, os.getpid(), 1)
    assert claims.holder(tmp_path) is None
    assert claims.newest(tmp_path).released


def test_a_second_claim_is_refused_until_the_first_is_given_back(tmp_path):
    first = claims.take(tmp_path)
    with pytest.raises(Busy, match=f"pid {os.getpid()} on"):
        claims.take(tmp_path)
    first.release()
    with claims.take(tmp_path) as second:
        assert second.number == 2


def test_a_claim_of_another_machine_holds_for_a_minute_after_its_last_beat(tmp_path):
    path = claimed_by(tmp_path, 1)
    silent_for(path, claims.STALE_SECONDS - 30)
    with pytest.raises(Busy, match="pid 1 on elsewhere"):
        claims.take(tmp_path)
    silent_for(path, 60)
    with claims.take(tmp_path) as claim:
        assert claim.number == 2


def test_a_dead_process_of_this_machine_is_replaced_at_once(tmp_path):
    child = subprocess.Popen([sys.executable, CLAIMANT, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    child.kill()
    # Not waited for: a zombie has its number still.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with claims.take(tmp_path) as claim:
        assert claim.number == 2
    child.communicate()


def test_another_process_of_the_same_number_is_not_the_holder(tmp_path):
    claims.take(tmp_path).release()
    about = json.loads((tmp_path / "claim.1").read_text().splitlines()[0])
    claimed_by(tmp_path, 2, **about | {"born": "1"})
    with claims.take(tmp_path) as claim:
        assert claim.number == 3


def test_a_holder_that_was_replaced_is_told_before_it_writes(tmp_path):
    with claims.take(tmp_path) as claim:
        claim.check()
        claimed_by(tmp_path, 2)
        with pytest.raises(Replaced, match="by pid 1 on elsewhere"):
            claim.check()


def test_a_holder_whose_folder_was_deleted_is_told(tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    with claims.take(folder) as claim:
        (folder / "claim.1").unlink()
        with pytest.raises(Replaced, match="deleted"):
            claim.check()


def test_a_beat_is_a_touch(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.001)
    path = tmp_path / "claim.1"
    with claims.take(tmp_path):
        silent_for(path, 1000)
        before = path.stat().st_mtime
        while path.stat().st_mtime == before:
            pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', "\x00", '{"pid": -1, "host": "", "machine": ""}'])
def test_a_claim_that_says_nothing_holds_while_it_is_fresh(tmp_path, text):
    path = tmp_path / "claim.7"
    path.write_text(text)
    with pytest.raises(Busy, match="another process works"):
        claims.take(tmp_path)
    silent_for(path, 2 * claims.STALE_SECONDS)
    with claims.take(tmp_path) as claim:
        assert claim.number == 8


def test_files_of_other_names_are_no_claims(tmp_path):
    for name in ("claim.0", "claim.01", "claim.x", "claim.1.bak", "claim.-1"):
        (tmp_path / name).touch()
    with claims.take(tmp_path) as claim:
        assert claim.number == 1


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path):
    with pytest.raises(RushkitError, match="cannot write"):
        claims.take(tmp_path / "nowhere")


@dataclass
class Crowd:
    """Processes that want one job; they say what they do through one pipe."""

    folder: Path
    ears: int
    mouth: int
    members: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def join(self) -> None:
        child = subprocess.Popen([sys.executable, CLAIMANT, self.folder], stdin=subprocess.PIPE, stdout=self.mouth)
        self.members[child.pid] = child

    def dies(self, pid: int) -> None:
        child = self.members.pop(pid)
        child.kill()
        child.communicate()


@pytest.fixture
def crowd(tmp_path) -> Iterator[Crowd]:
    ears, mouth = os.pipe()
    crowd = Crowd(tmp_path, ears, mouth)
    yield crowd
    for pid in list(crowd.members):
        crowd.dies(pid)
    for end in (ears, mouth):
        os.close(end)


def test_a_job_never_has_two_owners_though_owners_are_killed(crowd):
    chance = random.Random(0)
    for _ in range(5):
        crowd.join()
    numbers = []
    with os.fdopen(os.dup(crowd.ears)) as lines:
        for _ in range(30):
            said, number, pid = lines.readline().split()
            assert said == "holds"
            numbers.append(int(number))
            if chance.random() < 0.5:
                crowd.dies(int(pid))
                crowd.join()
            else:
                with contextlib.suppress(BrokenPipeError):
                    crowd.members[int(pid)].stdin.write(b"\n")
                    crowd.members[int(pid)].stdin.flush()
    assert numbers == list(range(1, 31))
