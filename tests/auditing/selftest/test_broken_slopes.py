"""The planted defences claim what they should, and fall to their stand-ins.

Training takes seconds, so only the cheap ones are trained here; the self-test itself trains and measures all of them.
"""

from __future__ import annotations

import pytest
import torch

from rushkit.auditing.selftest import detached, rounded, scaled, steep, winners
from rushkit.auditing.selftest.claimed import adaptive, naive
from rushkit.auditing.selftest.ground import Ground

CASES = [*rounded.CASES, *scaled.CASES, *detached.CASES, *steep.CASES, *winners.CASES]
BY_NAME = {case.name: case for case in CASES}
SEED = 11


@pytest.fixture(scope="module")
def ground():
    return Ground(SEED)


def test_there_are_fourteen_of_different_names_and_causes():
    assert len(BY_NAME) == len(CASES) == 14
    assert all(case.kind == "broken" and case.causes and case.norm == "linf" for case in CASES)


# The real figure of the threshold is not 0: a pixel far from .5 cannot be flipped.
@pytest.mark.parametrize(
    ("name", "most"), [("rounding", 0.1), ("hard threshold", 0.3), ("saturated", 0.05), ("detached, misled", 0.05)]
)
def test_a_cheap_defence_claims_much_and_falls_to_its_stand_in(ground, name, most):
    case = BY_NAME[name]
    x, y = ground.test
    before = torch.random.get_rng_state()
    planted = case.build(ground)
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.no_grad():
        logits, stand_in = planted.model(x), planted.stand_in(x)
    assert (logits.argmax(1) == y).float().mean() > 0.9
    assert torch.equal(logits.argmax(1), stand_in.argmax(1))
    if name != "saturated":
        assert torch.equal(logits, stand_in)
    # Of 64 images a figure of .9 has a standard deviation of .04.
    assert naive(case, planted, x[:64], y[:64]) > 0.8
    assert adaptive(case, planted, x[:64], y[:64]) <= most
