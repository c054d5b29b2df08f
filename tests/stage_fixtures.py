"""Fixtures of the stages' tests: a recipe that trains in a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import torch
from tiny_runs import TINY, calling_after_step, toy

from rushkit import registries
from rushkit.recipe.load import load_recipe
from rushkit.recipe.schema import Recipe


@pytest.fixture(autouse=True)
def toy_backbone():
    registries.backbones.register("toy")(toy)
    yield
    registries.backbones.unregister("toy", toy.__module__.partition(".")[0])


@pytest.fixture
def untouched_global_state():
    """Asserts that the test leaves the global random state as it was."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def tiny(tmp_path) -> Callable[..., Recipe]:
    """``tiny("finetune.epochs=1")``: the tiny recipe with changes; its runs lie in the test's own folder."""

    def make(*changes: str, recipe: str = "digits") -> Recipe:
        return load_recipe(recipe, [*TINY, f"system.runs_dir={tmp_path / 'runs'}", *changes], {})

    return make


@pytest.fixture
def at_step() -> Iterator[Callable[[int, Callable[[], None]], None]]:
    """``at_step(5, f)``: call f once, after the fifth training step from now."""
    with ExitStack() as watches:
        yield lambda number, action: watches.enter_context(calling_after_step(number, action))
