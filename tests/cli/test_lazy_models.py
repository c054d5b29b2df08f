"""``--model`` and ``--surrogate`` name modules whose layers learn their size from the first batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LazyLinear(10)

    def forward(self, x):
        return self.layer((x * 3).round().flatten(1))


class Smooth(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LazyLinear(10)

    def forward(self, x):
        return self.layer(3 * x.flatten(1))
"""
MODEL = ("--model", "net.py:Net", "--data", "digits", "--input-size", "8", "--limit", "4")


@pytest.fixture(autouse=True)
def net(folder) -> Path:
    (folder / "net.py").write_text(NET)
    return folder / "net.py"


def test_such_a_model_is_measured_with_the_same_weights_at_every_start(cli, folder):
    for _ in range(2):
        said = cli("evaluate", *MODEL, "-q")
        assert said.code == 0, said.err
    hashes = [json.loads(run.read_text())["model"]["hash"] for run in (folder / "runs").glob("*/run.json")]
    assert len(hashes) == 2
    assert len(set(hashes)) == 1


def test_such_a_surrogate_has_slopes(cli, folder):
    attack = ("attack", *MODEL, "--type", "pgd", "--eps", "0.1", "--protocol", "paper", "--set", "attack.0.steps=2")
    said = cli(*attack, "--surrogate", "net.py:Smooth")
    assert said.code == 0, said.err
    assert "gradients of net.py:Smooth" in said.out
