"""Images whose gradient is NaN, in blocks of any size: alone in a block they fare as they do beside others."""

from __future__ import annotations

import json

import pytest
import test_attack_stage as stage
import torch
from nearest_mean import Pixels
from torch import nn

from rushkit import registries
from rushkit.errors import NumericsError
from rushkit.robustness import attack as attack_module

recipe, source = stage.recipe, stage.source


class Root(Pixels):
    """The pixels as features; their gradient is NaN at images whose mean is below ``below``."""

    def __init__(self, size: int, below: float) -> None:
        super().__init__(size)
        self.below = below

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The derivative of the root is infinite at 0, and 0 times that is NaN.
        nothing = 0 * x[:, :1, 0, 0]
        dark = x.mean(dim=(1, 2, 3))[:, None] < self.below
        return super().forward(x) + 0 * torch.where(dark, nothing, nothing + 1).sqrt()


def rooted(in_channels: int, image_size: int, below: float = 0.0) -> nn.Module:
    return Root(image_size, below)


@pytest.fixture(autouse=True)
def rooted_backbone():
    registries.backbones.register("rooted")(rooted)
    yield
    registries.backbones.unregister("rooted", rooted.__module__.partition(".")[0])


def spoilt(recipe, source, kind, below):
    """-> a recipe, and the source of a model whose gradient is NaN at images of a mean below ``below``."""
    suite = ("attack.0.version=standard", "attack.0.steps=3", "attack.0.queries=20") if kind == "autoattack" else ()
    options = (f"attack.0.type={kind}", *suite, "attack.0.eps=0.02", "noise.scale=0.01", "data.limit=11")
    chosen = recipe("backbone.name=rooted", f"backbone.below={below}", *options)
    return chosen, source(chosen=chosen)


@pytest.mark.parametrize("kind", ["pgd", "autoattack"])
def test_an_image_without_a_gradient_fares_alike_beside_others_and_in_a_block_of_its_own(
    recipe, source, kind, monkeypatch
):
    chosen, model = spoilt(recipe, source, kind, 0.3)
    found = []
    for size in (11, 5, 1):
        monkeypatch.setattr(attack_module, "BLOCK", size)
        results, _ = stage.attacked(chosen, model, protocols=["strict"])
        (row,) = results["attacks"]
        assert results["failed"] == []
        found.append((row["outcomes"]["right"], [note for note in row["notes"] if note["images"]]))
    assert found[0] == found[1] == found[2]
    (note,) = found[0][1]
    assert note["code"] == "gradient-not-finite"
    assert 2 < len(note["images"]) < 9


@pytest.mark.parametrize("kind", ["pgd", "autoattack"])
def test_an_attack_fails_if_no_image_of_any_block_has_a_gradient(recipe, source, kind, monkeypatch):
    monkeypatch.setattr(attack_module, "BLOCK", 5)
    chosen, model = spoilt(recipe, source, kind, 9.0)
    with pytest.raises(NumericsError, match="gradient"), stage.run_of(chosen, model) as run:
        attack_module.attack(chosen, model, run, ["strict"])
    assert len(json.loads((run.path / "run.json").read_text())["failed"]) == 1
