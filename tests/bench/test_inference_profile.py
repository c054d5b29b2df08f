"""benchmarks/inference_profile.py tells the parts of a smoothed PGD step and of a vote apart."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from rushkit import noises
from rushkit.speed.bench import attack_contestants, vote_contestants
from rushkit.system import Machine

FILE = Path(__file__).parents[2] / "benchmarks" / "inference_profile.py"
HERE = Machine(torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def module():
    # The scripts of benchmarks/ import each other by name.
    if str(FILE.parent) not in sys.path:
        sys.path.append(str(FILE.parent))
    spec = importlib.util.spec_from_file_location("bench_inference_profile", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_inference_profile"] = module
    spec.loader.exec_module(module)
    return module


def test_a_step_is_half_of_what_two_more_take(module):
    step = module.half_of_two({"convolution": 7.0, "noise": 1.0, "copies": 2.0}, {"convolution": 3.0, "copies": 2.5})
    assert step == {"convolution": 2.0, "noise": 0.5, "copies": 0.0}


@pytest.mark.parametrize("make", [attack_contestants, vote_contestants])
def test_noise_counts_as_noise_and_the_bare_passes_have_none(module, make):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.LazyLinear(10))
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    network(x)
    calls = make(network.requires_grad_(False), module.Marked(noises.create("gaussian", std=0.1)), x, 4, HERE)
    ours = "three" if make is attack_contestants else "ours"
    found = module.by_kind(calls, {ours: "ours", "bare float32": "bare"}, HERE)
    assert found["ours"]["noise"] > 0
    assert found["bare"].keys() >= {"convolution", "other"}
    assert "noise" not in found["bare"]
