"""``runs clean`` decides under a run's lock: what was gone on with after its listing stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rushkit.results import read
from rushkit.results.run_file import Facts
from rushkit.results.training import Finetuning
from rushkit.run import clean
from rushkit.run.folder import Run
from rushkit.run.speaker import Speaker

QUIET = Speaker(-1, rank=0)


def interrupted(root: Path) -> Path:
    with pytest.raises(KeyboardInterrupt), Run.create(root, "finetune", "digits", Facts(), "", QUIET) as run:
        raise KeyboardInterrupt
    return run.path


@pytest.fixture
def after_listing(monkeypatch):
    """``after_listing(f)``: f happens when ``runs clean`` has chosen what can go, and has deleted nothing yet."""

    def plan(action) -> None:
        original = clean.find_leftovers

        def chosen(*arguments):
            leftovers = original(*arguments)
            action()
            return leftovers

        monkeypatch.setattr(clean, "find_leftovers", chosen)

    return plan


def test_a_run_that_was_resumed_and_finished_after_the_listing_stays(cli, folder, after_listing):
    resumed, other = interrupted(folder / "runs"), interrupted(folder / "runs")

    def resume() -> None:
        with Run.open(resumed, QUIET) as run:
            run.write_results(Finetuning(recipe="mine", epochs=1, source=None, loaded=0, trainable=[]))

    after_listing(resume)
    said = cli("runs", "clean", "--yes", "--json")
    assert said.code == 0, said.err
    assert [Path(row["run"]).name for row in json.loads(said.out)["runs"]] == [other.name]
    assert read(resumed).recipe == "mine"
    assert not other.exists()


def test_a_run_that_was_resumed_and_interrupted_again_after_the_listing_stays(cli, folder, after_listing):
    resumed = interrupted(folder / "runs")

    def resume() -> None:
        run = Run.open(resumed, QUIET)
        (run.subfolder("checkpoints") / "step-000001.safetensors").write_bytes(b"work")
        run.fail(KeyboardInterrupt())

    after_listing(resume)
    assert cli("runs", "clean", "--yes").code == 0
    assert (resumed / "checkpoints" / "step-000001.safetensors").exists()


def test_a_run_on_which_another_began_to_build_after_the_listing_stays(cli, folder, after_listing):
    parent = interrupted(folder / "runs")

    def build_on_it() -> None:
        facts = Facts(parent=f"{parent}/checkpoints/best")
        with Run.create(folder / "runs", "evaluate", "digits", facts, "", QUIET):
            pass

    after_listing(build_on_it)
    assert cli("runs", "clean", "--yes").code == 0
    assert parent.exists()
