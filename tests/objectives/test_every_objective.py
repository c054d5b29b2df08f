"""What holds for every objective that rushkit brings: ranks, stops, reductions, and what it leaves alone."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import batch_of, plain64
from clusterings import clustered
from reductions import NO_NOISE, REDUCTIONS
from thread_ranks import run_ranks
from tiny_runs import QUIET, checkpoint_of
from torch.nn.modules.batchnorm import _BatchNorm

from rushkit.objectives import LearnsLabels
from rushkit.objectives.attacked import Attacked
from rushkit.registries import objectives
from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.setup.components import build_objective
from rushkit.setup.start import machine_of, start_run
from rushkit.training.finetune import finetuning_job
from rushkit.training.loop import train
from rushkit.training.pretrain import pretraining_job
from rushkit.training.teacher import stand_in

NAMES = [entry.name for entry in objectives.entries() if entry.owner == "rushkit"]
TINY_FOR = {
    "finetune": ("finetune.batch_size=7", "finetune.freeze=none", "finetune.optimizer.lr=0.05"),
    "pretrain": ("pretrain.batch_size=6", "pretrain.knn.every=0"),
}
# Names with the options that they train with.
TRAININGS = [
    pytest.param(name, options, id="-".join((name, *options)))
    for name in NAMES
    if name in REDUCTIONS
    for options in (REDUCTIONS[name].trains, *REDUCTIONS[name].also)
]
# Among ranks, fine-tuning takes two batches of 7 images and one of 2, of which one of three ranks has none; stopped, it
# takes one of each in two epochs. The batches of pre-training are full ones.
AMONG_RANKS = {"finetune": ("data.limit=16", "finetune.epochs=1"), "pretrain": ("data.limit=12", "pretrain.epochs=1")}
STOPPED = {"finetune": ("data.limit=9",), "pretrain": ("data.limit=12",)}

pytestmark = pytest.mark.usefixtures("untouched_global_state")


def stage_of(name):
    return objectives.get(name).stage


def recipe_of(tiny, name, options=(), changes=NO_NOISE):
    stage = stage_of(name)
    own = [f"{stage}.{option}" for option in (f"objective={name}", *options)]
    recipe = tiny(*TINY_FOR[stage], *own, *changes)
    if stage == "pretrain" and isinstance(build_objective(recipe, recipe.pretrain), LearnsLabels):
        table = clustered(recipe, 2, 5)
        recipe = tiny(*TINY_FOR[stage], *own, *changes, f"pretrain.labels={table.path}")
    return recipe


def training_recipe(tiny, name, options, *changes):
    return recipe_of(tiny, name, options, (*REDUCTIONS[name].trains_under, *changes))


def job_of(recipe, stage):
    """The job of a stage in float64."""
    machine = machine_of(recipe)
    if stage == "pretrain":
        job, _ = pretraining_job(recipe, machine, teacher=stand_in(recipe))
    else:
        job, *_ = finetuning_job(recipe, None, machine)
    job.network.double()
    job.memory.double()
    # Views of the objective's own are float32.
    for module in (job.network, *job.memory.children()):
        module.register_forward_pre_hook(lambda _, given: tuple(x.double() for x in given))
    return replace(job, views=in_float64(job.views))


def in_float64(views):
    """The same views in float64, at every strength."""

    def doubled(images, source):
        return views(images, source).double()

    doubled.weakened = lambda strength: in_float64(views.weakened(strength))
    return doubled


def trained(recipe, stage):
    """Train, and return what is saved in the end, the losses of the steps, and the run's folder."""
    job = job_of(recipe, stage)
    with start_run(stage, recipe, QUIET) as run:
        train(job, run, machine_of(recipe), recipe.system.seed)
    losses = [row["loss"] for row in read_metrics(run.metrics.path) if row["kind"] == "step"]
    return {name: tensor.clone() for name, tensor in job.tensors().items()}, losses, run.path


def global_state():
    torch_state, numpy_state, state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    return torch_state.tolist(), numpy_state[1].tolist(), numpy_state[2:], state


def step_of(tiny, name, options=(), noise=NO_NOISE):
    """An objective with its network and memory, and a batch of seven images, in float64."""
    stage = stage_of(name)
    job = job_of(recipe_of(tiny, name, options, (*noise, *AMONG_RANKS[stage])), stage)
    job.set_modes()
    labels = job.labels if stage == "pretrain" else job.split.labels
    labels = None if labels is None else labels[:7]
    return job, batch_of(job.split.images[:7], labels, views=plain64, noise=job.noise, classes=len(job.classes))


def losses_and_gradients(job, batch):
    """The losses of a batch, and the gradients of each for what trains of the network; no optimizer moves it."""
    passed = []
    for loss in job.objective.losses(job.network, job.memory, batch):
        job.network.zero_grad()
        loss.backward()
        learning = [parameter for parameter in job.network.parameters() if parameter.requires_grad]
        passed.append((loss.detach(), [parameter.grad.clone() for parameter in learning]))
    return passed


def batches_tracked(job):
    """How many passes moved the statistics of each BatchNorm layer."""
    return [int(layer.num_batches_tracked) for layer in job.network.modules() if isinstance(layer, _BatchNorm)]


def standing(job):
    """What an objective must leave as it finds it: the modes of the network's layers, and what trains."""
    layers = [
        (type(layer), layer.training, isinstance(layer, _BatchNorm) and layer.track_running_stats)
        for layer in job.network.modules()
    ]
    return layers, [parameter.requires_grad for parameter in job.network.parameters()]


def test_every_objective_has_its_row():
    assert [name for name in NAMES if name not in REDUCTIONS] == []


@pytest.mark.parametrize(("name", "options"), TRAININGS)
def test_ranks_train_as_one_process_does(name, options, tiny):
    stage = stage_of(name)
    recipe = training_recipe(tiny, name, options, *AMONG_RANKS[stage])
    expected, losses, _ = trained(recipe, stage)
    for world in (2, 3):
        (mine, my_losses, _), *others = run_ranks(trained, world, recipe, stage)
        assert my_losses == pytest.approx(losses, abs=1e-6)
        assert mine.keys() == expected.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(mine[key], tensor, atol=1e-10, rtol=1e-10, msg=lambda text, key=key: key + text)
        # The memory too: every rank must hold the same.
        assert [key for other, *_ in others for key in mine if not torch.equal(other[key], mine[key])] == []


@pytest.mark.parametrize(("name", "options"), TRAININGS)
def test_a_stop_after_any_batch_changes_nothing(name, options, tiny, tmp_path):
    stage = stage_of(name)
    recipe = training_recipe(tiny, name, options, *STOPPED[stage], f"{stage}.save_every=1steps", f"{stage}.keep=4")
    expected, losses, folder = trained(recipe, stage)
    assert len(losses) == 4
    saved = load_checkpoint(folder / "checkpoints" / "step-000004.safetensors").tensors
    for step in (1, 2, 3):
        stopped = tmp_path / f"stopped-at-{step}"
        shutil.copytree(folder, stopped)
        (stopped / "checkpoints" / "last").write_text(f"step-{step:06d}.safetensors\n")
        job = job_of(recipe, stage)
        with Run.open(stopped, QUIET) as run:
            train(job, run, machine_of(recipe), recipe.system.seed)
        again = checkpoint_of(run).tensors
        assert again.keys() == saved.keys()
        # The momentum too.
        assert [key for key in saved if not torch.equal(again[key], saved[key])] == []
        assert [key for key, tensor in job.tensors().items() if not torch.equal(tensor, expected[key])] == []
        assert [row["loss"] for row in read_metrics(run.metrics.path) if row["kind"] == "step"] == losses


@pytest.mark.parametrize("name", [name for name in NAMES if name in REDUCTIONS and REDUCTIONS[name].base])
def test_without_its_own_part_an_objective_is_its_base(name, tiny):
    row = REDUCTIONS[name]
    reduced = losses_and_gradients(*step_of(tiny, name, row.options, row.noise))
    base = losses_and_gradients(*step_of(tiny, row.base, row.base_options, row.noise))
    assert len(reduced) == len(base)
    for (loss, gradients), (expected, of_base) in zip(reduced, base, strict=True):
        torch.testing.assert_close(loss, expected, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(gradients, of_base, atol=1e-12, rtol=1e-12)
    # And with it, something else.
    whole = losses_and_gradients(*step_of(tiny, name, row.trains, row.noise))
    assert not torch.allclose(whole[-1][0], base[-1][0], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "options"), TRAININGS)
def test_nothing_is_open_at_a_yield_and_no_draw_is_a_global_one(name, options, tiny):
    job, batch = step_of(tiny, name, options, REDUCTIONS[name].trains_under)
    before, drawn = standing(job), global_state()
    for loss in job.objective.losses(job.network, job.memory, batch):
        assert torch.is_grad_enabled()
        assert standing(job) == before
        # The gradients are the loop's: an attack leaves none.
        assert all(parameter.grad is None for parameter in job.network.parameters())
        loss.backward()
        job.network.zero_grad()
    assert standing(job) == before
    assert global_state() == drawn


@pytest.mark.parametrize("name", [name for name in NAMES if issubclass(objectives.get(name), Attacked)])
def test_the_steps_of_an_attack_move_no_statistics(name, tiny):
    """As many passes move BatchNorm after an attack of three steps as after one of one."""
    counts = []
    for steps in (1, 3):
        job, batch = step_of(tiny, name, (*REDUCTIONS[name].trains, f"steps={steps}"), REDUCTIONS[name].trains_under)
        losses_and_gradients(job, batch)
        counts.append(batches_tracked(job))
    assert counts[0] == counts[1]
    assert max(counts[0]) > 0
