"""system.recompute: a run is the same to the last bit, and a step that would not fit switches it on by itself."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import QUIET, checkpoint_of, finetuned

from rushkit.errors import UsageError
from rushkit.models.recompute import repeated_blocks
from rushkit.setup.start import machine_of, start_run
from rushkit.training import recomputation
from rushkit.training.finetune import finetuning_job
from rushkit.training.recomputation import recompute_where_needed

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


def test_a_run_that_recomputes_ends_with_the_same_weights(tiny):
    kept, again = (
        checkpoint_of(finetuned(tiny(*BLOCKS, "finetune.epochs=1", f"system.recompute={how}"), None)).tensors
        for how in ("off", "on")
    )
    assert kept.keys() == again.keys()
    assert [name for name in kept if not torch.equal(kept[name], again[name])] == []


@pytest.mark.parametrize("how, room, expected", [("auto", 1, True), ("auto", 1 << 40, False), ("off", 1, False)])
def test_it_is_switched_on_where_memory_does_not_suffice(tiny, monkeypatch, how, room, expected):
    monkeypatch.setattr(recomputation, "device_memory", lambda device: room)
    changed, network = prepared(tiny, f"system.recompute={how}")
    assert changed is recomputing(network) is expected


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
