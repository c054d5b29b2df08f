"""Attacks on few pixels are no attacks within an l-inf or l2 ball: shrunk into one they would break nothing."""

from __future__ import annotations

import pytest

from rushkit import attacks
from rushkit.errors import UsageError


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["onepixel", "jsma", "pixle", "sparsefool"])
def test_a_ball_that_they_do_not_keep_to_is_refused_and_attacks_that_do_are_named(name, norm):
    with pytest.raises(UsageError, match=f"{name} has no norm '{norm}'") as refused:
        attacks.create(f"torchattacks/{name}", norm=norm, eps=0.1)
    assert refused.value.hint == f"it has: l1; attacks in {norm}: pgd, apgd, cascade, autoattack, fab, square"
