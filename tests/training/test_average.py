"""The moving average of the weights: what it is, and that it is what is measured, saved and resumed."""

from __future__ import annotations

import json
import os
import signal
from fractions import Fraction

import pytest
import torch
from teacher import Teacher
from thread_ranks import run_ranks
from tiny_runs import QUIET, checkpoint_of, finetuned
from torch import nn

from rushkit import objectives
from rushkit.distributed import ranks
from rushkit.errors import CheckpointError, Interrupted, UsageError
from rushkit.models.network import Network
from rushkit.objectives.cross_entropy import CrossEntropy
from rushkit.registries import objectives as registry
from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.setup.model import load_classifier
from rushkit.setup.start import machine_of, start_run
from rushkit.training import loop
from rushkit.training.average import Average
from rushkit.training.batch import Draws, StepBatch
from rushkit.training.finetune import finetune, finetuning_job
from rushkit.training.loop import train, watching_steps
from rushkit.training.mixing import Feed
from rushkit.training.optimizer import build_optimizer


def small() -> Network:
    return Network(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.Linear(4, 2)).double()


def test_weights_that_stay_are_their_own_average():
    network = small()
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    average = Average(network, 0.995)
    for batch in range(5):
        average.follow(batch)
    assert all(torch.equal(weight, before[name]) for name, weight in average.network.named_parameters())


@pytest.mark.parametrize(
    ("decay", "steps"),
    [
        (0.995, [Fraction(1, 10), Fraction(2, 11), Fraction(3, 12), Fraction(4, 13), Fraction(5, 14)]),
        (0.25, [Fraction(1, 10), Fraction(2, 11), Fraction(1, 4), Fraction(1, 4), Fraction(1, 4)]),
    ],
)
def test_the_average_of_five_batches_has_its_closed_form(decay, steps):
    network = small()
    average = Average(network, decay)
    expected, weight = Fraction(3), average.network.head.weight
    weight.fill_(3.0)
    for batch, tau in enumerate(steps):
        network.head.weight.data.fill_(batch**2)
        average.follow(batch)
        expected = tau * expected + (1 - tau) * batch**2
    assert torch.allclose(weight, torch.full_like(weight, float(expected)), rtol=0, atol=1e-14)


def test_the_statistics_of_batch_norm_are_the_live_ones_and_not_the_same_memory():
    network = small()
    average = Average(network, 0.9)
    live, kept = network.encoder[1], average.network.encoder[1]
    network.encoder(torch.rand(4, 3, 2, 2, dtype=torch.float64))
    average.follow(0)
    assert torch.equal(kept.running_mean, live.running_mean)
    assert torch.equal(kept.num_batches_tracked, live.num_batches_tracked)
    live.running_mean.add_(1)
    assert not torch.equal(kept.running_mean, live.running_mean)


def test_averages_are_restored_with_the_live_weights_and_statistics():
    network = small()
    average = Average(network, 0.9)
    network.encoder(torch.rand(4, 3, 2, 2, dtype=torch.float64))
    network.head.weight.data.fill_(5.0)
    average.follow(0)
    live = {name: weight.detach().clone() for name, weight in average.live_weights().items()}
    resumed = small()
    restored = Average(resumed, 0.9)
    # What a checkpoint holds under plain names: the averages, and the statistics.
    resumed.load_state_dict(average.network.state_dict())
    restored.restore(live)
    assert all(map(torch.equal, restored.network.state_dict().values(), average.network.state_dict().values()))
    assert all(map(torch.equal, resumed.state_dict().values(), network.state_dict().values()))


def averaging(tiny, *changes, decay=0.3):
    return tiny("finetune.freeze=none", f"finetune.average.decay={decay}", "data.validation=20", *changes)


def test_a_checkpoint_holds_the_averages_and_what_it_takes_to_go_on(tiny):
    recipe = averaging(tiny)
    machine = machine_of(recipe)
    job, _, _ = finetuning_job(recipe, None, machine)
    expected = {name: weight.detach().double() for name, weight in job.network.named_parameters()}
    steps = []

    def note(step):
        tau = min(0.3, step / (9 + step))
        steps.append(tau)
        for name, weight in job.network.named_parameters():
            expected[name] = tau * expected[name] + (1 - tau) * weight.detach().double()

    with start_run("finetune", recipe, QUIET) as run, watching_steps(note):
        train(job, run, machine, 0)
    assert steps == pytest.approx([0.1, 2 / 11, 0.25, 0.3, 0.3, 0.3])
    saved = checkpoint_of(run).tensors
    for name, weight in job.network.named_parameters():
        torch.testing.assert_close(saved[name].double(), expected[name], rtol=0, atol=1e-6)
        assert torch.equal(saved[f"training.live.{name}"], weight)
        assert not torch.equal(saved[name], weight)
    assert torch.equal(saved["encoder.1.running_mean"], job.network.encoder[1].running_mean)


def test_what_does_not_train_is_saved_once(tiny):
    saved = checkpoint_of(finetuned(tiny("finetune.average.decay=0.9"), None)).tensors
    live = {name for name in saved if name.startswith("training.live.")}
    assert live == {f"training.live.{name}" for name in ("encoder.1.bias", "head.weight", "head.bias")}


def test_averages_are_the_weights_that_are_validated_and_loaded_and_training_is_the_same(tiny):
    run, plain = finetuned(averaging(tiny), None), finetuned(averaging(tiny, decay=0), None)
    saved, live = checkpoint_of(run), checkpoint_of(plain).tensors
    assert all(torch.equal(saved.tensors[f"training.live.{name}"], live[name]) for name in ("head.weight", "head.bias"))
    recipe = averaging(tiny)
    network = load_classifier(saved, machine_of(recipe), fold=False).network
    assert torch.equal(network.head.weight, saved.tensors["head.weight"])
    job, _, _ = finetuning_job(recipe, None, machine_of(recipe))
    job.average.network.load_state_dict(network.state_dict())
    (validated,) = (
        line for line in read_metrics(run.path / "metrics.jsonl") if line.get("epoch") == 2 and "lr" not in line
    )
    assert dict(job.evaluate(2))["validation_accuracy"] == validated["validation_accuracy"]
    assert json.loads((run.path / "results.json").read_text())["average_decay"] == 0.3
    assert "average_decay" not in json.loads((plain.path / "results.json").read_text())


@pytest.mark.parametrize("step", [1, 3, 4])
@pytest.mark.parametrize("objective", ["cross-entropy", "teacher"])
def test_an_average_is_resumed_bit_for_bit(tiny, at_step, step, objective):
    objectives.register("teacher")(Teacher)
    try:
        recipe = averaging(tiny, f"finetune.objective={objective}", "finetune.optimizer.name=adamw")
        whole = checkpoint_of(finetuned(recipe, None)).tensors
        at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        run = start_run("finetune", recipe, QUIET)
        with pytest.raises(Interrupted), run:
            finetune(recipe, None, run)
        with Run.open(run.path, QUIET) as resumed:
            finetune(recipe, None, resumed)
    finally:
        registry.unregister("teacher", Teacher.__module__.partition(".")[0])
    again = checkpoint_of(resumed).tensors
    assert again.keys() == whole.keys()
    assert [name for name in whole if not torch.equal(again[name], whole[name])] == []


def averaged_after_an_epoch(recipe):
    """The averages after an epoch in float64, as one of any number of ranks."""
    machine = machine_of(recipe)
    job, _, _ = finetuning_job(recipe, None, machine)
    job.network.double()
    job.average.network.double()
    ranks.synchronise(job.network)
    ranks.synchronise(job.average.network)
    optimizer = build_optimizer(job.settings.optimizer, job.trained, machine.device)
    feed = Feed(job.split, None, 20, 0, "finetune", machine.device)
    draws = Draws(lambda images, source: images.double() / 255, job.noise)
    for index in range(job.steps_per_epoch):
        rows = feed.rows(0, index, job.steps_per_epoch)
        source = torch.Generator().manual_seed(index)
        batch = StepBatch(rows.images, rows.labels, 0.0, 0.0, rows.share, source, draws, 10)
        loop.train_batch(batch, job, optimizer, machine, (0, 0, index))
        job.average.follow(index)
    return {name: tensor.clone() for name, tensor in job.tensors().items()}


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_average_to_the_weights_of_one(tiny, world):
    recipe = averaging(tiny)
    alone = averaged_after_an_epoch(recipe)
    for tensors in run_ranks(averaged_after_an_epoch, world, recipe):
        assert tensors.keys() == alone.keys()
        for name, tensor in tensors.items():
            torch.testing.assert_close(tensor, alone[name], rtol=0, atol=1e-12, msg=name)


def test_a_checkpoint_without_the_live_weights_is_not_resumed(tiny, at_step):
    recipe = averaging(tiny)
    at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = start_run("finetune", recipe, QUIET)
    with pytest.raises(Interrupted), run:
        finetune(recipe, None, run)
    saved = load_checkpoint(run.checkpoints.pointed("last"))
    run.checkpoints.pointed("last").unlink()
    tensors = {name: tensor for name, tensor in saved.tensors.items() if name != "training.live.head.bias"}
    with Run.open(run.path, QUIET) as resumed:
        resumed.save_checkpoint(2, tensors, saved.meta, False)
        with pytest.raises(CheckpointError, match=r"the live weights in .* does not fit this training"):
            finetune(recipe, None, resumed)


class Headless(CrossEntropy):
    """Trains its memory alone, where the encoder is frozen; or nothing."""

    def __init__(self, remembers: bool = True) -> None:
        super().__init__()
        self.remembers = remembers

    def head(self, num_features, classes):
        return nn.Identity()

    def attach(self, network, shape):
        return nn.Linear(8, 10) if self.remembers else nn.Module()


@pytest.mark.parametrize(("remembers", "words"), [("true", "none of them trains"), ("false", "nothing trains")])
def test_an_average_of_what_never_moves_is_refused(tiny, remembers, words):
    objectives.register("headless")(Headless)
    try:
        changes = ("finetune.objective=headless", f"finetune.remembers={remembers}", "finetune.freeze=all")
        recipe = tiny(*changes, "finetune.average.decay=0.9")
        with pytest.raises(UsageError, match=words):
            finetuning_job(recipe, None, machine_of(recipe))
    finally:
        registry.unregister("headless", Headless.__module__.partition(".")[0])
