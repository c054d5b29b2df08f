"""``save_every`` and ``keep``: epochs or steps between checkpoints, and how many stay."""

from __future__ import annotations

import pytest

from rushkit.errors import UsageError
from rushkit.recipe.load import load_recipe


@pytest.mark.parametrize(("value", "steps"), [("1", 7), ("30", 210), ("500steps", 500), ("'1steps'", 1)])
def test_an_interval_is_in_epochs_or_in_steps(value, steps):
    recipe = load_recipe("digits", [f"pretrain.save_every={value}"], {})
    assert recipe.pretrain.steps_between_checkpoints(steps_per_epoch=7) == steps
    assert load_recipe("digits", [f"finetune.save_every={value}"], {}).finetune.steps_between_checkpoints(7) == steps


@pytest.mark.parametrize("value", ["0", "-1", "true", "1.5", "steps", "0steps", "5 epochs", "5s", "[1]", "1_0steps"])
def test_what_is_no_interval_is_refused(value):
    with pytest.raises(UsageError, match=r"save_every: must be a number of epochs such as 5, or of steps such as 500"):
        load_recipe("digits", [f"pretrain.save_every={value}"], {})


def test_at_least_two_checkpoints_stay():
    assert load_recipe("digits", ["pretrain.keep=2"], {}).pretrain.keep == 2
    with pytest.raises(UsageError, match=r"keep: must be .*2"):
        load_recipe("digits", ["finetune.keep=1"], {})
