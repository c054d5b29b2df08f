"""Images that are brought to a height and a width: where each pixel goes, and that squares are as they were."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from rushkit.data.memory import resize
from rushkit.data.picture import Fit, Form, read_picture
from rushkit.image_size import as_size, sides, size_flag, size_from_json, size_line, size_to_json, size_words


def decoded(pixels: np.ndarray, size, fit: Fit = "crop") -> np.ndarray:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return read_picture(file, Form(size, 3, fit), name="drawn").pixels


@pytest.fixture
def wide() -> np.ndarray:
    """An image of 4 x 12: its column is its red value, its row its green one."""
    rows, columns = np.mgrid[:4, :12].astype(np.uint8) * 20
    return np.stack([columns, rows, np.zeros_like(rows)], axis=-1)


def test_a_crop_is_the_largest_box_of_the_shape_in_the_middle(wide):
    # 4 x 6 of 4 x 12: columns 3 to 8, unresized.
    assert np.array_equal(decoded(wide, (4, 6)), wide[:, 3:9].transpose(2, 0, 1))
    tall = wide.transpose(1, 0, 2)
    assert np.array_equal(decoded(np.ascontiguousarray(tall), (6, 4)), tall[3:9].transpose(2, 0, 1))


def test_bars_are_where_the_shape_is_longer(wide):
    padded = decoded(wide, (8, 12), "pad")
    assert np.array_equal(padded[:, 2:6], wide.transpose(2, 0, 1))
    assert not padded[:, :2].any()
    assert not padded[:, 6:].any()
    padded = decoded(wide, (4, 16), "pad")
    assert np.array_equal(padded[:, :, 2:14], wide.transpose(2, 0, 1))
    assert not padded[:, :, :2].any()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_one_of_the_shape_itself_stays_as_it_is(wide, fit):
    assert np.array_equal(decoded(wide, (4, 12), fit), wide.transpose(2, 0, 1))


def test_stretching_is_pillows_resize(wide):
    peer = np.asarray(Image.fromarray(wide).resize((5, 3), Image.Resampling.BILINEAR))
    assert np.array_equal(decoded(wide, (3, 5), "stretch"), peer.transpose(2, 0, 1))


@pytest.mark.parametrize(("height", "width", "side"), [(37, 53, 16), (53, 37, 16), (9, 31, 30), (640, 427, 224)])
def test_a_square_is_cropped_to_the_shorter_side_exactly(height, width, side):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    shorter = min(height, width)
    left, top = (width - shorter) / 2, (height - shorter) / 2
    box = (left, top, left + shorter, top + shorter)
    peer = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR, box))
    assert np.array_equal(decoded(pixels, side), peer.transpose(2, 0, 1))


def test_tensors_are_resized_along_each_axis():
    images = torch.arange(8, dtype=torch.uint8).mul(10).view(1, 1, 8, 1).expand(1, 3, 8, 4).contiguous()
    small = resize(images, (4, 2))
    assert small.shape == (1, 3, 4, 2)
    # Rows 2 and 3, with weights 3 of 8 each, and their neighbours 1 and 4 with 1 of 8.
    assert small[0, 0, 1].tolist() == [round((10 + 3 * 20 + 3 * 30 + 40) / 8)] * 2
    assert resize(images, (8, 4)) is images


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (32, 32), ([32, 32], 32), ([24, 16], (24, 16)), ((16, 24), (16, 24)), (1, 1), (64, 64),
        (0, None), (65, None), ([24, 65], None), ([0, 24], None), (True, None), ([True, 2], None),
        ("32", None), ([24], None), ([24, 16, 3], None), (24.0, None), (None, None), ({}, None), ([[1], 2], None),
    ],
)  # fmt: skip
def test_what_is_a_size(value, size):
    assert size_from_json(value, 1, 64) == size


@pytest.mark.parametrize(
    ("size", "words", "line", "flag"),
    [(32, "32x32", "--set data.image_size=32", "32"), ((24, 16), "24x16", "--set 'data.image_size=[24,16]'", "24x16")],
)
def test_how_a_size_is_written(size, words, line, flag):
    assert (size_words(size), size_line(size), size_flag(size)) == (words, line, flag)
    assert size_from_json(size_to_json(size), 1, 64) == size == as_size(*sides(size))
