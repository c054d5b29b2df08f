"""A network that is random by itself is named beside its figures, which are those of single draws."""

from __future__ import annotations

import pytest
from tiny_runs import checkpoint_of, finetuned, toy
from torch import nn

from rushkit import registries
from rushkit.evaluation.evaluate import evaluate
from rushkit.robustness.attack import attack
from rushkit.run.speaker import Speaker
from rushkit.setup.start import start_run


class Dropped(nn.Module):
    """Features under dropout that is on in eval mode too."""

    def __init__(self, encoder: nn.Module, p: float) -> None:
        super().__init__()
        self.encoder, self.p, self.num_features = encoder, p, encoder.num_features

    def forward(self, x):
        return nn.functional.dropout(self.encoder(x), self.p, training=True)


def dropped(in_channels: int = 3, image_size: int = 32, p: float = 0.3) -> nn.Module:
    return Dropped(toy(in_channels, image_size), p)


@pytest.fixture(autouse=True)
def dropped_backbone():
    registries.backbones.register("dropped")(dropped)
    yield
    registries.backbones.unregister("dropped", dropped.__module__.partition(".")[0])


@pytest.mark.parametrize("p", [0.3, 0.0])
def test_attacks_and_evaluations_name_a_network_that_is_random_by_itself(tiny, capsys, p):
    recipe = tiny(
        "backbone.name=dropped", f"backbone.p={p}", "noise.name=none", "attack.0.steps=2", "attack.0.limit=8",
        "finetune.freeze=none", "finetune.epochs=1", "attack.0.restarts=1",
    )  # fmt: skip
    source = checkpoint_of(finetuned(recipe, None))
    with start_run("evaluate", recipe, Speaker(rank=0), parent=str(source.path)) as run:
        evaluate(recipe, source, run)
    assert ("random by itself" in capsys.readouterr().out) == (p > 0)
    with start_run("attack", recipe, Speaker(-1, rank=0), parent=str(source.path)) as run:
        rows = attack(recipe, source, run).attacks
    assert [("random-by-itself" in [note.code for note in row.notes]) for row in rows] == [p > 0] * len(rows)
