"""Rounding, JPEG and thermometer codes stop a plain PGD, and fall to an attack along a stand-in's slopes."""

from __future__ import annotations

from functools import partial

import pytest
from torch import nn

import rushkit
from rushkit.attacks.pgd import PGD
from rushkit.auditing.selftest.ground import SIDE, Ground, convolutional
from rushkit.auditing.selftest.rounded import EPS, Jpeg, Rounded, Thermometer
from rushkit.named_code import SURROGATE, name_code, naming
from rushkit.robustness.attack import attack

# Measured at 30 epochs: .016, .000 and .000 of all images against .984, .992 and .992 of a plain PGD of 40 steps.
MOST_LEFT, LEAST_OF_A_PLAIN_ONE = 0.05, 0.6
IMAGES = 48
# What stands in: the identity for what is nearly one, sigmoids for codes.
STAND_INS = {
    "rounding": (Rounded, 3, "identity"),
    "JPEG": (Jpeg, 3, "identity"),
    "thermometer": (Thermometer, 45, "planes"),
}
SOURCE = """
from torch import nn

from rushkit.auditing.selftest.rounded import SmoothThermometer


def identity(real):
    return real[1]


def planes(real):
    return nn.Sequential(SmoothThermometer(), real[1])
"""


class WithASlope(nn.Module):
    """A defence, with a slope of zero where its graph is cut: a plain attack does not ask for more."""

    def __init__(self, defence):
        super().__init__()
        self.defence = defence

    def forward(self, x):
        return self.defence(x) + 0 * x.sum()


@pytest.fixture(scope="module")
def ground():
    return Ground(0)


@pytest.fixture(params=STAND_INS)
def defended(request, ground):
    """A network trained behind a transform, and the name of its stand-in."""
    transform, channels, name = STAND_INS[request.param]
    x, y = ground.train
    net = ground.trained(partial(convolutional, channels), request.param, epochs=8, data=(transform()(x), y))
    return nn.Sequential(transform(), net).eval(), name


def test_the_surrogate_breaks_what_a_plain_pgd_leaves(defended, ground, tmp_path, monkeypatch):
    monkeypatch.setenv("RUSHKIT_RUNS", str(tmp_path / "runs"))
    (tmp_path / "stand.py").write_text(SOURCE)
    defence, name = defended
    model = rushkit.classifier(defence, "digits", image_size=SIDE)
    ball = "attack.0.type=pgd", "attack.0.norm=linf", f"attack.0.eps={EPS}", f"attack.0.limit={IMAGES}"
    x, y = (part[:IMAGES] for part in ground.test)
    plain = PGD("linf", EPS, steps=40, step_size=2.5 * EPS / 40, loss="ce").run(WithASlope(defence), x, y)
    with naming():
        code = name_code(f"{tmp_path / 'stand.py'}:{name}", SURROGATE)
        recipe = model.recipe_with(*ball, f"attack.0.surrogate={code}")
        row = attack(recipe, model, protocols=["strict"]).attacks[0]
    assert row.rules["majority"].clean_accuracy > 0.8
    assert 1 - float(plain.success.double().mean()) > LEAST_OF_A_PLAIN_ONE
    assert row.rules["majority"].accuracy <= MOST_LEFT
    assert row.protocol == "strict"
    assert row.surrogate is not None
    assert row.surrogate.code == f"stand.py:{name}"
    assert row.surrogate.agreement > 0.8
    assert 0 < row.surrogate.carried <= row.surrogate.fooled <= IMAGES
