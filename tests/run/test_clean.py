"""Which runs can go, and that nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rushkit.errors import RushkitError, UsageError
from rushkit.results.run_file import Facts
from rushkit.run.clean import delete_run, find_leftovers
from rushkit.run.folder import Run
from rushkit.run.info import RunInfo, find_runs
from rushkit.run.size import size_of
from rushkit.run.speaker import Speaker

QUIET = Speaker(-1, rank=0)


def stopped(
    root: Path, status: str, parent: Path | None = None, keeps: str | None = None, results: bool = False
) -> Path:
    with Run.create(root, "finetune", "digits", Facts(parent=str(parent) if parent else None), "", QUIET) as run:
        pass
    (run.path / "run.json").write_text(json.dumps(json.loads((run.path / "run.json").read_text()) | {"status": status}))
    if keeps:
        (run.path / keeps).mkdir()
        (run.path / keeps / "file").write_bytes(b"x" * 100)
    if results:
        (run.path / "results.json").write_text("{}")
    return run.path


def found(root: Path, resumable: bool = False) -> set[Path]:
    runs = find_runs(root)
    paths, others = ({each.run.path for each in find_leftovers(order, resumable)} for order in (runs, runs[::-1]))
    assert paths == others
    return paths


def test_runs_that_stopped_with_nothing_can_go(tmp_path):
    gone = {stopped(tmp_path, status) for status in ("failed", "interrupted")}
    stopped(tmp_path, "finished")
    stopped(tmp_path, "failed", results=True)
    assert found(tmp_path) == gone


@pytest.mark.parametrize("keeps", ["checkpoints", "counts"])
def test_what_could_be_resumed_goes_only_when_asked_for(tmp_path, keeps):
    kept = stopped(tmp_path, "interrupted", keeps=keeps)
    assert found(tmp_path) == set()
    (leftover,) = find_leftovers(find_runs(tmp_path), resumable=True)
    assert (leftover.run.path, leftover.resumable) == (kept, True)
    assert leftover.bytes == size_of(kept) > 100


def test_what_a_kept_run_builds_on_stays(tmp_path):
    grandparent = stopped(tmp_path, "interrupted", keeps="checkpoints")
    parent = stopped(tmp_path, "failed", grandparent / "checkpoints" / "file", keeps="checkpoints")
    child = stopped(tmp_path, "finished", parent / "checkpoints" / "file")
    lonely = stopped(tmp_path, "failed", keeps="checkpoints")
    assert found(tmp_path, resumable=True) == {lonely}
    delete_run(next(run for run in find_runs(tmp_path) if run.path == child))
    assert found(tmp_path, resumable=True) == {lonely, parent, grandparent}


def test_only_run_folders_are_deleted(tmp_path):
    (tmp_path / "notes").mkdir()
    target = stopped(tmp_path, "failed")
    link = tmp_path / "link"
    link.symlink_to(target)
    for path in (tmp_path / "notes", link):
        with pytest.raises(UsageError, match="not a run folder"):
            delete_run(RunInfo(path, "", "", "failed", ""))
    assert target.exists()
    assert (tmp_path / "notes").exists()


def test_a_run_that_a_process_works_in_is_not_deleted(tmp_path):
    with Run.create(tmp_path, "finetune", "digits", Facts(), "", QUIET) as run:
        info = RunInfo(run.path, "finetune", "digits", "failed", "")
        with pytest.raises(RushkitError, match="another process"):
            delete_run(info)
        assert run.path.exists()


@pytest.mark.parametrize(
    ("name", "file"), [("20200101-000000-pretrain-digits-00000a", "notes.txt"), ("my-folder", "lock")]
)
def test_a_folder_that_may_be_somebodys_is_no_leftover(tmp_path, name, file):
    (tmp_path / name).mkdir()
    (tmp_path / name / file).write_text("")
    assert find_leftovers(find_runs(tmp_path), resumable=True) == []
