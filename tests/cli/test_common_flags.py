"""The commonest keys as flags of their own: they set the key of the verb's stage, and say so where they are wrong."""

from __future__ import annotations

import json

import pytest
from commands import TINY, only, sets

from rushkit.recipe import toml

TRAINED = {
    "--epochs": ("epochs", "2", 2),
    "--batch-size": ("batch_size", "8", 8),
    "--lr": ("optimizer.lr", "0.25", 0.25),
    "--split": ("split", "test", "test"),
}


def recipe_of(runs, verb):
    return toml.flatten(toml.loads((only(runs, verb) / "recipe.toml").read_text()))


def test_the_flags_of_a_training_set_the_keys_of_its_stage(cli, runs):
    flags = [word for flag, (_, text, _) in TRAINED.items() for word in (flag, text)]
    assert cli("finetune", *flags, "--seed", "3", "--device", "cpu", "-q").code == 0
    recipe = recipe_of(runs, "finetune")
    assert {key: recipe[f"finetune.{key}"] for key, _, _ in TRAINED.values()} == {
        key: value for key, _, value in TRAINED.values()
    }
    assert (recipe["pretrain.epochs"], recipe["system.seed"], recipe["system.device"]) == (1, 3, "cpu")


def test_pretrain_has_them_for_its_own_stage(cli, folder):
    changes = sets(*(change for change in TINY if not change.startswith("pretrain.epochs")))
    said = cli("pretrain", "--recipe", "digits", *changes, "--epochs", "2", "--lr", "0.1", "--dry-run", "--json")
    assert said.code == 0, said.err
    assert "(2 epochs of 2)" in json.loads(said.out)["steps"]


@pytest.mark.parametrize(
    "flag, key, value",
    [
        ("--epochs", "finetune.epochs", "2"),
        ("--batch-size", "finetune.batch_size", "8"),
        ("--lr", "finetune.optimizer.lr", "0.1"),
        ("--seed", "system.seed", "0"),
        ("--device", "system.device", "cpu"),
        ("--split", "finetune.split", "test"),
    ],
)
def test_a_flag_and_set_of_its_key_are_refused_together(fails, runs, flag, key, value):
    said = fails(2, "finetune", flag, value, "--set", f"{key}=3")
    assert f"{flag} sets {key}, and so does --set {key}=3" in said.err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--lr", "0"), "--lr: finetune.optimizer.lr: must be greater than 0 (got 0.0)"),
        (("--epochs", "0"), "--epochs: must be greater than or equal to 1 (got '0')"),
        (("--device", "gpu0"), "device 'gpu0' cannot be used"),
        (("--every", "x"), "--every: finetune.save_every: must be a number of epochs"),
    ],
)
def test_a_wrong_value_is_named_by_its_flag(fails, runs, arguments, words):
    assert words in fails(2, "finetune", *arguments).err


def test_a_resumed_run_keeps_its_seed(fails, runs):
    said = fails(2, "finetune", "--resume", "--seed", "4")
    assert "--resume goes on with the recipe of the run; it cannot take --seed" in said.err


def test_a_limit_of_all_images_is_a_value_too(fails, runs):
    said = fails(2, "evaluate", "--limit", "0", "--set", "evaluate.limit=5")
    assert "--limit sets evaluate.limit" in said.err


@pytest.mark.parametrize("verb", ["evaluate", "attack", "certify", "audit"])
def test_the_hint_of_a_missing_split_names_the_flag(fails, runs, verb):
    said = fails(2, verb, "--split", "dev")
    assert "digits has no split 'dev'" in said.err
    assert "hint: it has: train, test; --split chooses one" in said.err


def test_evaluate_looks_at_a_part_of_another_split(cli, runs):
    said = cli("evaluate", "--limit", "5", "--split", "train", "--samples", "1", "--json")
    assert said.code == 0, said.err
    results = json.loads(said.out)
    assert results["data"] == "digits/train"
    assert {row["images"] for row in results["accuracy"]} == {5}
