"""What a noise can do beyond the common interface is found by its members, whoever wrote it."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from rushkit import noises
from rushkit.errors import NoCertificate, UsageError
from rushkit.noises import (
    DataDependentNoise,
    DeterministicNoise,
    FiniteNoise,
    GridNoise,
    NamedNoise,
    Norm,
    StatesTheorem,
    TwoClassNoise,
    is_data_dependent,
    is_deterministic,
    name_of,
    settled,
    theorem_of,
)

ABILITIES = (TwoClassNoise, GridNoise, FiniteNoise, DataDependentNoise, DeterministicNoise, NamedNoise, StatesTheorem)


class Plain:
    """A plugin's noise that can do nothing more than it must."""

    std = 0.1

    def sample(self, x, generator=None):
        return torch.zeros_like(x)

    def certified_radius(self, p, norm, dim):
        raise NoCertificate(f"no theorem for {norm}", "use another noise")


class OnHalves(Plain):
    """A plugin's noise on a coarse grid, for which it has a theorem for two classes."""

    name = "halves"
    data_dependent = True

    def snap(self, noisy):
        return (2 * noisy).round() / 2

    def certified_radius_two_class(self, p_a, p_b, norm, dim):
        return np.maximum(np.asarray(p_a) - p_b, 0.0)

    def theorem(self, norm):
        return "halving"


class Counted(Plain):
    """A plugin's noise with two versions of each image."""

    num_splits = 2

    def exhaustive(self, x, start=0, stop=None):
        return torch.stack([x, 1 - x])[start:stop]

    def deterministic_radius(self, counts):
        return np.zeros(len(counts))


def abilities(noise):
    return {ability for ability in ABILITIES if isinstance(noise, ability)}


def test_a_plugins_noise_has_the_abilities_whose_members_it_has():
    assert abilities(Plain()) == set()
    assert abilities(OnHalves()) == {TwoClassNoise, GridNoise, DataDependentNoise, NamedNoise, StatesTheorem}
    assert abilities(Counted()) == {FiniteNoise}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("uniform", {TwoClassNoise}),
        ("gaussian", {TwoClassNoise}),
        ("laplace", {TwoClassNoise}),
        ("discrete-gaussian", {TwoClassNoise, GridNoise, DataDependentNoise}),
        ("split", {GridNoise, FiniteNoise, DataDependentNoise}),
    ],
)
def test_the_noises_of_rushkit_have_these(name, more):
    assert abilities(noises.create(name, scale=0.25)) == more | {NamedNoise, StatesTheorem}


def test_an_ability_can_be_denied_by_its_value():
    noise = Plain()
    noise.data_dependent = noise.deterministic = False
    assert not is_data_dependent(noise)
    assert not is_deterministic(noise)
    assert is_deterministic(noises.create("none"))
    assert is_data_dependent(OnHalves())


def test_a_grid_settles_the_sum_and_a_name_is_what_messages_say():
    x = torch.tensor([0.4, 0.7])
    assert settled(OnHalves(), x).tolist() == [0.5, 0.5]
    assert settled(Plain(), x) is x
    assert (name_of(OnHalves()), name_of(Plain())) == ("halves", "Plain")


def test_a_noise_states_its_theorem_and_a_silent_one_gets_a_neutral_phrase():
    assert (theorem_of(OnHalves(), "l1"), theorem_of(Plain(), "l1")) == ("halving", "the noise's own theorem")


@pytest.mark.parametrize("name", ["uniform", "gaussian", "laplace", "discrete-gaussian", "split"])
def test_every_noise_states_a_theorem_for_each_norm_and_refuses_another(name):
    noise = noises.create(name, scale=0.25)
    assert all(theorem_of(noise, norm) for norm in get_args(Norm))
    with pytest.raises(UsageError, match="l3"):
        theorem_of(noise, "l3")
