"""system.recompute: a run is the same to the last bit, and a step that would not fit switches it on by itself."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from batches import batch_of
from tiny_runs import QUIET, checkpoint_of, finetuned
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from rushkit.errors import UsageError
from rushkit.models.recompute import repeated_blocks
from rushkit.setup.start import machine_of, start_run
from rushkit.training import recomputation
from rushkit.training.finetune import finetuning_job
from rushkit.training.recomputation import recompute_where_needed, step_memory

pytestmark = pytest.mark.usefixtures("untouched_global_state")

BLOCKS = ("backbone.name=resnet10-small", "data.limit=24", "finetune.batch_size=12", "finetune.freeze=none")


def prepared(tiny, *changes) -> tuple[bool, torch.nn.Module]:
    """Whether the blocks of a job's network were changed, and the network."""
    recipe = tiny(*BLOCKS, *changes)
    machine = machine_of(recipe)
    job, _, _ = finetuning_job(recipe, None, machine)
    with start_run("finetune", recipe, QUIET) as run:
        return recompute_where_needed(job, run, machine), job.network


def recomputing(network) -> bool:
    return any(type(block).__mro__[1].__name__ == "_Recomputed" for block in repeated_blocks(network))


def trained(tiny, how: str) -> tuple[dict[str, torch.Tensor], Counter[str]]:
    """The weights that a run ends with, and the passes of convolutions in stem and blocks while it trains."""
    passes: Counter[str] = Counter()

    def count(module, inputs):
        if isinstance(module, nn.Conv2d) and module.training:
            passes["stem" if module.in_channels == 3 else "blocks"] += 1

    handle = register_module_forward_pre_hook(count)
    try:
        run = finetuned(tiny(*BLOCKS, "finetune.epochs=1", f"system.recompute={how}"), None)
    finally:
        handle.remove()
    return dict(checkpoint_of(run).tensors), passes


def test_a_run_that_recomputes_passes_its_blocks_twice_and_ends_with_the_same_weights(tiny):
    (kept, once), (again, twice) = (trained(tiny, how) for how in ("off", "on"))
    assert (twice["stem"], twice["blocks"]) == (once["stem"], 2 * once["blocks"])
    assert kept.keys() == again.keys()
    assert [name for name in kept if not torch.equal(kept[name], again[name])] == []


@pytest.mark.parametrize("how, room, expected", [("auto", 1, True), ("auto", 1 << 40, False), ("off", 1, False)])
def test_it_is_switched_on_where_memory_does_not_suffice(tiny, monkeypatch, how, room, expected):
    monkeypatch.setattr(recomputation, "device_memory", lambda device: room)
    changed, network = prepared(tiny, f"system.recompute={how}")
    assert changed is recomputing(network) is expected


# Options of an objective, and how many passes of the batch it keeps.
KEPT = [
    (("objective=consistency", "draws=5"), 5),
    (("objective=macer", "draws=16"), 16),
    (("objective=smoothmix", "draws=3"), 6),
    (("objective=smoothmix", "draws=3", "eta=0"), 3),
    (("objective=smoothadv", "draws=4"), 4),
    (("objective=smoothadv", "draws=4", "train_noise=one"), 4),
    (("objective=cross-entropy",), 1),
    (("objective=trades",), 2),
    (("objective=stability",), 2),
]


def job_of(tiny, options):
    recipe = tiny("noise.name=gaussian", "noise.std=0.25", *(f"finetune.{option}" for option in options))
    return finetuning_job(recipe, None, machine_of(recipe))[0], machine_of(recipe)


@pytest.mark.parametrize(
    "options, passes",
    [
        *KEPT,
        (("objective=pgd-at",), 2),
        (("objective=smoothadv", "draws=4", "chunk=2"), 4),
        (("objective=smoothadv", "draws=4", "train_noise=one", "chunk=2"), 2),
        (("objective=smoothadv", "draws=4", "train_noise=one", "chunk=9"), 4),
    ],
    ids=str,
)
def test_the_memory_of_a_step_is_that_of_the_passes_that_the_objective_keeps(tiny, monkeypatch, options, passes):
    monkeypatch.setattr(recomputation, "memory_an_image", lambda *_: 1000)
    assert step_memory(*job_of(tiny, options)) == passes * 20 * 1000


@pytest.mark.parametrize("options, passes", KEPT, ids=str)
def test_an_objective_keeps_as_many_passes_as_it_says(tiny, monkeypatch, options, passes):
    job, _ = job_of(tiny, options)
    kept = [0]

    def backward(*inputs, grad=torch.autograd.grad, **named):
        kept.append(0)
        return grad(*inputs, **named)

    def forward(network, inputs):
        kept[-1] += len(inputs[0]) if torch.is_grad_enabled() else 0

    monkeypatch.setattr(torch.autograd, "grad", backward)
    job.network.register_forward_pre_hook(forward)
    images, labels = job.split.images[:20], job.split.labels[:20]
    list(job.objective.losses(job.network, job.memory, batch_of(images, labels, noise=job.noise)))
    assert max(kept) == passes * 20


def test_it_can_be_asked_for(tiny):
    changed, network = prepared(tiny, "system.recompute=on")
    assert changed is recomputing(network) is True


def test_without_blocks_it_is_refused_if_asked_for_and_left_off_otherwise(tiny, monkeypatch):
    with pytest.raises(UsageError, match="backbone 'toy' has no repeated blocks"):
        prepared(tiny, "backbone.name=toy", "system.recompute=on")
    monkeypatch.setattr(recomputation, "device_memory", lambda device: 1)
    assert prepared(tiny, "backbone.name=toy")[0] is False


def test_with_compiling_it_is_refused_if_asked_for_and_left_off_otherwise(tiny, monkeypatch):
    with pytest.raises(UsageError, match="compiled network"):
        prepared(tiny, "system.recompute=on", "system.compile=on")
    monkeypatch.setattr(recomputation, "device_memory", lambda device: 1)
    assert prepared(tiny, "system.compile=on")[0] is False
