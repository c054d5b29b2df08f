"""Early stopping by validation: it ends where the figures say so, wherever the run was killed."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_runs import QUIET, calling_after_step, checkpoint_of, die, finetuned

from rushkit.errors import CheckpointError, UsageError
from rushkit.report.terminal.headline import figures
from rushkit.results import read
from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.setup.start import start_run
from rushkit.training.finetune import finetune
from rushkit.training.validation import HeldOut

# The best is that of epoch 2; two epochs without a better one end with epoch 4.
ACCURACIES = (0.2, 0.5, 0.5, 0.4, 0.9, 0.9, 0.9)
HELD_OUT = ("data.validation=20", "finetune.freeze=none", "finetune.epochs=7")
PATIENT = (*HELD_OUT, "finetune.validation.patience=2")


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    monkeypatch.setattr(HeldOut, "__call__", lambda self, done: [("validation_accuracy", ACCURACIES[done - 1])])


def epochs_of(run):
    return [line["epoch"] for line in read_metrics(run.path / "metrics.jsonl") if line["kind"] == "epoch"]


def results_of(run):
    return json.loads((run.path / "results.json").read_text())


def test_it_ends_after_so_many_epochs_without_a_better_one_and_says_so(tiny):
    run = finetuned(tiny(*PATIENT), None)
    assert epochs_of(run) == [1, 2, 3, 4]
    results = results_of(run)
    assert (results["epochs"], results["validation_accuracy"]) == (4, 0.4)
    assert results["notes"] == [
        {
            "code": "stopped-early",
            "text": "stopped early after epoch 4: no better validation accuracy than that of epoch 2, 50.0 %, for 2 "
            "epochs",
            "figures": {"epoch": 4, "best_epoch": 2, "best": 0.5},
        }
    ]
    assert f"note: {results['notes'][0]['text']}" in figures(read(run.path))
    assert checkpoint_of(run).meta["epoch"] == 4
    assert load_checkpoint(run.checkpoints.pointed("best")).meta["epoch"] == 2


def test_without_patience_all_epochs_are_trained(tiny):
    run = finetuned(tiny(*HELD_OUT), None)
    assert epochs_of(run) == [1, 2, 3, 4, 5, 6, 7]
    assert "notes" not in results_of(run)


@pytest.mark.parametrize("step", [1, 3, 5, 7, 8])
def test_killed_and_resumed_it_ends_with_the_same_epoch_and_weights(tiny, step):
    recipe = tiny(*PATIENT)
    whole = finetuned(recipe, None)
    steps = checkpoint_of(whole).meta["step"]
    assert steps >= 8
    with (
        pytest.raises(RuntimeError),
        start_run("finetune", recipe, QUIET) as run,
        calling_after_step(step, die),
    ):
        finetune(recipe, None, run)
    with Run.open(run.path, QUIET) as again:
        finetune(recipe, None, again)
    one, other = checkpoint_of(again), checkpoint_of(whole)
    assert one.meta["step"] == steps
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in other.tensors)
    assert results_of(again)["notes"] == results_of(whole)["notes"]


def test_killed_after_its_last_checkpoint_it_trains_no_further(tiny, monkeypatch):
    recipe = tiny(*PATIENT)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_results", lambda *_: die())
        with pytest.raises(RuntimeError), start_run("finetune", recipe, QUIET) as run:
            finetune(recipe, None, run)
    with Run.open(run.path, QUIET) as again:
        finetune(recipe, None, again)
    assert epochs_of(again) == [1, 2, 3, 4]
    assert results_of(again)["notes"][0]["code"] == "stopped-early"


def test_only_epochs_that_were_looked_at_end_it(tiny, monkeypatch):
    # Robust accuracy is looked at every second epoch: 2 and 4 see no gain over epoch 2, 4 being two epochs later.
    def figures(self, done):
        robust = [("validation_robust_accuracy", 0.3)] if done % 2 == 0 else []
        return [("validation_accuracy", 0.1 * done), *robust]

    monkeypatch.setattr(HeldOut, "__call__", figures)
    attacked = ("finetune.validation.steps=1", "finetune.validation.choose=robust", "finetune.validation.every=2")
    run = finetuned(tiny(*HELD_OUT, *attacked, "finetune.validation.patience=1"), None)
    assert epochs_of(run) == [1, 2, 3, 4]


def test_it_needs_validation_images(tiny):
    with pytest.raises(UsageError, match="stops early by validation images, and no training images are held out"):
        finetuned(tiny("finetune.freeze=none", "finetune.validation.patience=2"), None)


def test_another_patience_is_another_training(tiny):
    with (
        pytest.raises(RuntimeError),
        start_run("finetune", tiny(*PATIENT), QUIET) as run,
        calling_after_step(5, die),
    ):
        finetune(tiny(*PATIENT), None, run)
    with pytest.raises(CheckpointError, match="patience"), Run.open(run.path, QUIET) as again:
        finetune(tiny(*HELD_OUT, "finetune.validation.patience=3"), None, again)
