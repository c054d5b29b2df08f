"""Named pipes, links in circles, folders met twice and classes without images, in a folder of images.

A fault here waits for ever or multiplies images, so what may wait runs in a process with a time limit.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from rushkit import data
from rushkit.errors import DataError

READ = """
import sys
from rushkit import data
from rushkit.errors import RushkitError
dataset = data.create("folder", root=sys.argv[1])
try:
    print(dataset.split("train"), [check.status for check in dataset.check()])
except RushkitError as error:
    print(type(error).__name__, error.message)
"""


def paint(path: Path, shade: int = 0, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "JPEG" if path.suffix == ".jfif" else None
    Image.new("RGB", (size, size), (shade, 0, 0)).save(path, kind)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of two images in train, one of each in test."""
    for label in ("cat", "dog"):
        for number in range(2):
            paint(tmp_path / "pets" / "train" / label / f"{number}.png", number)
        paint(tmp_path / "pets" / "test" / label / "0.png")
    return tmp_path / "pets"


def labels(root: Path) -> list[int]:
    found = data.create("folder", root=str(root)).split("train").labels
    assert found is not None
    return found.tolist()


def states(root: Path) -> dict[str, str]:
    return {
        str(Path(check.file).relative_to(root)): f"{check.status}: {check.detail}"
        for check in data.create("folder", root=str(root)).check()
    }


@pytest.mark.parametrize("name", ["2.png", "pipe"])
def test_a_named_pipe_is_left_out_and_named(root: Path, name: str) -> None:
    os.mkfifo(root / "train" / "cat" / name)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(root)], capture_output=True, text=True, check=True, timeout=180
    )
    assert "4 images" in done.stdout
    assert "['partial', 'partial', 'ok']" in done.stdout


def test_a_link_to_a_device_is_left_out_and_named(root: Path) -> None:
    (root / "train" / "cat" / "2.png").symlink_to("/dev/zero")
    assert labels(root) == [0, 0, 1, 1]
    assert states(root)["train/cat/2.png"] == "partial: left out: a device"


@pytest.mark.parametrize(
    ("place", "target"),
    [("more", "."), ("more", ".."), ("more", "../train"), ("cat/more", "."), ("cat/more", ".."), ("cat/more", "../..")],
)
def test_a_link_to_the_folder_itself_or_one_above_multiplies_nothing(
    root: Path, place: str, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "train" / place).symlink_to(target)
    assert labels(root) == [0, 0, 1, 1]
    assert f"1 left out: {place} (a link to a folder above it)" in caplog.text
    assert states(root) == {
        "train": "partial: 4 images, 1 left out",
        f"train/{place}": "partial: left out: a link to a folder above it",
        "test": "ok: 2 images",
    }


def test_a_link_typed_twice_leaves_its_target_as_it_was(tmp_path: Path) -> None:
    for number in range(3):
        paint(tmp_path / "photos" / f"{number}.png", number)
    (tmp_path / "pets" / "train").mkdir(parents=True)
    # `ln -s photos pets/train/cat`, and the same again.
    (tmp_path / "pets" / "train" / "cat").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "photos").symlink_to(tmp_path / "photos")
    assert labels(tmp_path / "pets") == [0, 0, 0]


def test_a_linked_class_whose_folder_links_to_the_one_above_takes_no_images_of_other_classes(tmp_path: Path) -> None:
    for label in ("cats", "dogs"):
        paint(tmp_path / "stored" / label / "a.png")
    (tmp_path / "stored" / "cats" / "up").symlink_to("..")
    (tmp_path / "pets" / "train").mkdir(parents=True)
    (tmp_path / "pets" / "train" / "cat").symlink_to(tmp_path / "stored" / "cats")
    assert labels(tmp_path / "pets") == [0]


@pytest.mark.parametrize("link", ["aardvark", "zebra"])
def test_a_class_folder_under_a_second_name_counts_once_and_by_its_own_name(root: Path, link: str) -> None:
    (root / "train" / link).symlink_to("cat")
    assert data.create("folder", root=str(root)).classes == ("cat", "dog")
    assert states(root)[f"train/{link}"] == "partial: left out: the same folder as cat"


def test_a_link_that_leads_nowhere_is_named(root: Path) -> None:
    (root / "train" / "emu").symlink_to("gone")
    assert states(root)["train"] == "partial: 4 images, 1 left out"
    assert states(root)["train/emu"].startswith("partial: left out: a link that leads nowhere")


def test_a_link_to_the_folder_of_the_splits_is_no_split(root: Path) -> None:
    (root / "again").symlink_to(".")
    assert data.create("folder", root=str(root)).splits == ("train", "test")


@pytest.mark.parametrize("name", ["a.HEIC", "a.avif", None])
def test_a_class_folder_without_an_image_that_is_read_is_refused(root: Path, name: str | None) -> None:
    (root / "train" / "bee").mkdir()
    if name:
        (root / "train" / "bee" / name).write_bytes(b"pixels")
    dataset = data.create("folder", root=str(root))
    with pytest.raises(DataError, match="class folders without an image: bee"):
        dataset.split("train")
    assert "wrong" in {check.status for check in dataset.check()}


def test_a_file_of_a_format_that_is_not_read_is_named(root: Path) -> None:
    (root / "train" / "cat" / "a.HEIC").write_bytes(b"pixels")
    assert states(root)["train/cat/a.HEIC"] == "partial: left out: .heic is a format that is not read"


def test_a_jpeg_by_another_suffix_is_an_image(root: Path) -> None:
    paint(root / "train" / "bee" / "a.jfif")
    assert data.create("folder", root=str(root)).classes == ("bee", "cat", "dog")
    assert labels(root) == [0, 1, 1, 2, 2]


def test_what_an_archiver_leaves_beside_the_classes_is_no_class(root: Path) -> None:
    paint(root / "train" / "__MACOSX" / "cat" / "a.png")
    paint(root / "__MACOSX" / "train" / "a.png")
    dataset = data.create("folder", root=str(root))
    assert (dataset.splits, dataset.classes) == (("train", "test"), ("cat", "dog"))


def test_a_name_that_is_no_utf_8_is_read(root: Path) -> None:
    odd = root.parent / os.fsdecode(b"p\xe9ts")
    root.rename(odd)
    (odd / "train" / "cat" / "0.png").rename(odd / "train" / "cat" / os.fsdecode(b"\xff.png"))
    assert labels(odd) == [0, 0, 1, 1]


def test_a_folder_whose_name_is_as_long_as_a_name_may_be_is_read(root: Path) -> None:
    long = root.parent / ("p" * 255)
    root.rename(long)
    assert labels(long) == [0, 0, 1, 1]


def test_a_fingerprint_of_a_format_that_is_not_listed_is_no_image(root: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "train" / "cat" / "1.png", "PCX")
    with pytest.raises(DataError, match=r"1\.png cannot be read: not an image of a format that is read"):
        data.create("folder", root=str(root)).split("train")


@pytest.mark.parametrize("link", ["test", "val"])
def test_a_link_to_the_training_images_is_no_split_to_measure_on(root, link):
    if link == "test":
        (root / "test").rename(root.parent / "elsewhere")
    (root / link).symlink_to("train")
    found = data.create("folder", root=str(root))
    with pytest.raises(DataError, match=f"{link} is the same folder as .*train") as raised:
        found.split(link)
    assert raised.value.hint is not None
    assert f"put others into {link}/" in raised.value.hint
    assert [check.status for check in found.check()] == ["wrong"]
