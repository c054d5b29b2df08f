"""A run behind fronts: what is known of the run stays known, and its code runs only if the user names it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import rushkit
from rushkit.errors import UsageError
from rushkit.named_code import FRONT, name_code, naming
from rushkit.recipe.load import derive_recipe
from rushkit.setup.fronted import fronted, with_fronts
from rushkit.setup.model import load_classifier, recipe_of
from rushkit.system import Machine

CPU = Machine(torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def shipped():
    return rushkit.open_checkpoint("shipped/digits", "finetune")


@pytest.fixture
def invert(tmp_path) -> Path:
    file = tmp_path / "invert.py"
    file.write_text("print('ran')\n\ndef invert(x):\n    return 1 - x\n")
    return file


def test_the_front_changes_the_images_and_nothing_that_is_known_of_the_run(shipped, invert):
    recipe = derive_recipe(recipe_of(shipped), ["noise.scale=0.1"])
    with naming():
        given = fronted(with_fronts(recipe, [str(name_code(f"{invert}:invert", FRONT))]), shipped)
    behind, before = load_classifier(given, CPU), load_classifier(shipped, CPU)
    x = torch.rand(3, before.channels, before.image_size, before.image_size)
    torch.testing.assert_close(behind.network(x), before.network(1 - x), atol=1e-4, rtol=1e-4)
    assert (behind.given, before.given) == (False, False)
    assert behind.trained_under_noise == before.trained_under_noise
    assert behind.recipe.noise == before.recipe.noise != recipe.noise
    assert given.hash != shipped.hash
    assert given.behind is shipped


def test_a_front_that_nobody_names_is_not_run(shipped, invert, capsys):
    recipe = with_fronts(recipe_of(shipped), [f"{invert}:invert"])
    with naming(), pytest.raises(UsageError, match="only code that the command names is run") as refused:
        fronted(recipe, shipped)
    assert refused.value.hint.startswith("name it, if you trust it: --front ")
    assert "ran" not in capsys.readouterr().err
