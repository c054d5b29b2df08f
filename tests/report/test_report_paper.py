"""What the paper reports, and in what a model's setting differs from its."""

from __future__ import annotations

import pytest
from synthetic_runs import recipe_of

from rushkit.report.paper import differences


def test_differences_from_the_papers_setting_are_named():
    assert differences(recipe_of("cifar10"), recipe_of("cifar10")) == []
    changes = ("pretrain.epochs=60", "backbone.name=resnet10-small", "noise.scale=0.1", "data.limit=100")
    found = differences(recipe_of("cifar10", *changes), recipe_of("cifar10", *changes))
    assert found == [
        "noise uniform scale 0.1, not uniform scale 0.3",
        "backbone resnet10-small, not resnet18",
        "60 epochs of pre-training, not 1000",
        "at most 100 images a split, not all",
    ]
    assert differences(None, recipe_of("cifar10")) == ["pre-training unknown"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("pretrain.optimizer.lr=0.05", "pretrain.optimizer.lr 0.05, not 0.5"),
        ("pretrain.temperature=0.1", "pretrain.temperature 0.1, not 0.5"),
        ("finetune.optimizer.lr=1.0", "finetune.optimizer.lr 1.0, not 0.1"),
        ("finetune.freeze=none", "fine-tuning froze none, not encoder"),
        ("projector.hidden=512", "projector.hidden 512, not 2048"),
        ("pretrain.views.hue=0.0", "pretrain.views.hue 0.0, not 0.1"),
        ("backbone.stem=standard", "backbone.stem standard, not small"),
    ],
)
def test_every_key_that_changes_the_weights_is_compared(change, words):
    changed = recipe_of("cifar10", change)
    assert differences(changed, changed) == [words]


def test_looks_and_checkpoints_are_no_difference_and_each_data_set_has_its_own_setting():
    quiet = recipe_of("cifar10", "pretrain.knn.every=0", "pretrain.save_every=7", "finetune.keep=5")
    assert differences(quiet, quiet) == []
    assert differences(recipe_of("stl10-unlabeled"), recipe_of("stl10-unlabeled")) == []
    assert differences(recipe_of("stl10"), recipe_of("stl10")) == ["pretrain.split train, not unlabeled"]
    assert differences(recipe_of("cifar10"), recipe_of("stl10")) == []
