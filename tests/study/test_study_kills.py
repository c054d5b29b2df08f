"""A study that is killed at moments of a seeded draw, among its file operations, and started again each time."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from kills import killed_at
from small_studies import Small

from rushkit.locks import FolderLock
from rushkit.study.orders import is_done


@pytest.fixture
def locks(monkeypatch) -> list[FolderLock]:
    """Every lock that is taken: a process that is dead holds none."""
    taken: list[FolderLock] = []
    take = FolderLock.__init__

    def note(lock: FolderLock, folder) -> None:
        take(lock, folder)
        taken.append(lock)

    monkeypatch.setattr(FolderLock, "__init__", note)
    return taken


@pytest.mark.parametrize("draw", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_ten_kills_change_no_figure_and_no_job_is_done_twice(small, locks, tmp_path, monkeypatch, draw):
    chance = random.Random(draw)
    begun_when_done: dict[str, int] = {}
    for _ in range(10):
        assert killed_at(chance.randrange(90), small.places.runs, small.run)
        while locks:
            locks.pop().release()
        begun = Counter(small.events("begin"))
        for cell in small.plan.cells:
            name = f"{cell.row} {cell.seed} {cell.stage}"
            if is_done(small.places, cell.job):
                begun_when_done.setdefault(name, begun[name])
    assert small.run().is_whole
    begun = Counter(small.events("begin"))
    assert begun_when_done == {name: begun[name] for name in begun_when_done}
    (tmp_path / "whole").mkdir()
    monkeypatch.setenv("STUB_LEDGER", str(tmp_path / "whole" / "ledger"))
    whole = Small(tmp_path / "whole")
    whole.run()
    assert small.losses() == whole.losses()
    assert len(whole.losses()) == 12
