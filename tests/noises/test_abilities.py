"""What a noise can do beyond the common interface is found by its members, whoever wrote it."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from rushkit import noises
from rushkit.errors import NoCertificate, PluginError, UsageError
from rushkit.noises import (
    DataDependentNoise,
    DeterministicNoise,
    FiniteNoise,
    GridNoise,
    NamedNoise,
    Norm,
    PrefersNorm,
    StatesTheorem,
    TwoClassNoise,
    is_data_dependent,
    is_deterministic,
    name_of,
    own_norm_of,
    settled,
    theorem_of,
)

ABILITIES = (
    TwoClassNoise, GridNoise, FiniteNoise, DataDependentNoise, DeterministicNoise, NamedNoise, StatesTheorem,
    PrefersNorm,
)  # fmt: skip


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
    assert abilities(noises.create(name, scale=0.25)) == more | {NamedNoise, StatesTheorem, PrefersNorm}


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


@pytest.mark.parametrize(
    ("name", "norm"),
    [("uniform", "l1"), ("laplace", "l1"), ("split", "l1"), ("gaussian", "l2"), ("discrete-gaussian", "l2")],
)
def test_a_noise_prefers_the_norm_in_which_its_theorem_is_tight(name, norm):
    assert own_norm_of(noises.create(name, scale=0.25), 3072) == norm


class InOne(Plain):
    """A plugin's noise with a theorem in l-inf alone."""

    def certified_radius(self, p, norm, dim):
        return 0.1 if norm == "linf" else super().certified_radius(p, norm, dim)


def test_a_silent_noise_has_l2_or_else_the_first_norm_with_a_theorem():
    assert [own_norm_of(noise, 3072) for noise in (Plain(), InOne(), noises.create("none"))] == ["l2", "linf", "l2"]


def test_an_own_norm_that_is_none_is_the_plugins_fault():
    noise = InOne()
    noise.own_norm = "l3"
    with pytest.raises(PluginError, match="'InOne' has the own norm 'l3'"):
        own_norm_of(noise, 3072)
