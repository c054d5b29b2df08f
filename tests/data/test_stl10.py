from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rushkit import data
from rushkit.data.memory import resize
from rushkit.errors import DataError, UsageError
from rushkit.paths import cache_root

COUNTS = {"train": 4, "test": 3, "unlabeled": 5}


def pixel(image: int, channel: int, row: int, column: int) -> int:
    """Different along every axis; no symmetry between rows and columns."""
    return (31 * image + 64 * channel + 2 * row + column // 2) % 256


def column_major(image: int) -> bytes:
    """One image as the official file has it: planes, and in each the columns from left to right, top to bottom."""
    return bytes(
        pixel(image, channel, row, column) for channel in range(3) for column in range(96) for row in range(96)
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Small official files: labels run 1, 2, 3, ... and the last training label is 10."""
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for name, count in COUNTS.items():
        (folder / f"{name}_X.bin").write_bytes(b"".join(column_major(n) for n in range(count)))
    (folder / "train_y.bin").write_bytes(bytes([1, 2, 3, 10]))
    (folder / "test_y.bin").write_bytes(bytes([1, 2, 3]))
    return tmp_path


@pytest.mark.parametrize("name", COUNTS)
def test_columns_of_the_file_are_columns_of_the_image(root: Path, name: str) -> None:
    images = data.create("stl10", root=str(root)).split(name).images
    expected = [
        [[[pixel(n, c, row, column) for column in range(96)] for row in range(96)] for c in range(3)]
        for n in range(COUNTS[name])
    ]
    assert torch.equal(images, torch.tensor(expected, dtype=torch.uint8))


def test_labels_count_from_zero_and_the_unlabelled_have_none(root: Path) -> None:
    dataset = data.create("stl10", root=str(root))
    train = dataset.split("train")
    assert train.labels is not None
    assert train.labels.tolist() == [0, 1, 2, 9]
    assert dataset.split("unlabeled").labels is None
    assert dataset.classes[0] == "airplane"
    assert len(dataset.classes) == 10


def test_resized_images_are_those_of_the_whole_image_and_come_from_the_cache(root: Path) -> None:
    whole = data.create("stl10", root=str(root)).split("train").images
    dataset = data.create("stl10", root=str(root), image_size=32)
    first = dataset.split("train")
    assert torch.equal(first.images, resize(whole, 32))
    files = {path: path.stat().st_mtime_ns for path in (cache_root() / "data").iterdir()}
    assert torch.equal(dataset.split("train").images, first.images)
    assert {path: path.stat().st_mtime_ns for path in (cache_root() / "data").iterdir()} == files


def test_a_changed_file_is_resized_again(root: Path) -> None:
    dataset = data.create("stl10", root=str(root), image_size=8)
    dataset.split("test")
    (root / "stl10_binary" / "test_X.bin").write_bytes(bytes(3 * 27648 - 1) + b"\0")
    assert not dataset.split("test").images.any()


def test_taking_from_the_mapped_images_gives_contiguous_ones(root: Path) -> None:
    split = data.create("stl10", root=str(root)).split("unlabeled")
    taken = split.take(torch.tensor([4, 1]))
    assert taken.images.is_contiguous()
    assert taken.images[:, 1, 50, 7].tolist() == [pixel(4, 1, 50, 7), pixel(1, 1, 50, 7)]


@pytest.mark.parametrize(("labels", "bad"), [([1, 0, 3, 4], 0), ([1, 11, 3, 4], 11)])
def test_a_label_outside_1_to_10_is_named(root: Path, labels: list[int], bad: int) -> None:
    (root / "stl10_binary" / "train_y.bin").write_bytes(bytes(labels))
    dataset = data.create("stl10", root=str(root))
    with pytest.raises(DataError, match=rf"train_y\.bin: record 1 has label {bad}, outside 1\.\.10"):
        dataset.split("train")
    assert [check.file[-11:] for check in dataset.check() if check.status == "wrong"] == ["train_y.bin"]


def test_a_file_cut_within_an_image_is_named(root: Path) -> None:
    path = root / "stl10_binary" / "unlabeled_X.bin"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"unlabeled_X\.bin is too short: expected 2764800000 bytes, found 138140"):
        data.create("stl10", root=str(root)).split("unlabeled")


def test_fewer_images_than_labels_are_an_error_and_fewer_than_official_a_note(root: Path) -> None:
    dataset = data.create("stl10", root=str(root))
    assert {check.status for check in dataset.check()} == {"partial"}
    assert data.describe("stl10", str(root)).ready
    path = root / "stl10_binary" / "train_X.bin"
    path.write_bytes(path.read_bytes()[:27648])
    with pytest.raises(DataError, match=r"train_X\.bin has 1 images, and .*train_y\.bin has 4 labels"):
        dataset.split("train")


def test_an_impossible_size_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="image_size must be 1 or more"):
        data.create("stl10", root=str(root), image_size=0)


def test_a_cache_that_cannot_be_written_stops_with_the_variable(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RUSHKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot be written") as caught:
        data.create("stl10", root=str(root), image_size=32).split("train")
    assert "RUSHKIT_CACHE" in (caught.value.hint or "")
    # The images as they are need no cache.
    assert len(data.create("stl10", root=str(root)).split("train")) == 4
