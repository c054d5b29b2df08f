"""A registered data set may hold its images in any memory layout, with a limit and without."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import checkpoint_of, finetuned

from rushkit import registries
from rushkit.data.memory import Split
from rushkit.robustness.attack import attack


class Sideways:
    """Stripes whose images are a permuted array (N, H, W, C), as those of most Python libraries are."""

    name, classes, splits, image_size = "sideways", ("vertical", "horizontal"), ("train", "test"), 8

    def __init__(self, root: str):
        pass

    def split(self, name):
        chance = torch.Generator().manual_seed(self.splits.index(name))
        labels = torch.arange(24) % 2
        images = torch.randint(60, (24, 8, 8, 3), generator=chance, dtype=torch.uint8)
        images[labels == 0, :, ::2] += 150
        images[labels == 1, ::2] += 150
        return Split(images.permute(0, 3, 1, 2), labels, f"sideways/{name}")


@pytest.fixture(autouse=True)
def sideways():
    registries.datasets.register("sideways")(Sideways)
    yield
    registries.datasets.unregister("sideways", __name__.partition(".")[0])


@pytest.mark.parametrize("attack_type", ["fab", "pgdl2"])
def test_all_of_it_is_attacked(tiny, attack_type):
    changes = ("data.name=sideways", "data.limit=0", "finetune.freeze=none", "noise.name=none")
    own = (
        f"attack.0.type={attack_type}",
        "attack.0.norm=l2",
        "attack.0.eps=0.5",
        "attack.0.steps=2",
        "attack.0.limit=0",
        "attack.0.samples=[1]",
    )
    recipe = tiny(*changes, *own)
    results = attack(recipe, checkpoint_of(finetuned(recipe, None)), protocols=["strict"]).to_json()
    assert results["attacks"][0]["images"] == 24
