"""A run whose folder is deleted while it works ends with one error, and never as finished."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import TINY, only, sets

from rushkit.bar import Progress

VERBS = {
    "pretrain": ["--recipe", "digits", *sets(*TINY)],
    "finetune": [],
    "evaluate": ["--samples", "1"],
    "attack": ["--type", "pgd", "--limit", "2", "--samples", "1", "--protocol", "paper"],
    "certify": ["--samples", "1000", "--limit", "2"],
    "audit": ["--limit", "2", "--steps", "1", "--eot", "1", "--queries", "1", "--samples", "1"],
    "probe": ["--limit", "2", "--steps", "1"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_work_in_a_folder_that_is_deleted_is_an_error(fails, runs, monkeypatch, verb):
    advance, known = Progress.advance, set(runs.iterdir())

    def deleting(self: Progress, *arguments, **values) -> None:
        for path in set(runs.iterdir()) - known:
            shutil.rmtree(path)
        advance(self, *arguments, **values)

    monkeypatch.setattr(Progress, "advance", deleting)
    said = fails(1, verb, *VERBS[verb])
    assert f"error: the run's folder {runs}" in said.err.replace("folder runs", f"folder {runs}")
    assert "is gone: it was deleted or moved" in said.err
    assert set(runs.iterdir()) == known


def test_work_whose_folder_is_moved_away_does_not_go_on_in_the_old_place(fails, runs, monkeypatch):
    advance, moved = Progress.advance, Path("moved")

    def moving(self: Progress, *arguments, **values) -> None:
        if not moved.exists():
            only(runs, "finetune").rename(moved)
        advance(self, *arguments, **values)

    monkeypatch.setattr(Progress, "advance", moving)
    before = only(runs, "finetune")
    said = fails(1, "finetune")
    assert "is gone: it was deleted or moved" in said.err
    assert (moved / "run.json").exists()
    assert only(runs, "finetune") == before
