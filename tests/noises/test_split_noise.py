"""Splitting noise, against the paper's formula written out and against every small change of a small image."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from rushkit.errors import UsageError
from rushkit.noises.split import Split
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import generator


def random_images(count, shape=(3, 4, 4), seed=0):
    return torch.randint(256, (count, *shape), generator=generator(seed, "x")) / 255


def middle_by_formula(x, s, scale):
    """One pixel of Levine & Feizi 2021, equation of the splitting noise, in float64."""
    width = 2 * scale
    above = width * math.ceil((x - s) / width) + s
    below = width * (math.ceil((x - s) / width) - 1) + s
    return (min(above, 1.0) + max(below, 0.0)) / 2


@pytest.mark.parametrize("scale", [0.02, 0.3, 0.5, 0.9])
def test_middles_are_those_of_the_written_out_formula(scale):
    noise = Split(scale=scale)
    x = (torch.arange(256, dtype=torch.float64) / 255).view(256, 1, 1, 1)
    panel = noise.exhaustive(x)
    assert panel.shape == (noise.num_splits, 256, 1, 1, 1)
    # One pixel, so its offset only renames the shifts: the panels agree as sets of whole rows.
    expected = {
        tuple(round(middle_by_formula(level / 255, (shift + 0.5) / 255, noise.scale), 9) for level in range(256))
        for shift in range(noise.num_splits)
    }
    seen = {tuple(round(value, 9) for value in row) for row in panel.flatten(1).tolist()}
    assert seen == expected


def test_samples_are_rows_of_the_exhaustive_panel_equally_often():
    noise, x = Split(scale=0.01), random_images(1)
    panel = [tuple(version.flatten().tolist()) for version in noise.exhaustive(x)[:, 0]]
    many = x.expand(5000, -1, -1, -1)
    noisy = noise.snap(many + noise.sample(many, generator(0, "noise")))
    seen = [panel.index(tuple(row.flatten().tolist())) for row in noisy]
    counts = np.bincount(seen, minlength=noise.num_splits)
    # 5 standard deviations of a binomial count: false alarm 3e-6 over the five shifts.
    share = 1 / noise.num_splits
    assert np.all(np.abs(counts - 5000 * share) < 5 * math.sqrt(5000 * share * (1 - share)))


def test_snapped_sums_are_the_panel_bit_for_bit_for_every_pair_of_level_and_shift():
    noise = Split(scale=0.3)
    x = (torch.arange(256) / 255).view(256, 1, 1, 1)
    floats = set(noise.exhaustive(x).flatten().tolist())
    for seed in range(20):
        noisy = noise.snap(x + noise.sample(x, generator(seed, "noise")))
        assert set(noisy.flatten().tolist()) <= floats


def test_snap_passes_gradients():
    noise, x = Split(scale=0.3), random_images(2).requires_grad_()
    noise.snap(x + noise.sample(x, generator(0, "noise"))).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_moving_the_image_changes_at_most_one_split_for_each_grey_level_of_l1_distance():
    noise = Split(scale=0.05)
    rng = np.random.default_rng(0)
    levels = torch.from_numpy(rng.integers(0, 256, (50, 1, 3, 3)))
    for _ in range(20):
        step = torch.from_numpy(rng.integers(-3, 4, levels.shape) * (rng.random(levels.shape) < 0.4))
        moved = (levels + step).clamp(0, 255)
        changed = (noise.exhaustive(levels / 255) != noise.exhaustive(moved / 255)).flatten(2).any(2).sum(0)
        assert torch.all(changed <= (moved - levels).abs().flatten(1).sum(1))


def test_the_vote_holds_on_every_image_within_the_radius_and_the_radius_is_not_vacuous():
    # Two grey pixels and a classifier that looks at its input bit by bit: all 8-bit neighbours are tried.
    noise, rng = Split(scale=4 / 255), np.random.default_rng(1)
    weights = torch.from_numpy(rng.standard_normal((3, 2)))

    def counts(levels):
        panel = noise.exhaustive(levels.view(-1, 1, 1, 2).double() / 255).flatten(2)
        classes = (torch.tanh(5 * (panel - 0.5)) @ weights.T + 0.05 * torch.sin(200 * panel.sum(-1, True))).argmax(-1)
        return torch.nn.functional.one_hot(classes, 3).sum(0).numpy()

    centres = torch.from_numpy(rng.integers(10, 246, (40, 2)))
    votes = counts(centres)
    radius, top = noise.deterministic_radius(votes), votes.argmax(1)
    reach = np.round(radius * 255).astype(int)
    assert (reach >= 2).sum() >= 10
    tight = 0
    for centre, steps, label in zip(centres, reach, top, strict=True):
        ball = [v for v in itertools.product(range(-6, 7), repeat=2) if sum(map(abs, v)) <= steps]
        around = centre + torch.tensor(ball)
        assert np.all(counts(around).argmax(1) == label)
        shell = torch.tensor([v for v in itertools.product(range(-6, 7), repeat=2) if sum(map(abs, v)) == steps + 1])
        tight += bool(np.any(counts(centre + shell).argmax(1) != label))
    assert tight > 0


def test_deterministic_radius_counts_half_the_lead_and_breaks_ties_towards_the_first_class():
    noise = Split(scale=5 / 255)
    votes = [[10, 0, 0], [7, 3, 0], [3, 7, 0], [5, 5, 0], [0, 5, 5], [4, 3, 3], [3, 4, 3]]
    expected = [5, 2, 1, 0, 0, 0, 0]
    np.testing.assert_array_equal(noise.deterministic_radius(votes), np.array(expected) / 255)


def test_slices_join_to_the_whole_panel():
    noise, x = Split(scale=0.05), random_images(3)
    parts = [noise.exhaustive(x, start, min(start + 10, noise.num_splits)) for start in range(0, noise.num_splits, 10)]
    assert torch.equal(torch.cat(parts), noise.exhaustive(x))


def test_offsets_differ_between_pixels_and_seeds_and_never_change():
    x = torch.full((1, 3, 4, 4), 0.6)
    panel = Split(scale=0.3).exhaustive(x.mul(255).round() / 255)
    assert len(set(panel[0].flatten().tolist())) > 20
    assert not torch.equal(panel, Split(scale=0.3, seed=1).exhaustive(x.mul(255).round() / 255))
    # Golden: a certificate is about one classifier, and other offsets make another one.
    assert (panel[0, 0, 0, 0] * 1020).round().int().tolist() == [428, 580, 773, 656]


def test_scale_is_rounded_to_half_levels_and_radius_never_exceeds_it():
    noise = Split(scale=0.3001)
    assert (noise.num_splits, noise.scale) == (153, 0.3)
    assert noise.certified_radius(1.0, "l1", 48) == pytest.approx(0.3, abs=1e-15)
    assert Split(std=0.3 / math.sqrt(3)).num_splits == 153


def test_what_has_no_deterministic_certificate_is_refused():
    noise = Split(scale=0.3)
    with pytest.raises(UsageError, match="8-bit"):
        noise.exhaustive(torch.full((1, 3, 4, 4), 0.5))
    with pytest.raises(UsageError, match="153"):
        noise.exhaustive(random_images(1), 0, 154)
    with pytest.raises(UsageError, match="float32"):
        noise.exhaustive(random_images(1).bfloat16())
    with pytest.raises(UsageError, match="153"):
        noise.deterministic_radius([[100, 52]])
    with pytest.raises(UsageError, match="half a grey level"):
        Split(scale=0.0005)


def test_on_a_fixed_panel_every_image_has_versions_of_its_own_whoever_else_is_in_the_batch():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], dim=1)

    noise = Split(scale=0.1)
    x = torch.randint(0, 256, (3, 3, 4, 4), generator=torch.Generator().manual_seed(0)).float() / 255
    g = SmoothedClassifier(Spy(), noise, samples=4, seed=0)
    with g.fixed_noise(7):
        g.votes(x)
        g.votes(x[1:])
    whole, part = seen[0].reshape(4, 3, -1), seen[1].reshape(4, 2, -1)
    assert torch.equal(whole[:, 1:], part)
    versions = noise.exhaustive(x).flatten(2)
    for image in range(3):
        for draw in whole[:, image]:
            assert (versions[:, image] == draw).all(dim=1).any()
