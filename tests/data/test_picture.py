"""One decoder of image files: upright, of the channels asked for, of 8 bits, square by the way asked for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from rushkit.data import channels_of, create, picture
from rushkit.data.memory import Split
from rushkit.data.picture import Form, ImageFault, read_picture
from rushkit.errors import UsageError

ORIENTATION = 0x0112


def photo(width: int = 12, height: int = 8) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_has_the_pixels_of_the_upright_one(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored = photo()
    about = stored.getexif()
    about[ORIENTATION] = orientation
    stored.save(tmp_path / f"turned{suffix}", exif=about, lossless=True)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / f"turned{suffix}"))
    assert upright is not None
    Image.fromarray(np.asarray(upright)).save(tmp_path / "upright.png")
    turned, expected = (read_picture(tmp_path / name, Form(5)) for name in (f"turned{suffix}", "upright.png"))
    assert (turned.pixels == expected.pixels).all()
    assert (turned.width, turned.height) == (expected.width, expected.height)
    assert (turned.width, turned.height) == ((8, 12) if orientation > 4 else (12, 8))


def test_an_orientation_turns_the_way_that_the_standard_says(tmp_path: Path) -> None:
    # 6: the first row of the file is the right side of the picture.
    stored = Image.new("RGB", (4, 4))
    stored.paste((200, 0, 0), (0, 0, 4, 1))
    about = stored.getexif()
    about[ORIENTATION] = 6
    stored.save(tmp_path / "turned.png", exif=about)
    red = read_picture(tmp_path / "turned.png", Form(4)).pixels[0]
    assert (red == [[0, 0, 0, 200]] * 4).all()


def test_damaged_exif_leaves_an_image_as_it_is_stored(tmp_path: Path) -> None:
    photo(8, 8).save(tmp_path / "whole.png")
    photo(8, 8).save(tmp_path / "damaged.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 9)
    whole, damaged = (read_picture(tmp_path / f"{name}.png", Form(8)).pixels for name in ("whole", "damaged"))
    assert (whole == damaged).all()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_of_sixteen_bits_of_grey_the_upper_eight_are_kept(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256, 511], [512, 32767, 32768, 40000], [65279, 65280, 65534, 65535], [1, 2, 3, 4]])
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / f"scan{suffix}")
    pixels = read_picture(tmp_path / f"scan{suffix}", Form(4)).pixels
    assert (pixels == values[None] // 256).all()


def test_more_than_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.new("F", (4, 4), 0.5).save(tmp_path / "float.tif")
    Image.new("I", (4, 4), 70_000).save(tmp_path / "long.tif")
    for name in ("float.tif", "long.tif"):
        with pytest.raises(ImageFault, match="more than 16 bits a channel"):
            read_picture(tmp_path / name, Form(4))


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ("crop", [[10, 10], [10, 10]]),
        ("pad", [[0, 0], [0, 0]]),
        ("stretch", [[10, 10], [10, 10]]),
    ],
)
def test_each_fit_of_one_colour(tmp_path: Path, fit: picture.Fit, expected: list[list[int]]) -> None:
    Image.new("L", (8, 2), 10).save(tmp_path / "wide.png")
    pixels = read_picture(tmp_path / "wide.png", Form(8, 1, fit)).pixels[0]
    assert pixels[[0, -1]][:, [0, -1]].tolist() == expected


def test_pad_keeps_all_of_an_image_between_black_bars(tmp_path: Path) -> None:
    wide = photo(8, 4)
    wide.save(tmp_path / "wide.png")
    pixels = read_picture(tmp_path / "wide.png", Form(8, fit="pad")).pixels.transpose(1, 2, 0)
    assert (pixels[2:6] == np.asarray(wide)).all()
    assert not pixels[[0, 1, 6, 7]].any()


def test_stretch_distorts_all_of_an_image(tmp_path: Path) -> None:
    columns = np.repeat(np.array([0, 100, 200, 40], dtype=np.uint8), 2)
    Image.fromarray(np.tile(columns, (2, 1))).save(tmp_path / "wide.png")
    pixels = read_picture(tmp_path / "wide.png", Form(8, 1, "stretch")).pixels[0]
    assert (pixels == columns).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_mode_becomes_the_channels_that_are_asked_for(tmp_path: Path, mode: str, channels: int) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    photo(8, 8).convert(mode).save(tmp_path / f"image.{suffix}")
    with Image.open(tmp_path / f"image.{suffix}") as opened:
        expected = np.asarray(opened.convert(picture.MODES[channels]))
    pixels = read_picture(tmp_path / f"image.{suffix}", Form(8, channels)).pixels
    assert pixels.shape == (channels, 8, 8)
    assert (pixels == (expected[None] if channels == 1 else expected.transpose(2, 0, 1))).all()


def test_grey_is_resized_as_if_it_were_colour(tmp_path: Path) -> None:
    photo(40, 30).convert("L").save(tmp_path / "grey.png")
    one, three = (read_picture(tmp_path / "grey.png", Form(8, channels)).pixels for channels in (1, 3))
    assert (three == one).all()


def test_a_scan_of_hundreds_of_megapixels_is_reduced_while_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Bounds a hundredth of the real ones: Pillow's own, that would refuse it, and ours.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    monkeypatch.setattr(picture, "MOST_BYTES", 2**30 // 100)
    shade = Image.new("RGB", (1600, 1500), (10, 200, 30))
    shade.save(tmp_path / "scan.jpg", quality=95)
    scan = read_picture(tmp_path / "scan.jpg", Form(32))
    assert (scan.width, scan.height) == (1600, 1500)
    assert abs(scan.pixels.reshape(3, -1).mean(axis=1) - [10, 200, 30]).max() < 2
    shade.convert("L").save(tmp_path / "scan.png")
    read_picture(tmp_path / "scan.png", Form(32, 1))
    shade.save(tmp_path / "colour.png")
    with pytest.raises(ImageFault, match="1600x1500 are too many pixels to decode: 1342177 at most of this format"):
        read_picture(tmp_path / "colour.png", Form(32))


def test_an_opened_file_is_decoded_as_the_file_on_the_disk(tmp_path: Path) -> None:
    photo().save(tmp_path / "image.png")
    data = io.BytesIO((tmp_path / "image.png").read_bytes())
    assert (read_picture(data, Form(5)).pixels == read_picture(tmp_path / "image.png", Form(5)).pixels).all()
    with pytest.raises(ImageFault, match="row 7 cannot be read: not an image of a format that is read"):
        read_picture(io.BytesIO(b"no image"), Form(5), name="row 7")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_folder_says_how_many_channels_its_images_have(tmp_path: Path, channels: int) -> None:
    (tmp_path / "train").mkdir()
    photo(8, 8).save(tmp_path / "train" / "a.png")
    dataset = create("folder", root=str(tmp_path), channels=channels)
    assert channels_of(dataset) == dataset.split("train").images.shape[1] == channels
    with pytest.raises(UsageError, match="channels must be one of 0, 1, 3, 4"):
        create("folder", root=str(tmp_path), channels=2)


def test_a_data_set_that_does_not_say_its_channels_has_three() -> None:
    class Plain:
        name, classes, image_size, splits = "plain", ("one",), 4, ("train",)

        def split(self, name: str) -> Split:
            raise NotImplementedError

    assert channels_of(Plain()) == 3
