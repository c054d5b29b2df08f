"""What a training step and a certificate do not do, because a GPU would wait for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from half_spaces import sampler_of
from tiny_runs import finetuned
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from rushkit import system
from rushkit.certification import draws
from rushkit.certification.tasks import Task
from rushkit.data.memory import Split
from rushkit.setup.components import to_float
from rushkit.training import mixing
from rushkit.units import UNIT

GPU = torch.device("cuda", 0)


class Crossings(TorchDispatchMode):
    """Counts the copies from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        devices = {each.device for each in arguments if isinstance(each, Tensor)}
        self.count += isinstance(made, Tensor) and bool(devices) and made.device not in devices
        return made


def test_the_rows_of_a_batch_need_no_copy_from_the_host_after_the_first_of_an_epoch(monkeypatch):
    monkeypatch.setattr(mixing, "resident", lambda split, device: (split.images.to(GPU), split.labels.to(GPU)))
    with FakeTensorMode():
        split = Split(torch.zeros((40, 3, 8, 8), dtype=torch.uint8), torch.zeros(40, dtype=torch.int64), "fake")
        feed = mixing.Feed(split, None, 8, 0, "pretrain", GPU)
        with Crossings() as first:
            feed.rows(0, 0, 5)
        with Crossings() as later:
            rows = [feed.rows(0, index, 5) for index in range(1, 5)]
    assert (first.count, later.count) == (1, 0)
    assert {(batch.images.shape, batch.images.device, batch.labels.device) for batch in rows} == {
        ((8, 3, 8, 8), GPU, GPU)
    }


def test_the_order_of_an_epoch_is_that_of_its_seed():
    images = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1)
    feed = mixing.Feed(Split(images, None, "numbers"), None, 8, 3, "pretrain", torch.device("cpu"))
    seen = torch.cat([feed.rows(2, index, 5).images.flatten() for index in range(5)])
    order = torch.randperm(40, generator=system.generator(3, "pretrain-order", 2))
    assert torch.equal(seen.long(), order)


# The compiler's own imports warn, of what is no concern of its users.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_neither_an_incomplete_batch_nor_validation_is_compiled(tiny, monkeypatch):
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def compile_with_it(network):
        network._compiled_call_impl = torch.compile(network._call_impl, backend=backend)

    monkeypatch.setattr(system, "compile_obstacle", lambda device: None)
    monkeypatch.setattr(nn.Module, "compile", compile_with_it)
    made = []
    for changes in (("finetune.drop_last=true",), ("data.validation=10",)):
        torch._dynamo.reset()
        graphs.clear()
        # 48 images in batches of 20: the 8 that are left are dropped, or are a batch.
        finetuned(tiny("system.compile=on", "finetune.batch_size=20", *changes), None)
        made.append(len(graphs))
    assert made[0] == made[1] > 0


def test_global_generators_are_kept_once_a_batch(tiny, monkeypatch):
    kept: list[int] = []
    get_state = np.random.get_state
    monkeypatch.setattr(np.random, "get_state", lambda: kept.append(0) or get_state())
    counts = []
    for epochs in (1, 2):
        kept.clear()
        finetuned(tiny(f"finetune.epochs={epochs}", "finetune.batch_size=16"), None)
        counts.append(len(kept))
    assert counts[1] - counts[0] == 3


def test_the_units_of_an_image_share_one_copy_of_it(monkeypatch):
    sampler, copied = sampler_of([0, 255]), []
    monkeypatch.setattr(draws, "to_float", lambda image: copied.append(image) or to_float(image))
    counts = sampler.count_task(Task("estimation", range(2), 0, 3 * UNIT))
    assert len(copied) == 2
    assert counts.votes.tolist() == [[3 * UNIT, 0], [0, 3 * UNIT]]
