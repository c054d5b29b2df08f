"""Crop-flip against torchvision's pad, crop and flip, and the distribution of its crops."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torchvision.transforms import functional as peer

from rushkit.errors import UsageError
from rushkit.system import generator
from rushkit.views import CropFlip, apply_crop_flip

FALSE_ALARM = 1e-4


@pytest.mark.parametrize(("channels", "height", "width", "padding"), [(3, 32, 32, 4), (1, 5, 9, 2), (3, 8, 8, 0)])
def test_equals_torchvision_image_by_image(channels: int, height: int, width: int, padding: int) -> None:
    draws = generator(1, "crop-flip")
    images = torch.randint(0, 256, (30, channels, height, width), generator=draws, dtype=torch.uint8)
    top, left = torch.randint(0, 2 * padding + 1, (2, 30), generator=draws)
    flip = torch.rand(30, generator=draws) < 0.5
    views = apply_crop_flip(images, top, left, flip, padding)
    for i, view in enumerate(views):
        expected = peer.crop(peer.pad(images[i], [padding]), int(top[i]), int(left[i]), height, width)
        expected = peer.hflip(expected) if flip[i] else expected
        assert torch.equal(view, expected / 255)


def test_crops_are_uniform_over_all_places_and_flips() -> None:
    # One bright pixel on black says where its image was cropped, and a second one to the right of it if it was flipped.
    image = torch.zeros(1, 1, 11, 11, dtype=torch.uint8)
    image[..., 5, 4], image[..., 5, 6] = 255, 51
    views = CropFlip(padding=2)(image.expand(20_000, 1, 11, 11), generator(2, "crop-flip"))
    brightest, second = (views == 1.0).flatten(1).int().argmax(1), (views == 0.2).flatten(1).int().argmax(1)
    flipped = second < brightest
    middle = (brightest + second) // 2
    counts = torch.stack((flipped.long(), middle // 11 - 3, middle % 11 - 3), 1).unique(dim=0, return_counts=True)[1]
    assert len(counts) == 2 * 5 * 5
    assert stats.chisquare(counts.numpy()).pvalue > FALSE_ALARM


def test_no_padding_and_no_flip_give_the_image_itself() -> None:
    images = torch.arange(192, dtype=torch.uint8).view(4, 3, 4, 4)
    assert torch.equal(CropFlip(padding=0, flip=0)(images, generator(3, "crop-flip")), images / 255)


def test_probability_one_flips_every_image() -> None:
    images = torch.arange(192, dtype=torch.uint8).view(4, 3, 4, 4)
    assert torch.equal(CropFlip(padding=0, flip=1)(images, generator(4, "crop-flip")), images.flip(3) / 255)


@pytest.mark.parametrize("changes", [{"padding": -1}, {"flip": 1.1}])
def test_value_outside_its_range_is_refused_by_name(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(changes))} must"):
        CropFlip(**changes)  # type: ignore[arg-type]


def test_float_images_are_refused() -> None:
    with pytest.raises(UsageError, match="uint8 images"):
        CropFlip()(torch.zeros(2, 3, 8, 8), generator(5, "crop-flip"))
