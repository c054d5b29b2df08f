"""Versions of 8-bit pixels: on the grid, within the ball, and as near as can be."""

from __future__ import annotations

import pytest
import torch

from rushkit.attacks.grid import on_grid
from rushkit.attacks.norms import length, project
from rushkit.errors import UsageError


def images(count: int = 8) -> torch.Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, 5, 4), generator=source, dtype=torch.uint8).float() / 255


@pytest.mark.parametrize("norm, eps", [("linf", 8 / 255), ("linf", 0.03), ("l2", 0.2), ("l2", 1.0), ("l1", 3.0)])
def test_versions_are_on_the_grid_and_within_the_ball(norm, eps):
    x, source = images(), torch.Generator().manual_seed(1)
    x_adv = project(x, x + eps * torch.randn(x.shape, generator=source), norm, eps)
    snapped = on_grid(x, x_adv, norm, eps)
    levels = (snapped * 255).round()
    assert torch.equal(snapped, levels / 255)
    assert float(length(snapped.double() - x.double(), norm).amax()) <= eps * (1 + 1e-5)
    # No pixel moves by a level or more.
    assert float((snapped - x_adv).abs().amax()) < 1 / 255 + 1e-6


def test_a_rounded_version_that_fits_is_the_nearest():
    x = images()
    x_adv = (x + 0.3 / 255).clamp(0, 1)
    assert torch.equal(on_grid(x, x_adv, "l2", 1.0), x)
    assert torch.equal(on_grid(x, (x + 0.6 / 255).clamp(0, 1), "l2", 1.0), ((x * 255 + 1).clamp(max=255)).round() / 255)


def test_in_l_inf_the_radius_counts_whole_levels():
    x = torch.full((1, 1, 2, 2), 100 / 255)
    assert torch.equal(on_grid(x, x + 7.9 / 255, "linf", 7.9 / 255), torch.full_like(x, 107 / 255))
    assert torch.equal(on_grid(x, x + 8 / 255, "linf", 8 / 255), torch.full_like(x, 108 / 255))


def test_pixels_that_rounding_moved_furthest_go_back_first():
    x = torch.zeros(1, 1, 1, 3)
    x_adv = torch.tensor([0.6, 0.9, 0.2]).view(1, 1, 1, 3) / 255
    # Rounded, 1, 1 and 0 levels are more than 1.7 in l1; 0.6 was moved furthest.
    assert (on_grid(x, x_adv, "l1", 1.7 / 255) * 255).round().flatten().tolist() == [0, 1, 0]


def test_images_between_the_levels_are_refused():
    with pytest.raises(UsageError, match="8-bit pixels"):
        on_grid(images() + 0.4 / 255, images(), "linf", 8 / 255)
