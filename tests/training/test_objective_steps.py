"""An objective may take several steps a batch and remember things; what breaks the rules of the loop is refused."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from teacher import Teacher
from tiny_runs import QUIET, checkpoint_of, finetuned
from torch import nn
from torch.nn import functional as F

from rushkit import objectives
from rushkit.errors import CheckpointError, Interrupted, PluginError
from rushkit.objectives.cross_entropy import CrossEntropy
from rushkit.registries import objectives as registry
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.setup.start import machine_of, start_run
from rushkit.training import loop
from rushkit.training.finetune import finetune, finetuning_job

pytestmark = pytest.mark.usefixtures("untouched_global_state")


class Careless(CrossEntropy):
    """Breaks one rule of the loop."""

    def __init__(self, rule: str = "") -> None:
        super().__init__()
        self.rule = rule

    def attach(self, network, shape):
        return {} if self.rule == "memory" else nn.Module()

    def losses(self, network, memory, batch):
        (loss,) = super().losses(network, memory, batch)
        if self.rule == "no_grad":
            with torch.no_grad():
                yield loss
        elif self.rule == "autocast":
            with torch.autocast("cpu", torch.bfloat16):
                yield loss
        elif self.rule == "detached":
            yield loss.detach()
        elif self.rule == "vector":
            yield torch.stack([loss, loss])
        elif self.rule == "number":
            yield 0.5
        elif self.rule != "nothing":
            yield loss


class OfOldTimes:
    """Written for an interface of long ago."""

    stage = "finetune"

    def module(self, num_features, num_classes):
        return nn.Linear(num_features, num_classes)

    def inputs(self, images, views, noise, generator):
        return views(images, generator)

    def loss(self, outputs, labels):
        return F.cross_entropy(outputs, labels)


@pytest.fixture(autouse=True)
def registered():
    made = {"teacher": Teacher, "careless": Careless, "of-old-times": OfOldTimes, "at-first": AtFirst}
    for name, factory in made.items():
        objectives.register(name)(factory)
    yield
    for name, factory in made.items():
        registry.unregister(name, factory.__module__.partition(".")[0])


def teaching(tiny, *changes):
    return tiny("finetune.objective=teacher", "finetune.freeze=none", "finetune.optimizer.name=adamw", *changes)


def test_the_memory_trains_follows_is_saved_once_and_knows_the_whole_batch(tiny):
    recipe = teaching(tiny)
    job, _, _ = finetuning_job(recipe, None, machine_of(recipe))
    assert job.objective.shape == (20, 3, 8, 8)
    before = {name: tensor.clone() for name, tensor in job.tensors().items()}
    after = checkpoint_of(finetuned(recipe, None)).tensors
    remembered = {name for name in after if name.startswith("training.memory.")}
    assert remembered == {name for name in before if name.startswith("training.memory.")}
    assert not any(name.startswith("training.memory.head.") for name in remembered)
    for name in ("bridge.weight", "target.head.weight", "target.encoder.0.weight", "last"):
        assert not torch.equal(after[f"training.memory.{name}"], before[f"training.memory.{name}"]), name
    # Followed three times at a rate of 0.1 in each of two epochs, it lags behind.
    assert not torch.equal(after["training.memory.target.head.weight"], after["head.weight"])


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_memory_is_resumed_bit_for_bit(tiny, at_step, step):
    recipe = teaching(tiny)
    whole = checkpoint_of(finetuned(recipe, None)).tensors
    at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = start_run("finetune", recipe, QUIET)
    with pytest.raises(Interrupted), run:
        finetune(recipe, None, run)
    with Run.open(run.path, QUIET) as resumed:
        finetune(recipe, None, resumed)
    again = checkpoint_of(resumed).tensors
    assert again.keys() == whole.keys()
    assert [name for name in whole if not torch.equal(again[name], whole[name])] == []


def test_another_memory_than_that_of_the_checkpoint_is_refused(tiny, at_step, monkeypatch):
    recipe = teaching(tiny)
    at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = start_run("finetune", recipe, QUIET)
    with pytest.raises(Interrupted), run:
        finetune(recipe, None, run)
    attach = Teacher.attach

    def wider(self, network, shape):
        memory = attach(self, network, shape)
        memory.last = torch.zeros(3)
        return memory

    monkeypatch.setattr(Teacher, "attach", wider)
    with Run.open(run.path, QUIET) as resumed, pytest.raises(CheckpointError, match="what the objective remembers"):
        finetune(recipe, None, resumed)


@pytest.mark.parametrize(
    "rule, words",
    [
        ("no_grad", "yields inside a no_grad"),
        ("autocast", "yields inside a no_grad, inference_mode or autocast"),
        ("detached", "not a loss to train on"),
        ("vector", "not a loss to train on"),
        ("number", "not a loss to train on"),
        ("nothing", "yields no loss"),
        ("memory", "Careless attaches dict, not a torch module"),
    ],
)
def test_an_objective_that_breaks_a_rule_is_named(tiny, rule, words):
    recipe = tiny("finetune.objective=careless", f"finetune.rule={rule}")
    with pytest.raises(PluginError, match=words):
        finetuned(recipe, None)
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")


def test_an_objective_that_keeps_the_rules_trains(tiny):
    plain, kept = (
        checkpoint_of(finetuned(tiny(f"finetune.objective={name}"), None)).tensors
        for name in ("cross-entropy", "careless")
    )
    assert all(torch.equal(kept[name], plain[name]) for name in plain)


def test_an_objective_of_an_old_interface_gets_one_clear_message(tiny):
    with pytest.raises(PluginError, match="its OfOldTimes has no head, losses"):
        finetuned(tiny("finetune.objective=of-old-times"), None)


class AtFirst(CrossEntropy):
    """Draws noise in the first epoch alone."""

    def losses(self, network, memory, batch):
        x = batch.view()
        if batch.epoch < 1:
            x = x + batch.noise(x)
        yield batch.mean(F.cross_entropy(network(x), batch.labels, reduction="none"))


@pytest.mark.parametrize(("noise", "drawn"), [("uniform", True), ("none", False)])
def test_a_checkpoint_says_whether_noise_was_drawn(tiny, noise, drawn):
    saved = checkpoint_of(finetuned(tiny(f"noise.name={noise}"), None))
    assert saved.meta["noise_drawn"] is drawn


def test_a_checkpoint_of_a_resumed_run_tells_of_noise_that_was_drawn_before_the_stop(tiny, at_step):
    recipe = tiny("finetune.objective=at-first")
    at_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = start_run("finetune", recipe, QUIET)
    with pytest.raises(Interrupted), run:
        finetune(recipe, None, run)
    with Run.open(run.path, QUIET) as resumed:
        finetune(recipe, None, resumed)
    assert checkpoint_of(resumed).meta["noise_drawn"] is True


def test_the_optimizer_takes_the_gradients_that_the_ranks_agree_on(tiny, monkeypatch):
    def to_zero(parameters):
        for parameter in parameters:
            parameter.grad.zero_()

    recipe = tiny("finetune.freeze=none", "finetune.optimizer.weight_decay=0", "finetune.optimizer.momentum=0")
    before = finetuning_job(recipe, None, machine_of(recipe))[0].network.head.weight.clone()
    moved = checkpoint_of(finetuned(recipe, None)).tensors["head.weight"]
    monkeypatch.setattr(loop.ranks, "average_gradients", to_zero)
    kept = checkpoint_of(finetuned(recipe, None)).tensors["head.weight"]
    assert torch.equal(kept, before)
    assert not torch.equal(moved, before)


class Noting(CrossEntropy):
    """Notes the part of its images that have an even label."""

    def __init__(self, name: str = "even") -> None:
        super().__init__()
        self.name = name

    def losses(self, network, memory, batch):
        yield from super().losses(network, memory, batch)
        batch.note(**{self.name: batch.mean((batch.labels % 2 == 0).float())})


@pytest.fixture
def noting():
    objectives.register("noting")(Noting)
    yield
    registry.unregister("noting", Noting.__module__.partition(".")[0])


def test_what_an_objective_notes_stands_in_the_metrics_of_its_step(tiny, noting):
    lines = read_metrics(finetuned(tiny("finetune.objective=noting"), None).path / "metrics.jsonl")
    job, _, _ = finetuning_job(recipe := tiny(), None, machine_of(recipe))
    share = (job.split.labels % 2 == 0).double().mean().item()
    noted = [line["even"] for line in lines if line["kind"] == "step"]
    assert all("even" not in line for line in lines if line["kind"] == "epoch")
    # 48 images in batches of 20, 20 and 8.
    for epoch in (noted[:3], noted[3:]):
        assert (20 * epoch[0] + 20 * epoch[1] + 8 * epoch[2]) / 48 == pytest.approx(share)


def test_a_note_by_a_name_of_the_loops_own_is_refused(tiny, noting):
    with pytest.raises(PluginError, match="the objective notes lr, which the training itself writes"):
        finetuned(tiny("finetune.objective=noting", "finetune.name=lr"), None)


def test_a_network_in_training_is_given_images_in_the_layout_of_its_filters(tiny):
    layouts = []

    class Watching(CrossEntropy):
        def losses(self, network, memory, batch):
            def note(module, given):
                layouts.append(given[0].is_contiguous(memory_format=torch.channels_last))

            with network.encoder.register_forward_pre_hook(note):
                yield from super().losses(network, memory, batch)

    objectives.register("watching")(Watching)
    try:
        finetuned(tiny("finetune.objective=watching"), None)
    finally:
        registry.unregister("watching", Watching.__module__.partition(".")[0])
    assert layouts == [True] * 6
    network, x = nn.Identity(), torch.zeros(2, 3, 4, 4)
    with loop.given_channels_last(network):
        assert network(x).is_contiguous(memory_format=torch.channels_last)
    assert network(x).is_contiguous()
