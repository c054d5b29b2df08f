"""What a command line sets is checked without the recipe that it changes; what depends on the recipe is let through."""

from __future__ import annotations

import pytest

from rushkit.errors import UsageError
from rushkit.recipe.command_line import check_command_line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("attack.0.eps=8/0", "--set attack.0.eps: must be a number such as 0.03 or 8/255 (got '8/0')"),
        ("attack.2.norm=l3", "--set attack.2.norm: must be 'linf', 'l2' or 'l1' (got 'l3')"),
        ("published.0.eps=8/0", "--set published.0.eps: must be a number such as 0.03 or 8/255 (got '8/0')"),
        ("published.2.norm=l3", "--set published.2.norm: must be 'linf', 'l2' or 'l1' (got 'l3')"),
        ("published.1.type=pdg", "--set published.1.type: unknown attack 'pdg' (did you mean pgd"),
        ('attack=[{type="pdg"}]', "--set attack: attack.0.type: unknown attack 'pdg' (did you mean pgd"),
        ("evalute.samples=1", "--set evalute.samples: evalute: unknown key; did you mean evaluate?"),
        ("pretrain.epochs.x=1", "--set pretrain.epochs.x: pretrain.epochs is a value, not a table"),
        ("noise.name=gausian", "--set noise.name: unknown noise 'gausian' (did you mean gaussian"),
        ("data.name=cifr10", "--set data.name: unknown data set 'cifr10' (did you mean cifar10"),
        ("noise=3", "--set noise: must be a table (got 3)"),
        ("certify.alpha", "--set 'certify.alpha' is not KEY=VALUE"),
    ],
)
def test_what_no_recipe_could_take_is_refused(change, message):
    with pytest.raises(UsageError) as error:
        check_command_line([change])
    assert error.value.message.startswith(message)


@pytest.mark.parametrize(
    "change",
    [
        # A pair of which the recipe has the other part.
        "backbone.mean=[0.5, 0.5, 0.5]",
        # In l2 or l1, images are further apart than in l-inf.
        "attack.0.eps=4",
        "certify.radii=[3]",
        # The recipe may have as many attacks.
        "attack.7.eps=8/255",
        "attack.99999999999.eps=1",
        "attack.64.eps=1",
        "published.7.eps=8/255",
        "published.99999999999.eps=1",
        # Options of a component that the recipe names.
        "noise.std=0.1",
        "data.path=photos",
        "attack.0.steps=3",
        "published.0.eps=4",
        "published.0.steps=3",
    ],
)
def test_what_depends_on_the_recipe_is_let_through(change):
    check_command_line([change])


def test_all_mistakes_come_at_once():
    with pytest.raises(UsageError, match="the recipe has 2 errors:") as error:
        check_command_line(["pretrain.epochs=0"], [("certify.alpha", 2.0, "--alpha"), ("certify.skip", None, "--skip")])
    assert "--set pretrain.epochs: must be greater than or equal to 1 (got 0)" in error.value.message
    assert "--alpha: certify.alpha: must be less than 1 (got 2.0)" in error.value.message


def test_a_radius_is_judged_in_the_norm_beside_it():
    with pytest.raises(UsageError, match="where 1 is the whole range; did you mean 8/255"):
        check_command_line([], [("attack.0.eps", "8", "--eps"), ("attack.0.norm", "linf", "--norm")])
