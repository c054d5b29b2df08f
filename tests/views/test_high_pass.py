"""The high-pass filter: exact on constants and waves, a projection, and the published 193 of 1024 coefficients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rushkit.system import generator
from rushkit.views import high_pass


def wave(cycles: float, size: int = 32, other: float = 0.0) -> Tensor:
    """A cosine of so many cycles over the width, and ``other`` over the height, as an image in float64."""
    turns = torch.arange(size, dtype=torch.float64) / size
    return (2 * math.pi * (cycles * turns + other * turns[:, None])).cos().expand(1, 3, size, size)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(0, "noise"), dtype=torch.float64)


def test_a_constant_is_gone() -> None:
    assert high_pass(torch.full((2, 3, 32, 32), 0.7, dtype=torch.float64)).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("cycles", "other", "stays"),
    [
        *((3, 0, False), (0, 3, False), (7, 0, False), (8, 0, True), (9, 0, True), (0, 9, True), (16, 16, True)),
        # Their length decides, not the larger of the two: 5² + 6² < 8² ≤ 5² + 7².
        *((5, 6, False), (5, 7, True), (-7, 5, True), (-6, 5, False)),
    ],
)
def test_a_wave_is_gone_or_stays_as_it_is(cycles: int, other: int, stays: bool) -> None:
    image = wave(cycles, other=other)
    torch.testing.assert_close(high_pass(image), image * stays, rtol=0, atol=1e-12)


def test_at_32_pixels_it_removes_193_of_1024_coefficients() -> None:
    # Of a point's 1024 coefficients, all equal, those that stay add up to its height.
    point = torch.zeros(1, 32, 32, dtype=torch.float64)
    point[0, 5, 9] = 1
    assert high_pass(point)[0, 5, 9].item() == pytest.approx((1024 - 193) / 1024, abs=1e-12)


@pytest.mark.parametrize("shape", [(4, 3, 32, 32), (2, 1, 17, 17), (3, 20, 27), (2, 3, 16, 9)])
def test_a_second_time_it_changes_nothing_and_it_is_linear_and_symmetric(shape: tuple[int, ...]) -> None:
    x, y = noise(*shape), noise(*shape).flip(-1)
    high = high_pass(x, 3.0)
    torch.testing.assert_close(high_pass(high, 3.0), high, rtol=0, atol=1e-12)
    torch.testing.assert_close(high_pass(x + 2 * y, 3.0), high + 2 * high_pass(y, 3.0), rtol=0, atol=1e-12)
    assert (high * y).sum().item() == pytest.approx((x * high_pass(y, 3.0)).sum().item(), abs=1e-9)


def test_it_is_the_filter_of_the_shifted_spectrum() -> None:
    images = noise(2, 3, 32, 32)
    k = torch.arange(32) - 16
    kept = (k[:, None] ** 2 + k**2).sqrt() >= 8
    spectrum = torch.fft.fftshift(torch.fft.fft2(images), dim=(-2, -1)) * kept
    expected = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real
    torch.testing.assert_close(high_pass(images), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [16, 96])
def test_at_another_size_the_radius_counts_cycles_of_the_image(size: int) -> None:
    for cycles, stays in ((7, False), (8, True)):
        image = wave(cycles, size)
        torch.testing.assert_close(high_pass(image), image * stays, rtol=0, atol=1e-12)


def test_a_radius_of_zero_leaves_everything_and_dtype_and_autocast_do_not_matter() -> None:
    images = noise(2, 3, 32, 32)
    torch.testing.assert_close(high_pass(images, 0.0), images, rtol=0, atol=1e-12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = high_pass(images.float())
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), high_pass(images), rtol=0, atol=1e-5)
