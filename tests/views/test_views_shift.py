"""Rotations and translations: exact where they map pixels onto pixels."""

from __future__ import annotations

import pytest
import torch

from rushkit.views.shift import Shift, shift_grid, shifted


def images(side: int = 9) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_no_shift_returns_the_images_themselves():
    x = images()
    assert shifted(x, Shift(0, 0, 0)) is x


@pytest.mark.parametrize("right, down", [(2, 0), (0, 3), (-1, 2), (-3, -2)])
def test_whole_pixels_move_the_image_and_black_comes_in(right, down):
    x = images()
    expected = torch.zeros_like(x)
    side = x.shape[-1]
    for row in range(side):
        for column in range(side):
            if 0 <= row - down < side and 0 <= column - right < side:
                expected[..., row, column] = x[..., row - down, column - right]
    torch.testing.assert_close(shifted(x, Shift(0, right, down)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [8, 9])
def test_a_right_angle_turns_the_image_counter_clockwise(side):
    x = images(side)
    torch.testing.assert_close(shifted(x, Shift(90, 0, 0)), torch.rot90(x, 1, dims=(2, 3)), atol=1e-5, rtol=0)


def test_the_rotation_comes_first():
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 8] = 1
    # The right end of the middle row turns to the top of the middle column, and then moves right and down.
    moved = shifted(x, Shift(90, 2, 3))
    assert moved[0, 0].argmax() == 3 * 9 + 6
    assert moved.max() == pytest.approx(1, abs=1e-4)


def test_half_a_pixel_is_the_mean_of_two():
    x = images()
    moved = shifted(x, Shift(0, 0.5, 0))
    torch.testing.assert_close(moved[..., 1:], (x[..., 1:] + x[..., :-1]) / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[..., 0], x[..., 0] / 2, atol=1e-5, rtol=0)


def test_the_grid_is_even_has_no_shift_in_its_middle_and_reaches_its_ends():
    grid = shift_grid(30, 3, (31, 5, 5))
    assert len(grid) == len(set(grid)) == 775
    assert grid[775 // 2] == Shift(0, 0, 0)
    assert (grid[0], grid[-1]) == (Shift(-30, -3, -3), Shift(30, 3, 3))
    assert sorted({point.rotation for point in grid}) == [float(angle) for angle in range(-30, 31, 2)]
    assert sorted({point.right for point in grid}) == [-3, -1.5, 0, 1.5, 3]


def test_a_single_point_is_no_shift():
    assert shift_grid(30, 3, (1, 1, 1)) == [Shift(0, 0, 0)]
