"""Images of many sizes before a model that names the size of its own, as those of timm do."""

from __future__ import annotations

import json

import pytest
from PIL import Image

NET = """
from torch import nn


class Net(nn.Module):
    pretrained_cfg = {"input_size": SIZE}

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))

    def forward(self, x):
        assert x.shape[2:] == (20, 20)
        return self.layers(x)
"""
MODEL = ("--model", "net.py:Net", "--data", "val", "--samples", "1")


@pytest.fixture
def write(folder):
    """``write(size)``: a folder of images of several sizes, and a model that names this size."""
    for number, name in enumerate(["cat", "dog"]):
        (folder / "val" / name).mkdir(parents=True)
        for side in (24, 31):
            Image.new("RGB", (side, side + number), (9, 9, 9)).save(folder / "val" / name / f"{side}.png")

    def of(size: object) -> None:
        (folder / "net.py").write_text(NET.replace("SIZE", repr(size)))

    return of


def test_the_models_own_size_is_taken_and_said(write, cli, folder):
    write((3, 20, 20))
    said = cli("evaluate", *MODEL)
    assert said.code == 0, said.err
    assert "brought to 20x20, which net.py:Net names for itself" in said.out
    (run,) = (folder / "runs").iterdir()
    assert "image_size = 20" in (run / "recipe.toml").read_text()
    assert json.loads((run / "results.json").read_text())["accuracy"][0]["images"] == 4


@pytest.mark.parametrize("size", [(3, 20, 30), (3, 0, 0), "20", (3, 4096, 4096), (20, 20), None])
def test_a_size_that_is_none_is_not_taken(write, cli, size):
    write(size)
    said = cli("evaluate", *MODEL)
    assert said.code != 0
    assert "20x20, which" not in said.out + said.err


def test_what_the_user_says_comes_before(write, fails):
    write((3, 20, 20))
    assert "AssertionError" in fails(3, "evaluate", *MODEL, "--input-size", "16").err
