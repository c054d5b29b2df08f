"""benchmarks/collectives.py: what it counts of a collective, and what it makes of that on paper."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

FILE = Path(__file__).parents[2] / "benchmarks" / "collectives.py"


@pytest.fixture
def script(monkeypatch) -> ModuleType:
    # The scripts of benchmarks/ import each other by name.
    monkeypatch.syspath_prepend(str(FILE.parent))
    spec = importlib.util.spec_from_file_location("collectives", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_bytes_are_those_of_the_tensors_and_of_a_ring(script, monkeypatch):
    group = SimpleNamespace(get_world_size=lambda: 4)
    group.all_reduce = group.broadcast = group.all_gather = lambda *arguments: None
    monkeypatch.setattr(script, "distributed", group)
    watch, rows = script.Watch(), torch.zeros(10)
    group.all_reduce(rows)
    group.all_gather([rows] * 4, rows)
    part = __name__
    # 40 bytes summed, and 40 from each of four ranks.
    assert watch.payload == {part: 40 + 160}
    # Three quarters twice around the ring; then the own rows to three others.
    assert watch.sent == {part: 60 + 120}
    assert watch.calls == {part: 2}


COUNTED = {
    "batch": 512,
    "world": 8,
    "payload": {"gradients": 300e6, "SyncBatchNorm": 0, "NT-Xent": 0, "stop?": 0},
    "calls": {"gradients": 1, "SyncBatchNorm": 40, "NT-Xent": 2, "stop?": 1},
}


def test_one_gpu_sends_nothing_and_eight_send_over_the_links_inside(script):
    assert script.on_paper(1, COUNTED, grows=False)["step ms"] == pytest.approx(13)
    eight = script.on_paper(8, COUNTED, grows=False)
    # 300 MB twice, seven eighths of it, at 300 GB/s, and one latency.
    assert eight["gradients ms"] == pytest.approx(1.75 + 0.02)
    assert eight["compute ms"] == pytest.approx(13 / 8)
    assert eight["SyncBatchNorm ms"] == pytest.approx(40 * 0.02)


def test_a_batch_that_grows_keeps_the_work_of_a_gpu(script):
    stays, grows = (script.on_paper(64, COUNTED, grows) for grows in (False, True))
    assert stays["compute ms"] == grows["compute ms"] == pytest.approx(13 / 8)
    assert grows["images/s"] == pytest.approx(8 * stays["images/s"])
