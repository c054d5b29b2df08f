"""Which method a model is, and in what its setting differs from the published one."""

from __future__ import annotations

import pytest
from synthetic_runs import recipe_of

from rushkit.report.paper import differences, method_of


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


def test_a_pretrained_model_is_of_the_method_of_its_pretraining():
    rocl, rush = recipe_of("rocl-cifar10"), recipe_of("cifar10")
    assert method_of(rocl, rocl, False) == "rocl"
    assert method_of(rocl, recipe_of("aff"), False) == "rocl"
    assert method_of(rush, rush, False) == "rush"
    # RUSH fine-tunes under noise, by cross-entropy.
    assert method_of(rush, recipe_of("aff"), False) is None
    assert method_of(recipe_of("cifar10", "pretrain.objective=simclr"), rush, False) == "simclr"


@pytest.mark.parametrize(
    ("recipe", "changes", "method"),
    [
        ("free-8-cifar10", (), "free"),
        ("smoothadv-cifar10", (), "smoothadv"),
        ("trades-cifar10", (), "trades"),
        ("data-aug-cifar10", (), "data-aug"),
        ("data-aug-ddpm-cifar10", (), "data-aug"),
        ("trades-cifar10", ("finetune.average.decay=0.99",), "data-aug"),
        ("pgd-at-cifar10", (), "pgd-at"),
        ("pgd-at-cifar10", ("finetune.awp=0.01",), "pgd-at-awp"),
        ("cross-entropy-cifar10", (), "cross-entropy"),
    ],
)
def test_a_model_from_scratch_is_of_the_method_of_its_training(recipe, changes, method):
    trained = recipe_of(recipe, *changes)
    assert method_of(None, trained, True) == method
    # On an encoder that nothing is known of it is no method.
    assert method_of(None, trained, False) is None


def test_an_encoder_or_a_foreign_model_is_of_no_method():
    assert method_of(recipe_of("cifar10"), None, False) is None


def test_another_method_is_compared_with_its_own_recipe():
    rocl = recipe_of("rocl-cifar10")
    assert differences(rocl, rocl, "rocl") == []
    changed = recipe_of("rocl-cifar10", "pretrain.epochs=20", "pretrain.lam=1")
    assert differences(changed, changed, "rocl") == ["20 epochs of pre-training, not 1000", "pretrain.lam 1, not 256"]
    assert differences(rocl, recipe_of("aff"), "rocl") == ["fine-tuning objective trades, not cross-entropy"]
    # Beside a figure of full fine-tuning it is the other way round.
    assert differences(rocl, recipe_of("aff"), "rocl", "full") == []
    assert differences(rocl, rocl, "rocl", "full") == ["fine-tuning objective cross-entropy, not trades"]
    free = recipe_of("free-8-cifar10", "finetune.replays=4")
    assert differences(None, free, "free") == ["finetune.replays 4, not 8"]
    assert differences(rocl, rocl, "a-plugin") == []
