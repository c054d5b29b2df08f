from __future__ import annotations

import logging
import os
import struct
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from rushkit import data
from rushkit.data import decoding
from rushkit.data import folder as folder_module
from rushkit.errors import DataError, UsageError
from rushkit.paths import cache_root

Colour = tuple[int, int, int]


def paint(path: Path, size: tuple[int, int], colour: Colour) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of 8x8 images; the red value numbers the images in the order that they must come in."""
    top = tmp_path / "pets"
    paint(top / "train" / "cat" / "b.png", (8, 8), (1, 0, 0))
    paint(top / "train" / "cat" / "a" / "nested.PNG", (8, 8), (0, 0, 0))
    paint(top / "train" / "dog" / "a.bmp", (8, 8), (2, 0, 0))
    paint(top / "test" / "dog" / "z.png", (8, 8), (3, 0, 0))
    (top / "train" / "cat" / "notes.txt").write_text("not an image")
    (top / "train" / ".hidden").mkdir()
    return tmp_path


def red(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def stored() -> list[Path]:
    return sorted((cache_root() / "data").glob("*.u8"))


def test_class_folders_are_the_labels_and_the_order_is_fixed(root: Path) -> None:
    dataset = data.create("folder", root=str(root), path="pets")
    assert (dataset.splits, dataset.classes, dataset.image_size) == (("train", "test"), ("cat", "dog"), 8)
    train, test = dataset.split("train"), dataset.split("test")
    assert red(train.images) == [0, 1, 2]
    assert train.labels is not None
    assert train.labels.tolist() == [0, 0, 1]
    # The class that the test split lacks still counts.
    assert test.labels is not None
    assert test.labels.tolist() == [1]
    assert (train.name, train.skipped) == ("pets/train", 0)


def test_an_absolute_path_stands_alone(root: Path) -> None:
    assert len(data.create("folder", root="/nowhere", path=str(root / "pets")).split("train")) == 3


def test_channels_come_first_and_rows_stay_rows(root: Path) -> None:
    image = Image.new("RGB", (8, 8))
    image.putpixel((5, 2), (10, 20, 30))
    image.save(root / "pets" / "test" / "dog" / "z.png")
    images = data.create("folder", root=str(root), path="pets").split("test").images
    assert images[0, :, 2, 5].tolist() == [10, 20, 30]
    assert int(images.sum()) == 60


def test_it_is_decoded_once_and_again_when_a_file_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []
    read = decoding.read_picture
    monkeypatch.setattr(decoding, "read_picture", lambda path, *rest: decoded.append(path) or read(path, *rest))
    for _ in range(2):
        data.create("folder", root=str(root), path="pets").split("train")
    assert len(decoded) == 3
    paint(root / "pets" / "train" / "dog" / "a.bmp", (8, 8), (9, 0, 0))
    os.utime(root / "pets" / "train" / "dog" / "a.bmp", ns=(1, 1))
    assert red(data.create("folder", root=str(root), path="pets").split("train").images) == [0, 1, 9]
    assert len(decoded) == 6
    assert len(stored()) == 1


def test_two_folders_of_one_name_and_two_sizes_do_not_share_a_cache(root: Path, tmp_path: Path) -> None:
    paint(tmp_path / "other" / "pets" / "train" / "x" / "a.png", (8, 8), (50, 0, 0))
    here = data.create("folder", root=str(root), path="pets").split("train")
    there = data.create("folder", root=str(tmp_path / "other"), path="pets").split("train")
    small = data.create("folder", root=str(root), path="pets", image_size=4).split("train")
    assert (len(here), len(there), small.images.shape) == (3, 1, (3, 3, 4, 4))
    assert len(stored()) == 3


def test_an_image_of_another_size_is_named_with_both_sizes(root: Path) -> None:
    paint(root / "pets" / "train" / "dog" / "wide.png", (9, 8), (0, 0, 0))
    for unreadable in ("stop", "skip"):
        with pytest.raises(DataError, match=r"wide\.png is 9x8, others are 8x8") as caught:
            data.create("folder", root=str(root), path="pets", on_unreadable=unreadable).split("train")
        assert "image_size" in (caught.value.hint or "")
    assert stored() == []


def test_a_first_image_that_is_not_square_asks_for_a_size(root: Path) -> None:
    paint(root / "pets" / "train" / "cat" / "a" / "nested.PNG", (9, 8), (0, 0, 0))
    with pytest.raises(DataError, match="9x8, not square") as caught:
        data.create("folder", root=str(root), path="pets").split("train")
    assert "image_size" in (caught.value.hint or "")


@pytest.mark.parametrize("size", [(8, 24), (24, 8)])
def test_mixed_sizes_lose_what_lies_beside_the_centre(root: Path, size: tuple[int, int]) -> None:
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    image = Image.fromarray(pixels.numpy())
    image.save(root / "pets" / "train" / "cat" / "a" / "nested.PNG")
    images = data.create("folder", root=str(root), path="pets", image_size=4).split("train").images
    # The shorter side is halved, then four rows or columns are cut off on either side.
    halved = image.resize((size[0] // 2, size[1] // 2), Image.Resampling.BILINEAR)
    left, top = (halved.width - 4) // 2, (halved.height - 4) // 2
    reference = bytearray(halved.crop((left, top, left + 4, top + 4)).tobytes())
    assert torch.equal(images[0], torch.frombuffer(reference, dtype=torch.uint8).view(4, 4, 3).permute(2, 0, 1))


def test_making_smaller_is_antialiased(root: Path) -> None:
    board = Image.new("L", (64, 64))
    board.putdata([255 * ((row + column) % 2) for row in range(64) for column in range(64)])
    board.save(root / "pets" / "test" / "dog" / "z.png")
    images = data.create("folder", root=str(root), path="pets", image_size=4).split("test").images
    assert (images.int() - 127).abs().max() <= 1


def test_reduced_decoding_of_a_jpeg_loses_nothing_at_the_size_asked_for(root: Path) -> None:
    # Stripes of 8 pixels are 2 wide at the end; decoded at an eighth they would be 1 wide, and blurred.
    image = Image.new("L", (64, 64))
    image.putdata([255 * (column // 8 % 2) for _ in range(64) for column in range(64)])
    image.save(root / "pets" / "test" / "dog" / "z.jpg", quality=95)
    image.save(root / "pets" / "test" / "dog" / "z.png")
    images = data.create("folder", root=str(root), path="pets", image_size=16).split("test").images.int()
    assert (images[0] - images[1]).abs().max() <= 16


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [("L", 7, [7, 7, 7]), ("1", 1, [255] * 3), ("RGBA", (1, 2, 3, 0), [1, 2, 3]), ("LA", (9, 5), [9, 9, 9])],
)
def test_every_mode_becomes_three_channels(root: Path, mode: str, colour: Colour, expected: list[int]) -> None:
    Image.new(mode, (8, 8), colour).save(root / "pets" / "test" / "dog" / "z.png")
    images = data.create("folder", root=str(root), path="pets").split("test").images
    assert images[0, :, 4, 4].tolist() == expected


def test_a_palette_with_transparency_keeps_its_colours_without_a_warning(root: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 11, 22, 33])
    image.save(root / "pets" / "test" / "dog" / "z.png", transparency=bytes([0, 128]))
    images = data.create("folder", root=str(root), path="pets").split("test").images
    assert images[0, :, 4, 4].tolist() == [11, 22, 33]


def truncated(path: Path) -> None:
    noise = torch.randint(0, 256, (8, 8, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(path)
    path.write_bytes(path.read_bytes()[:-60])


def bad_chunk(path: Path) -> None:
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 4) + b"IDAT" + b"\0" * 8)


DAMAGES = {
    "text": lambda path: path.write_text("this is no image"),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": truncated,
    "bad-chunk": bad_chunk,
    "dangling-link": lambda path: path.symlink_to("nowhere.png"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_unreadable_image_stops_with_its_name(root: Path, damage: str) -> None:
    DAMAGES[damage](root / "pets" / "train" / "cat" / "c.png")
    with pytest.raises(DataError, match=r"cat/c\.png cannot be read: \w") as caught:
        data.create("folder", root=str(root), path="pets").split("train")
    assert "on_unreadable" in (caught.value.hint or "")
    assert list((cache_root() / "data").iterdir()) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_unreadable_images_are_skipped_counted_and_named(
    root: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGES[damage](root / "pets" / "train" / "cat" / "a0.png")
    # The second reading comes from the cache and says the same.
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "rushkit"):
            train = data.create("folder", root=str(root), path="pets", on_unreadable="skip").split("train")
        assert (train.skipped, red(train.images)) == (1, [0, 1, 2])
        assert train.labels is not None
        assert train.labels.tolist() == [0, 0, 1]
        assert "1 images skipped, unreadable: cat/a0.png" in caplog.text


def test_the_size_comes_from_the_first_image_that_can_be_opened(root: Path) -> None:
    (root / "pets" / "train" / "cat" / "a" / "nested.PNG").write_text("no image")
    assert data.create("folder", root=str(root), path="pets", on_unreadable="skip").image_size == 8
    with pytest.raises(DataError, match=r"nested\.PNG cannot be read: not an image"):
        _ = data.create("folder", root=str(root), path="pets").image_size


def test_nothing_readable_is_an_error_though_images_may_be_skipped(root: Path) -> None:
    (root / "pets" / "test" / "dog" / "z.png").write_text("no image")
    with pytest.raises(DataError, match="test has no image that can be read"):
        data.create("folder", root=str(root), path="pets", on_unreadable="skip").split("test")


def test_blocks_change_neither_images_nor_order(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3, 40):
        paint(root / "pets" / "train" / "eel" / f"{number:03}.png", (8, 8), (number, 0, 0))
    for module in (decoding, folder_module):
        monkeypatch.setattr(module, "BLOCK_BYTES", 5 * 3 * 64)
    assert red(data.create("folder", root=str(root), path="pets").split("train").images) == list(range(40))


def test_images_without_class_folders_are_a_split_without_labels(root: Path) -> None:
    for number in range(3):
        paint(root / "pets" / "unlabeled" / f"{number}.png", (8, 8), (number, 0, 0))
    dataset = data.create("folder", root=str(root), path="pets")
    assert dataset.splits == ("train", "test", "unlabeled")
    split = dataset.split("unlabeled")
    assert split.labels is None
    assert red(split.images) == [0, 1, 2]


def test_a_folder_without_any_labels_has_no_classes(tmp_path: Path) -> None:
    paint(tmp_path / "train" / "a.png", (8, 8), (0, 0, 0))
    dataset = data.create("folder", root=str(tmp_path))
    assert dataset.classes == ()
    assert dataset.split("train").labels is None


def test_images_beside_class_folders_are_refused(root: Path) -> None:
    paint(root / "pets" / "train" / "stray.png", (8, 8), (0, 0, 0))
    with pytest.raises(DataError, match=r"images beside its class folders: stray\.png"):
        data.create("folder", root=str(root), path="pets").split("train")


def test_a_class_that_training_does_not_have_is_named(root: Path) -> None:
    paint(root / "pets" / "test" / "emu" / "a.png", (8, 8), (0, 0, 0))
    dataset = data.create("folder", root=str(root), path="pets")
    with pytest.raises(DataError, match="do not have: emu"):
        dataset.split("test")
    assert [check.status for check in dataset.check()] == ["ok", "wrong"]


@pytest.mark.parametrize(
    ("path", "words"), [("nowhere", "cannot be listed"), ("pets/train/.hidden", "neither train/ nor test/")]
)
def test_a_wrong_path_says_what_was_expected(root: Path, path: str, words: str) -> None:
    dataset = data.create("folder", root=str(root), path=path)
    with pytest.raises(DataError, match=words):
        dataset.split("train")
    described = data.describe("folder", str(root), path=path)
    assert words in described.problem
    assert not described.ready


def test_a_split_without_images_says_which_names_count(root: Path) -> None:
    (root / "pets" / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no images") as caught:
        data.create("folder", root=str(root), path="pets").split("empty")
    assert ".png" in (caught.value.hint or "")


def test_check_names_every_image_that_cannot_be_used(root: Path) -> None:
    (root / "pets" / "train" / "cat" / "b.png").write_text("no image")
    paint(root / "pets" / "test" / "dog" / "z.png", (9, 9), (0, 0, 0))
    checks = data.create("folder", root=str(root), path="pets").check()
    assert [(Path(check.file).name, check.status) for check in checks] == [
        ("train", "partial"),
        ("b.png", "wrong"),
        ("test", "partial"),
        ("z.png", "wrong"),
    ]


def test_fetching_says_that_the_images_are_the_users(root: Path) -> None:
    with pytest.raises(UsageError, match="cannot be downloaded") as caught:
        data.create("folder", root=str(root), path="pets").fetch()
    assert "pets/train" in (caught.value.hint or "")


def test_bad_options_are_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="image_size"):
        data.create("folder", root=str(root), image_size=-1)
    with pytest.raises(UsageError, match="on_unreadable must be one of 'stop', 'skip'"):
        data.create("folder", root=str(root), on_unreadable="guess")
