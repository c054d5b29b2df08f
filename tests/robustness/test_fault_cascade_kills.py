"""A cascade that is killed or stopped anywhere, in the middle of a climb too, comes to what it would have come to."""

from __future__ import annotations

import itertools

import pytest
from kills import killed_at
from tiny_runs import QUIET, checkpoint_of, finetuned

from rushkit.attacks.cascade import schedule
from rushkit.errors import Interrupted
from rushkit.robustness import block
from rushkit.robustness.attack import attack
from rushkit.robustness.pace import Pace
from rushkit.run.folder import Run
from rushkit.run.signals import Stop
from rushkit.setup.resumable import Work
from rushkit.setup.start import start_run


@pytest.fixture
def begun(tiny, monkeypatch):
    """-> a recipe of a short cascade on 6 images, whose state is stored after each piece of work, and the model."""
    rounds = schedule._round(4, 2, "nll random"), schedule._round(6, 4, "margin best", "dlr random")
    monkeypatch.setattr(schedule, "_NOISY", rounds)
    monkeypatch.setattr(block, "_STORE_EVERY", 0.0)
    recipe = tiny(
        "data.limit=24",
        "finetune.epochs=1",
        "noise.scale=0.1",
        "attack.0.samples=[3]",
        "attack.0.limit=6",
        "attack.0.eps=0.05",
    )
    return recipe, checkpoint_of(finetuned(recipe, None))


def outcome_of(recipe, source, run):
    (row,) = attack(recipe, source, run, ["strict"]).to_json()["attacks"]
    return {key: value for key, value in row.items() if key != "seconds"}


def test_a_kill_at_any_store_changes_nothing_that_comes_out(begun):
    recipe, source = begun
    with start_run("attack", recipe, QUIET, parent=str(source.path)) as run:
        whole = outcome_of(recipe, source, run)
    assert min(whole["outcomes"]["last_fall"]["mean"]) > 0
    for kills in itertools.count():
        run = start_run("attack", recipe, QUIET, parent=str(source.path))
        dead = killed_at(7 * kills, run.path, lambda run=run: outcome_of(recipe, source, run))
        run.close()
        if not dead:
            break
        with Run.open(run.path, QUIET) as again:
            assert outcome_of(recipe, source, again) == whole, kills
    assert kills >= 10


def test_a_stop_between_two_passes_loses_no_finished_step(begun, monkeypatch):
    recipe, source = begun
    monkeypatch.setattr(block, "_STORE_EVERY", 1e9)
    made, seen = [], []
    count, stand = Pace._count, Work.stand

    def counted(pace, images):
        count(pace, images)
        made.append(images)

    monkeypatch.setattr(Pace, "_count", counted)
    with start_run("attack", recipe, QUIET, parent=str(source.path)) as run:
        whole = outcome_of(recipe, source, run)
    passes, largest = sum(made), max(made)
    made.clear()

    def stop_now_and_then(work, show):
        seen.append(len(made))
        if len(seen) % 11 == 0:
            work._stop = Stop(requested=True)
        stand(work, show)

    monkeypatch.setattr(Work, "stand", stop_now_and_then)
    run = start_run("attack", recipe, QUIET, parent=str(source.path))
    for sessions in itertools.count(1):
        try:
            with Run.open(run.path, QUIET) if sessions > 1 else run as opened:
                resumed = outcome_of(recipe, source, opened)
            break
        except Interrupted:
            continue
    assert resumed == whole
    assert sessions > 3
    # Each stop costs the passes of one unfinished step or race at most, which go through the model in a few pieces.
    assert sum(made) <= passes + sessions * 8 * largest
