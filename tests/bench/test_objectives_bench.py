"""benchmarks/objectives.py sees the passes of a step, as BASELINES counts them, and makes the same ones bare."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import TINY

from rushkit.training.bare_passes import replay, watching
from rushkit.training.optimizer import build_optimizer

FILE = Path(__file__).parents[2] / "benchmarks" / "objectives.py"


@pytest.fixture(scope="module")
def bench():
    # The scripts of benchmarks/ import each other by name.
    if str(FILE.parent) not in sys.path:
        sys.path.append(str(FILE.parent))
    spec = importlib.util.spec_from_file_location("bench_objectives", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_objectives"] = module
    spec.loader.exec_module(module)
    return module


# Options, F, and how many optimizer steps a batch takes.
@pytest.mark.parametrize(
    ("name", "options", "passes", "steps"),
    [
        ("cross-entropy", {}, 3, 1),
        ("rush", {}, 6, 1),
        ("advcl", {"steps": 2}, 3 + 2 * 2 * 2 + 5 * 3, 1),
        ("deacl", {"steps": 4}, 1 + 4 * 2 + 6, 1),
        ("pgd-at", {"steps": 4}, 4 * 2 + 3, 1),
        ("trades", {"steps": 4}, 1 + 4 * 2 + 6, 1),
        ("free", {"replays": 3}, 3 * 3, 3),
        ("smoothadv", {"steps": 4, "draws": 2}, 4 * 2 * 2 + 3 * 2, 1),
        ("consistency", {}, 3 * 2, 1),
        ("macer", {"draws": 4}, 3 * 4, 1),
    ],
)
def test_the_passes_are_those_of_the_specification(bench, name, options, passes, steps):
    stage = "pretrain" if name in ("rush", "deacl", "advcl") else "finetune"
    changes = [change for change in TINY if "batch_size" not in change]
    job, machine = bench.job_of(name, 8, [*changes, *(f"{stage}.{key}={value}" for key, value in options.items())])
    contestants, seen = bench.step_contestants(job, machine)
    assert seen.passes_an_image(8) == passes
    assert [bool(group) for group in seen.groups] == [True] * steps + [False]
    optimizer = build_optimizer(job.settings.optimizer, job.trained, machine.device)
    before = [parameter.detach().clone() for parameter in job.trained]
    for contestant in contestants.values():
        contestant()
    # Rounds of a bench train nothing: a network that diverged once ended a bench, and its passes would be other work.
    assert all(map(torch.equal, before, job.trained))
    with watching(job, optimizer) as again:
        replay(seen, optimizer, machine)
    shapes = [[(one.kind, one.training, one.x.shape) for one in group] for group in seen.groups]
    assert [[(one.kind, one.training, one.x.shape) for one in group] for group in again.groups] == shapes
