"""Passes hold as many images as the machine has memory for, whatever the network and the images are."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import finetuned
from torch import nn

from rushkit import registries, system
from rushkit.certification.certify import certify
from rushkit.cli.app import main
from rushkit.evaluation.evaluate import evaluate
from rushkit.robustness.attack import attack
from rushkit.system import choose_machine
from rushkit.training.knn import features

WIDTH, SIDE = 64, 16
# Bytes that one image leaves behind for its gradient, at the least.
AN_IMAGE = 4 * WIDTH * SIDE * SIDE
MEMORY = 100 * AN_IMAGE


class Hungry(nn.Module):
    """A layer whose outputs are large; it notes how many images it was passed at once."""

    num_features = 4
    largest = 0

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(in_channels, WIDTH, 1)
        self.narrow = nn.Conv2d(WIDTH, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Hungry.largest = max(Hungry.largest, len(x))
        return self.narrow(torch.tanh(self.widen(x))).mean(dim=(2, 3))


@pytest.fixture
def hungry(monkeypatch):
    """The backbone, on a machine with memory for a hundred images."""

    def factory(in_channels: int = 3, image_size: int = 32) -> nn.Module:
        return Hungry(in_channels)

    registries.backbones.register("hungry")(factory)
    # At f609b1b nothing asks for the memory.
    monkeypatch.setattr(system, "memory_bytes", lambda: MEMORY, raising=False)
    yield
    registries.backbones.unregister("hungry", factory.__module__.partition(".")[0])


@pytest.fixture
def model(tiny, hungry):
    recipe = tiny("backbone.name=hungry", f"data.image_size={SIDE}", "finetune.epochs=1", "evaluate.samples=[16]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system, "memory_bytes", lambda: 1 << 33, raising=False)
        run = finetuned(recipe, None)
    return recipe, run.checkpoints.load_latest()


@pytest.mark.parametrize("stage", [evaluate, certify, attack])
def test_a_stage_passes_no_more_images_than_a_quarter_of_the_memory_holds(model, stage):
    recipe, checkpoint = model
    table = recipe.resolved()
    table["certify"] |= {"samples": 64, "selection": 8}
    table["attack"] = [{"samples": [4], "steps": 2, "limit": 20}]
    Hungry.largest = 0
    stage(type(recipe).model_validate(table), checkpoint)
    # At least two such outputs are there at once.
    assert 1 < Hungry.largest <= MEMORY / 4 / (2 * AN_IMAGE)


def test_features_are_computed_in_passes_that_fit(hungry):
    encoder = Hungry(3)
    images = torch.zeros(300, 3, SIDE, SIDE, dtype=torch.uint8)
    Hungry.largest = 0
    features(encoder, images, choose_machine("cpu", "float32"))
    assert 1 < Hungry.largest <= MEMORY / 4 / (2 * AN_IMAGE)


def test_a_resumed_attack_may_take_smaller_passes_and_ends_the_same(tmp_path, monkeypatch, model, capsys):
    _, checkpoint = model
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rushkit.robustness.attack.BLOCK", 8)
    command = ["attack", "--from", str(checkpoint.path), "--samples", "2", "--limit", "24", "--protocol", "paper", "-q"]
    command += ["--set", "attack.0.steps=2", "--set", "system.chunk=16", "--json"]
    assert main(command) == 0
    whole = capsys.readouterr().out

    from rushkit.errors import Interrupted
    from rushkit.robustness import attack as stage

    original, blocks = stage.attack_block, []

    def stopping(*arguments, **options):
        if len(blocks) == 1:
            raise Interrupted("stopped", "go on")
        blocks.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(stage, "attack_block", stopping)
    assert main(command) == 130
    monkeypatch.setattr(stage, "attack_block", original)
    capsys.readouterr()
    Hungry.largest = 0
    assert main(["attack", "--resume", "--set", "system.chunk=3", "-q", "--json"]) == 0
    assert 1 <= Hungry.largest <= 3
    assert outcomes(capsys.readouterr().out) == outcomes(whole)


def outcomes(document: str) -> list:
    import json

    rows = json.loads(document)["attacks"]
    return [row["outcomes"] for row in rows]


@pytest.mark.parametrize("change", ["system.device_=cpu", "attack.keeper=2"])
def test_a_resume_takes_keys_and_not_their_beginnings(tmp_path, monkeypatch, capsys, change):
    monkeypatch.chdir(tmp_path)
    assert main(["attack", "--resume", "--set", change]) == 2
    assert "--resume goes on with the recipe of the run" in capsys.readouterr().err
