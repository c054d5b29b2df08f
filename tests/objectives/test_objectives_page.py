"""docs/objectives.md: its example runs, and what it says about the built-in objectives is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from batches import batch_of, loss_of, losses_of
from torch import nn

from rushkit import objectives
from rushkit.errors import UsageError
from rushkit.registries import objectives as registry
from rushkit.registry import describe_options

PAGE = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text(encoding="utf-8")


@pytest.fixture
def brier() -> Iterator[type]:
    """The page's example, registered as running it registers it."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "docs/objectives.md", "exec"), namespace)
    yield namespace["Brier"]
    registry.unregister("brier", "example")


def test_example_trains_a_head(brier):
    objective = objectives.create("brier", scale=2.0)
    head = nn.Sequential(nn.Flatten(), objective.head(3 * 4 * 4, [5]))
    images = torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (loss,) = losses_of(objective, head, batch_of(images, torch.arange(6) % 5))
    loss.backward()
    assert loss.dtype is torch.float32
    assert head[1].weight.grad.abs().sum() > 0


def test_examples_loss_is_the_brier_score(brier):
    # Even odds between two classes: (1/2)^2 for each of them.
    assert loss_of(brier(), torch.zeros(1, 2), torch.tensor([1])).item() == pytest.approx(0.5)


def test_examples_options_are_checked(brier):
    with pytest.raises(UsageError, match="scale must be a number"):
        objectives.create("brier", scale="big")


def test_page_lists_every_builtin_objective_with_its_stage():
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (pretrain|finetune) \|", PAGE, flags=re.MULTILINE))
    builtin = {
        entry.name: objectives.get(entry.name).stage for entry in objectives.entries() if entry.owner == "rushkit"
    }
    assert listed == builtin


@pytest.mark.parametrize("name", ["rush", "cross-entropy"])
def test_page_states_every_option_with_its_default(name):
    (row,) = re.findall(rf"^\| `{name}` \|.*$", PAGE, flags=re.MULTILINE)
    for option in describe_options(objectives.get(name)).split(", "):
        assert option.replace("'", '"') in row
