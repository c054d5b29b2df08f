"""What the paper reports, and in what a model's setting differs from its."""

from __future__ import annotations

import pytest
from synthetic_runs import recipe_of

from rushkit.report.paper import TABLE_1, differences, reported


def test_the_papers_table_is_that_of_the_paper():
    shown = [
        (row.pretrained_on, row.finetuned_on, row.samples, row.standard, row.pgd, row.autoattack) for row in TABLE_1
    ]
    assert shown == [
        ("cifar10", "cifar10", 64, 0.879, 0.778, 0.795),
        ("cifar10", "cifar10", 1, 0.864, 0.737, 0.747),
        ("cifar100", "cifar100", 64, 0.571, 0.466, None),
        ("cifar100", "cifar100", 1, 0.553, 0.425, 0.402),
        ("cifar10", "stl10", 64, 0.737, 0.533, 0.559),
        ("cifar10", "stl10", 1, 0.720, 0.494, 0.534),
        ("stl10", "stl10", 64, 0.767, 0.646, 0.670),
        ("stl10", "stl10", 1, 0.751, 0.615, 0.602),
    ]
    assert reported("cifar10", "digits", 64) is None
    assert reported("cifar10", "cifar10", 16) is None


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
