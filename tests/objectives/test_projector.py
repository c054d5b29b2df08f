"""The projector: each method's is the stack of layers that was published, and ``[projector]`` makes it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rushkit import objectives
from rushkit.errors import UsageError
from rushkit.objectives.projector import Projector
from rushkit.recipe.load import load_recipe
from rushkit.setup.components import build_objective

ACL = {"hidden": 6, "out": 7, "batch_norm": True, "layers": 3, "norm_out": True, "biases": "first"}


def by_hand(*layers):
    return nn.Sequential(*layers).double()


# The method, its projector's options on 5 features, and the same layers one by one.
PUBLISHED = [
    ("rocl", {"hidden": 8, "out": 3}, lambda: by_hand(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))),
    (
        "advcl, byol",
        {"hidden": 8, "out": 3, "batch_norm": True},
        lambda: by_hand(nn.Linear(5, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)),
    ),
    (
        "acl",
        ACL,
        lambda: by_hand(
            *(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU()),
            *(nn.Linear(6, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU()),
            *(nn.Linear(6, 7, bias=False), nn.BatchNorm1d(7)),
        ),
    ),
    (
        "deep",
        {"hidden": 6, "out": 2, "layers": 4},
        lambda: by_hand(
            *(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU()),
            *(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)),
        ),
    ),
]


@pytest.mark.parametrize(("options", "layers"), [case[1:] for case in PUBLISHED], ids=[case[0] for case in PUBLISHED])
def test_a_methods_projector_is_the_published_stack(options, layers):
    projector, stack = Projector(5, **options).double(), layers()
    assert [p.shape for p in projector.parameters()] == [p.shape for p in stack.parameters()]
    draws = torch.Generator().manual_seed(0)
    for parameter, expected in zip(projector.parameters(), stack.parameters(), strict=True):
        value = torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
        parameter.data.copy_(value)
        expected.data.copy_(value)
    x = torch.randn(9, 5, generator=draws, dtype=torch.float64)
    torch.testing.assert_close(projector(x), stack(x), rtol=0, atol=1e-12)


def test_names_in_checkpoints_stay_whatever_is_added_between():
    assert list(Projector(5).state_dict()) == ["hidden.weight", "hidden.bias", "out.weight", "out.bias"]
    assert {"hidden.weight", "between.0.weight", "out.weight"} <= Projector(5, layers=3).state_dict().keys()


@pytest.mark.parametrize("name", ["rush", "simclr"])
def test_the_recipe_makes_the_projector(name):
    recipe = load_recipe("digits", {f"projector.{key}": value for key, value in ACL.items()}, {})
    made = build_objective(recipe, recipe.pretrain.model_copy(update={"objective": name})).head(5, [10])
    assert [tuple(p.shape) for p in made.parameters()] == [tuple(p.shape) for p in Projector(5, **ACL).parameters()]


@pytest.mark.parametrize("options", [{"hidden": 0}, {"out": -1}, {"layers": 1}, {"biases": "last"}])
def test_an_option_out_of_range_is_refused_by_name(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        objectives.create("simclr", **options)
