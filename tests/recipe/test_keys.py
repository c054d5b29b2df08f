"""The keys that a word may stand for."""

from __future__ import annotations

from rushkit.recipe import toml
from rushkit.recipe.keys import all_keys, keys_ending_in
from rushkit.recipe.schema import Data, Published, Recipe


def test_every_key_of_a_recipe_is_known():
    recipe = Recipe(data=Data(name="digits"), published=[Published()])
    assert set(toml.flatten(recipe.resolved())) <= set(all_keys())


def test_a_word_stands_for_the_keys_that_end_in_it_the_shallowest_first():
    assert keys_ending_in("epochs") == ["pretrain.epochs", "finetune.epochs"]
    assert keys_ending_in("limit", ["finetune", "data"])[0] == "data.limit"
    assert keys_ending_in("optimizer.lr", ["pretrain"]) == ["pretrain.optimizer.lr"]
    assert keys_ending_in("batch-size") == keys_ending_in("BS") == ["pretrain.batch_size", "finetune.batch_size"]
    # No part of a word.
    assert keys_ending_in("poch") == []


def test_a_table_is_chosen_by_the_key_that_names_its_component():
    assert keys_ending_in("noise") == ["noise.name"]
    assert keys_ending_in("attack") == ["attack.0.type"]
    assert "noise.std" in keys_ending_in("std")
