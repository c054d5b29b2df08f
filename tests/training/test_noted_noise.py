"""The noise that an objective gets in training is the noise itself, and knows whether it was drawn from."""

from __future__ import annotations

import torch

from rushkit import noises
from rushkit.training.noted_noise import NotedNoise


def test_a_draw_is_noted_and_is_that_of_the_noise():
    noise, x = noises.create("gaussian", std=0.25), torch.zeros(2, 3, 4, 4)
    noted = NotedNoise(noise)
    assert not noted.drawn
    drawn, expected = (given.sample(x, torch.Generator().manual_seed(0)) for given in (noted, noise))
    assert torch.equal(drawn, expected)
    assert noted.drawn
    assert (noted.std, noted.certified_radius(0.9, "l2", 48)) == (noise.std, noise.certified_radius(0.9, "l2", 48))


def test_a_noise_of_zeros_is_none():
    noted = NotedNoise(noises.create("none"))
    noted.sample(torch.zeros(1, 3, 2, 2))
    assert not noted.drawn
