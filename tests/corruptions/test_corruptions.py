"""The fifteen corruptions: closed forms where there are any, and what must hold of every kind."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from rushkit import registries
from rushkit.corruptions import KINDS, check_images, corrupted, parameters_of
from rushkit.corruptions.blur import along_line, disk_kernel, glass_blur, motion_kernel, smoothed, zoomed
from rushkit.corruptions.digital import contrast, elastic_transform, pixelate
from rushkit.corruptions.noise import impulse_noise, shot_noise
from rushkit.corruptions.textures import frost_texture, plasma
from rushkit.corruptions.weather import brightness, fog, snow
from rushkit.errors import UsageError
from rushkit.recipe.schema import Corruption

# Their parameters trade one effect for another, so that distance to the image does not rise with the strength.
TRADES = ("glass-blur", "motion-blur", "frost", "elastic-transform")


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(side: int = 32, channels: int = 3, seed: int = 1) -> np.ndarray:
    return draws(seed).random((side, side, channels))


def grey_images(count: int = 6, side: int = 32, channels: int = 3, level: int = 128) -> torch.Tensor:
    return torch.full((count, channels, side, side), level, dtype=torch.uint8)


def real_images() -> torch.Tensor:
    """Test images of CIFAR-10, where they are."""
    root = os.environ.get("RUSHKIT_DATA", "")
    if not (Path(root) / "cifar-10-batches-bin").is_dir():
        pytest.skip("the images of CIFAR-10 are not here: RUSHKIT_DATA names their folder")
    return registries.datasets.create("cifar10", root=root).split("test").images[:24]


def distances(images: torch.Tensor, kind: str) -> list[float]:
    """The root mean square change of an image, averaged over the images, at each strength."""
    indices = torch.arange(len(images))
    changes = [corrupted(images, kind, strength, 0, indices).double() - images.double() for strength in range(1, 6)]
    return [float(change.square().mean(dim=(1, 2, 3)).sqrt().mean()) for change in changes]


def test_the_recipe_knows_the_kinds_of_the_table_and_each_has_five_strengths():
    assert tuple(KINDS) == get_args(Corruption)
    assert len(KINDS) == 15
    assert all(len(kind.small) == len(kind.large) == 5 for kind in KINDS.values())
    families = [kind.family for kind in KINDS.values()]
    assert [families.count(name) for name in ("noise", "blur", "weather", "digital")] == [3, 4, 4, 4]


@pytest.mark.parametrize("strength, std", list(enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1)))
def test_gaussian_noise_has_the_published_deviation(strength, std):
    noisy = corrupted(grey_images(20), "gaussian-noise", strength, 0, torch.arange(20))
    values = noisy.double() / 255 - 128 / 255
    # 61440 values: the standard error of the deviation is 0.3 % of it; rounding to levels adds 1 / (12 * 255^2).
    assert float(values.std()) == pytest.approx(math.sqrt(std**2 + 1 / (12 * 255**2)), rel=0.012)
    assert float(values.mean()) == pytest.approx(0, abs=4 * std / math.sqrt(61440))


def test_shot_noise_has_the_mean_and_variance_of_photon_counts():
    x = np.full((200, 200, 1), 0.3)
    counted = shot_noise(x, (50.0,), draws())
    assert counted.mean() == pytest.approx(0.3, abs=0.002)
    assert counted.var() == pytest.approx(0.3 / 50, rel=0.05)
    assert np.allclose(counted * 50, np.rint(counted * 50))


def test_impulse_noise_loses_the_published_share_half_to_black_and_half_to_white():
    x = np.full((300, 300, 1), 0.4)
    lost = impulse_noise(x, (0.1,), draws())
    assert (lost == 0).mean() == pytest.approx(0.05, abs=0.004)
    assert (lost == 1).mean() == pytest.approx(0.05, abs=0.004)
    assert ((lost == 0) | (lost == 1) | (lost == 0.4)).all()


def test_contrast_keeps_the_mean_of_each_channel_and_scales_the_rest():
    x = picture()
    flat = contrast(x, (0.3,), draws())
    assert np.allclose(flat, 0.3 * x + 0.7 * x.mean(axis=(0, 1)))
    assert np.allclose(flat.mean(axis=(0, 1)), x.mean(axis=(0, 1)))


def test_brightness_raises_the_value_and_keeps_hue_and_saturation():
    import colorsys

    x = picture(8) * 0.8
    x[0, 0] = 0
    for before, after in zip(x.reshape(-1, 3), brightness(x, (0.15,), draws()).reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        assert after == pytest.approx(colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.15)), abs=1e-12)


@pytest.mark.parametrize("settings", [*KINDS["defocus-blur"].small, *KINDS["defocus-blur"].large])
def test_the_weights_of_a_disk_sum_to_one_and_spread_as_far_as_it_does(settings):
    radius, softness = settings
    kernel = disk_kernel(radius, softness)
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    assert np.allclose(kernel, kernel.T)
    assert np.allclose(kernel, kernel[::-1])
    offsets = np.arange(len(kernel)) - len(kernel) // 2
    inside = offsets[:, None] ** 2 + offsets**2 <= radius**2
    of_disk = (inside.sum(axis=1) * offsets**2).sum() / inside.sum()
    window = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    soft = np.exp(-(window**2) / (2 * softness**2))
    # Variances add in a convolution.
    of_soft = (soft * window**2).sum() / soft.sum()
    assert (kernel.sum(axis=1) * offsets**2).sum() == pytest.approx(of_disk + of_soft, rel=1e-9)


@pytest.mark.parametrize("std", [0.7, 1.5])
def test_a_gaussian_blur_has_its_variance(std):
    x = np.zeros((31, 31, 1))
    x[15, 15] = 1
    spread = smoothed(x, std)[..., 0]
    offsets = np.arange(31) - 15
    assert spread.sum() == pytest.approx(1, abs=1e-9)
    assert (spread.sum(axis=1) * offsets**2).sum() == pytest.approx(std**2, rel=0.02)


def test_the_weights_of_a_motion_sum_to_one_and_fall_as_half_a_gaussian():
    kernel = motion_kernel(9, 2.5)
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    assert len(kernel) == 19
    assert kernel[5] / kernel[0] == pytest.approx(math.exp(-(5**2) / (2 * 2.5**2)), rel=1e-12)


@pytest.mark.parametrize("degrees, step", [(0, (0, 1)), (90, (1, 0)), (-90, (-1, 0)), (45, (1, 1))])
def test_a_motion_draws_a_point_out_along_its_line(degrees, step):
    x = np.zeros((25, 25, 1))
    x[12, 12] = 1
    drawn, kernel = along_line(x, 2, 1.0, degrees)[..., 0], motion_kernel(2, 1.0)
    assert drawn.sum() == pytest.approx(1, abs=1e-12)
    # A pixel sees what lies ahead of it.
    down, right = (round(math.sin(math.radians(degrees))), round(math.cos(math.radians(degrees))))
    assert (down, right) == step
    assert drawn[12, 12] == pytest.approx(kernel[0])
    assert drawn[12 - down, 12 - right] >= kernel[1] - 1e-12


def test_an_even_image_stays_as_it_is_under_every_blur():
    x = np.full((32, 32, 3), 0.6)
    for name, kind in KINDS.items():
        if kind.family == "blur":
            assert np.allclose(kind.apply(x, tuple(map(float, kind.small[4])), draws()), 0.6, atol=1e-9), name


def test_glass_swaps_pixels_with_near_ones_and_loses_none():
    x = np.arange(32 * 32, dtype=np.float64).reshape(32, 32, 1) / 1023
    # A Gaussian this narrow is the identity.
    swapped = glass_blur(x, (1e-3, 1.0, 1.0), draws())
    assert np.array_equal(np.sort(swapped, axis=None), np.sort(x, axis=None))
    moved = np.rint(swapped[..., 0] * 1023).astype(int)
    assert (moved != np.arange(1024).reshape(32, 32)).mean() > 0.5
    assert (moved[0] == np.arange(32)).mean() > 0.5


def test_enlarging_by_one_changes_nothing_and_by_two_doubles_the_middle():
    x = picture()
    assert np.allclose(zoomed(x, 1.0), x)
    ramp = np.tile(np.arange(32.0)[:, None, None], (1, 32, 1))
    enlarged = zoomed(ramp, 2.0)[:, 0, 0]
    assert enlarged[0] == pytest.approx(8)
    assert enlarged[-1] == pytest.approx(23)
    assert np.allclose(np.diff(enlarged), 15 / 31)


def test_a_cloud_runs_from_zero_to_one_and_is_smoother_for_a_larger_decay():
    def roughness(decay: float) -> float:
        return float(np.mean([np.abs(np.diff(plasma(32, decay, draws(seed)), axis=0)).mean() for seed in range(8)]))

    cloud = plasma(32, 2.0, draws())
    assert (cloud.min(), cloud.max(), cloud.shape) == (0.0, 1.0, (32, 32))
    assert plasma(20, 2.0, draws()).shape == (20, 20)
    assert roughness(3.0) < roughness(2.0) < roughness(1.4)


def test_fog_keeps_the_brightest_value_at_most():
    x = picture()
    foggy = fog(x, (1.0, 2.0), draws())
    assert foggy.max() <= x.max() + 1e-12
    assert foggy.std() < x.std()
    assert np.array_equal(fog(np.zeros((32, 32, 3)), (1.0, 2.0), draws()), np.zeros((32, 32, 3)))


def test_frost_is_bluish_and_within_range():
    texture = frost_texture(32, 3, draws())
    assert texture.min() >= 0
    assert texture.max() <= 1
    assert (texture[..., 2] >= texture[..., 0]).all()
    assert 0.3 < texture.mean() < 0.9


def test_snow_only_brightens():
    x = picture() * 0.5
    assert (snow(x, (0.3, 0.3, 1.25, 0.65, 14.0, 12.0, 0.8), draws()) >= x - 1e-12).all()


def test_pixels_are_constant_in_blocks():
    x = np.rint(picture() * 255) / 255
    coarse = pixelate(x, (0.5,), draws())
    blocks = coarse.reshape(16, 2, 16, 2, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert np.allclose(blocks[:, 0, :, 0], x.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3)), atol=1.01 / 255)


def test_an_elastic_field_of_length_zero_and_no_affine_move_leave_the_image():
    x = picture()
    assert np.allclose(elastic_transform(x, (0.0, 0.0, 0.0), draws()), x)


def test_an_elastic_transform_moves_pixels_no_further_than_its_field_is_long():
    ramp = np.tile(np.arange(32.0)[:, None, None], (1, 32, 1)) / 31
    moved = elastic_transform(ramp, (0.05, 0.1, 0.0), draws())
    assert 0 < np.abs(moved - ramp).max() <= 0.05 * 32 / 31 + 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_gets_the_same_corruption_whatever_is_beside_it(kind):
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    indices = torch.tensor([7, 3, 11, 0, 5])
    together = corrupted(images, kind, 3, 0, indices)
    assert torch.equal(corrupted(images[2:4], kind, 3, 0, indices[2:4]), together[2:4])
    assert together.dtype == torch.uint8
    again = corrupted(images, kind, 3, 1, indices)
    random = kind not in ("defocus-blur", "zoom-blur", "brightness", "contrast", "pixelate", "jpeg-compression")
    assert torch.equal(again, together) != random


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_works_on_tiny_and_on_grey_images(kind, side, channels):
    images = torch.randint(
        0, 256, (2, channels, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )
    for strength in (1, 5):
        changed = corrupted(images, kind, strength, 0, torch.arange(2))
        assert changed.shape == images.shape
    assert not torch.equal(changed, images)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_works_with_the_parameters_of_large_images(kind):
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    assert parameters_of(96) == "imagenet-c"
    assert not torch.equal(corrupted(images, kind, 5, 0, torch.arange(1)), images)


@pytest.mark.parametrize(
    "channels, side, words", [(4, 32, "of 1 or 3 channels, and these have 4"), (2, 32, "have 2"), (3, 4, "are 4x4")]
)
def test_images_that_corruptions_are_not_defined_for_are_refused(channels, side, words):
    with pytest.raises(UsageError, match=words):
        check_images(channels, side)


def test_small_images_have_the_parameters_of_cifar():
    assert [parameters_of(side) for side in (8, 32, 64, 65, 224)] == ["cifar10-c"] * 3 + ["imagenet-c"] * 2


class TestRisingStrength:
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in TRADES])
    def test_on_digits(self, kind):
        images = registries.datasets.create("digits", root="").split("test").images[:24]
        images = torch.nn.functional.interpolate(images.float(), 32, mode="bilinear").round().to(torch.uint8)
        found = distances(images, kind)
        assert found == sorted(found)
        assert found[4] > 1.3 * found[0]

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in TRADES])
    def test_on_real_images(self, kind):
        found = distances(real_images(), kind)
        assert found == sorted(found)

    def test_what_trades_one_effect_for_another_still_changes_real_images_at_each_strength(self):
        images = real_images()
        for kind in TRADES:
            assert min(distances(images, kind)) > 5, kind
        assert distances(images, "motion-blur")[4] > distances(images, "motion-blur")[0]
        assert distances(images, "frost")[2] > distances(images, "frost")[0]
