"""What torch can train is trained and evaluated, where an optimisation of ours does not apply to it, too."""

from __future__ import annotations

import warnings

import pytest
from tiny_runs import checkpoint_of, finetuned, pretrained
from torch import nn

from rushkit import registries
from rushkit.certification.certify import certify
from rushkit.evaluation.evaluate import evaluate
from rushkit.robustness.attack import attack


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


LAYERS = {
    "weight norm": lambda channels: (old_weight_norm(nn.Conv2d(channels, 8, 3, stride=2)), nn.BatchNorm2d(8)),
    # Its filters have five dimensions: there is no channels_last for them.
    "volume": lambda channels: (nn.Unflatten(1, (channels, 1)), nn.Conv3d(channels, 8, (1, 3, 3)), nn.Flatten(1, 2)),
}


def odd(in_channels: int = 3, image_size: int = 32, kind: str = "weight norm") -> nn.Module:
    model = nn.Sequential(*LAYERS[kind](in_channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.num_features = 8
    return model


@pytest.mark.parametrize("kind", LAYERS)
def test_what_trains_is_evaluated_attacked_and_certified(tiny, kind):
    registries.backbones.register("odd")(odd)
    recipe = tiny(
        "backbone.name=odd",
        f"backbone.kind={kind}",
        "pretrain.epochs=1",
        "finetune.epochs=1",
        'attack=[{type="pgd", steps=1, samples=[1], limit=2}]',
        "certify.samples=100",
        "certify.alpha=0.05",
        "certify.limit=2",
    )
    try:
        model = checkpoint_of(finetuned(recipe, checkpoint_of(pretrained(recipe))))
        evaluated = evaluate(recipe, model).to_table()["accuracy"]
        attacked = attack(recipe, model, protocols=("paper",)).to_json()["attacks"]
        certified = certify(recipe, model).to_json()
    finally:
        registries.backbones.unregister("odd", odd.__module__.partition(".")[0])
    assert {row["samples"] for row in evaluated} == {1, 4}
    assert [row["images"] for row in attacked] == [2]
    assert certified["images"] == 2
