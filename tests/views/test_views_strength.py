"""Weaker views: the distribution goes with the strength from the recipe's to the image itself, flipped or not."""

from __future__ import annotations

import pytest
import torch
from batches import batch_of
from thread_ranks import run_ranks

from rushkit.errors import UsageError
from rushkit.system import generator
from rushkit.views import CropFlip, Views, ViewSettings, weakened

DYNACL = ViewSettings(scale=[0.1, 1.0], interpolation="bicubic")


@pytest.mark.parametrize("s", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_the_settings_are_dynacls(s: float) -> None:
    weaker = weakened(DYNACL, s)
    assert weaker.scale == pytest.approx([1 - 0.9 * s, 1.0], abs=1e-12)
    jitter = (weaker.brightness, weaker.contrast, weaker.saturation, weaker.hue)
    assert jitter == pytest.approx((0.4 * s, 0.4 * s, 0.4 * s, 0.1 * s), abs=1e-12)
    assert (weaker.jitter_p, weaker.grayscale) == pytest.approx((0.8 * s, 0.2 * s), abs=1e-12)
    assert (weaker.flip, weaker.ratio, weaker.interpolation) == (DYNACL.flip, DYNACL.ratio, "bicubic")


def test_views_of_full_strength_are_the_views_and_those_of_none_are_the_images_flipped_or_not() -> None:
    images = torch.randint(0, 256, (40, 3, 16, 16), generator=generator(1, "images"), dtype=torch.uint8)
    views = Views(16)
    source, again = generator(2, "views"), generator(2, "views")
    assert torch.equal(views.weakened(1.0)(images, source), views(images, again))
    flat = views.weakened(0.0)(images, source)
    gap = torch.minimum(*((flat - x / 255).abs().amax((1, 2, 3)) for x in (images, images.flip(3))))
    assert gap.max() < 1e-6


@pytest.mark.parametrize("s", [-0.1, 1.5, float("nan")])
def test_a_strength_outside_its_range_is_refused(s: float) -> None:
    with pytest.raises(UsageError, match="strength of views must be between 0 and 1"):
        weakened(DYNACL, s)


def test_a_batch_gives_views_of_the_strength_asked_for() -> None:
    images = torch.randint(0, 256, (6, 3, 16, 16), generator=generator(3, "images"), dtype=torch.uint8)
    views = Views(16, DYNACL)
    made = batch_of(images, views=views, seed=4).view(strength=0.4)
    assert torch.equal(made, views.weakened(0.4)(images, torch.Generator().manual_seed(4)))
    other = Views(8, DYNACL)
    made = batch_of(images, views=views, seed=4).view(other, strength=0.7)
    assert torch.equal(made, other.weakened(0.7)(images, torch.Generator().manual_seed(4)))


def test_two_ranks_see_the_weak_views_of_one() -> None:
    images = torch.randint(0, 256, (7, 3, 16, 16), generator=generator(4, "images"), dtype=torch.uint8)

    def seen() -> torch.Tensor:
        return batch_of(images, views=Views(16, DYNACL)).view(strength=0.5)

    torch.testing.assert_close(torch.cat(run_ranks(seen, 2)), seen(), rtol=0, atol=1e-6)


def test_views_without_a_strength_are_refused_one() -> None:
    batch = batch_of(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), views=CropFlip())
    assert batch.view(strength=1.0).shape == (2, 3, 8, 8)
    with pytest.raises(UsageError, match="these views have no strength"):
        batch.view(strength=0.5)
