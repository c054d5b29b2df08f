from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rushkit import data
from rushkit.data import cifar
from rushkit.data.cifar import CIFAR10, CIFAR100, Layout
from rushkit.errors import DataError, UsageError

RECORDS = 12
REAL = os.environ.get("RUSHKIT_DATA", "")


def small(layout: Layout) -> Layout:
    """The official layout with a few records a file."""
    parts = {name: tuple(replace(file, records=RECORDS) for file in files) for name, files in layout.parts.items()}
    return replace(layout, parts=parts)


def record(labels: list[int], pixel: int) -> bytes:
    """Label bytes, then the planes: pixel (row, column) of channel c is (pixel + 64 c + 2 row + column) mod 256."""
    planes = [
        (pixel + 64 * channel + 2 * row + column) % 256
        for channel in range(3)
        for row in range(32)
        for column in range(32)
    ]
    return bytes(labels) + bytes(planes)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small CIFAR-10 and CIFAR-100: the n-th record of the f-th file has label n % 10 (coarse n, fine 99 - n)."""
    monkeypatch.setattr(cifar, "CIFAR10", small(CIFAR10))
    monkeypatch.setattr(cifar, "CIFAR100", small(CIFAR100))
    for number, file in enumerate(CIFAR10.archive.files):
        path = tmp_path / file.path
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(record([n % 10], 20 * number + n) for n in range(RECORDS)))
    for number, file in enumerate(CIFAR100.archive.files):
        path = tmp_path / file.path
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(record([n, 99 - n], 20 * number + n) for n in range(RECORDS)))
    return tmp_path


def test_records_are_read_as_labels_and_planes_in_file_order(root: Path) -> None:
    train = data.create("cifar10", root=str(root)).split("train")
    assert train.images.shape == (5 * RECORDS, 3, 32, 32)
    assert train.name == "cifar10/train"
    assert train.labels is not None
    assert train.labels.tolist() == [n % 10 for n in range(RECORDS)] * 5
    channel, row, column = 2, 3, 5
    expected = [(20 * file + n + 64 * channel + 2 * row + column) % 256 for file in range(5) for n in range(RECORDS)]
    assert train.images[:, channel, row, column].tolist() == expected


def test_the_test_split_comes_from_its_own_file(root: Path) -> None:
    test = data.create("cifar10", root=str(root)).split("test")
    assert len(test) == RECORDS
    assert test.images[0, 0, 0, 0] == 20 * 5


@pytest.mark.parametrize(
    ("kind", "expected"), [("fine", [99 - n for n in range(RECORDS)]), ("coarse", list(range(RECORDS)))]
)
def test_cifar100_has_two_kinds_of_labels(root: Path, kind: str, expected: list[int]) -> None:
    dataset = data.create("cifar100", root=str(root), labels=kind)
    test = dataset.split("test")
    assert test.labels is not None
    assert test.labels.tolist() == expected
    assert test.images[0, 0, 0, 0] == 20
    assert len(dataset.classes) == (100 if kind == "fine" else 20)


def test_an_unknown_kind_of_labels_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="labels must be one of 'fine', 'coarse'"):
        data.create("cifar100", root=str(root), labels="rough")


def test_making_a_data_set_reads_nothing(tmp_path: Path) -> None:
    dataset = data.create("cifar10", root=str(tmp_path / "nowhere"))
    assert dataset.splits == ("train", "test")
    assert dataset.image_size == 32


def test_class_names_come_from_the_official_list_where_it_is(root: Path) -> None:
    dataset = data.create("cifar10", root=str(root))
    assert dataset.classes[:2] == ("airplane", "automobile")
    names = root / "cifar-10-batches-bin" / "batches.meta.txt"
    names.write_text("\n".join("abcdefghij") + "\n\n")
    assert dataset.classes == tuple("abcdefghij")
    names.write_text("a\nb\n")
    with pytest.raises(DataError, match=r"batches\.meta\.txt has 2 class names, expected 10"):
        _ = dataset.classes


@pytest.mark.parametrize(("change", "word"), [(-1, "short"), (+1, "long"), (-3073, "short")])
def test_a_file_of_the_wrong_length_is_named_with_expected_and_found_bytes(root: Path, change: int, word: str) -> None:
    path, right = root / "cifar-10-batches-bin" / "data_batch_3.bin", RECORDS * 3073
    path.write_bytes((path.read_bytes() + b"\0")[: right + change])
    dataset = data.create("cifar10", root=str(root))
    words = rf"data_batch_3\.bin is too {word}: expected {right} bytes, found {right + change}"
    with pytest.raises(DataError, match=words):
        dataset.split("train")
    assert [check.status for check in dataset.check()] == ["ok", "ok", "wrong", "ok", "ok", "ok"]


def test_missing_files_are_listed_with_their_sizes_and_where_to_put_them(root: Path) -> None:
    (root / "cifar-10-batches-bin" / "data_batch_2.bin").unlink()
    dataset = data.create("cifar10", root=str(root))
    with pytest.raises(DataError, match="1 of 6 files are missing") as caught:
        dataset.split("train")
    assert f"cifar-10-batches-bin/data_batch_2.bin  ({RECORDS * 3073} bytes)" in (caught.value.hint or "")
    assert "RUSHKIT_DATA" in (caught.value.hint or "")
    assert str(root) in (caught.value.hint or "")


def test_a_split_needs_only_its_own_files(root: Path) -> None:
    (root / "cifar-10-batches-bin" / "data_batch_2.bin").unlink()
    assert len(data.create("cifar10", root=str(root)).split("test")) == RECORDS


def test_a_label_out_of_range_is_named_with_its_record(root: Path) -> None:
    path = root / "cifar-10-batches-bin" / "data_batch_4.bin"
    content = bytearray(path.read_bytes())
    content[7 * 3073], content[9 * 3073] = 10, 255
    path.write_bytes(content)
    dataset = data.create("cifar10", root=str(root))
    with pytest.raises(DataError, match=r"data_batch_4\.bin: record 7 has label 10, outside 0\.\.9") as caught:
        dataset.split("train")
    assert "2 of 12" in (caught.value.hint or "")
    assert dataset.check()[3].status == "wrong"


def test_check_tells_the_official_order_from_another(root: Path) -> None:
    dataset = data.create("cifar10", root=str(root))
    assert dataset.check()[0].status == "ok"
    assert dataset.check()[0].detail.endswith("not the official order")
    path = root / "cifar-10-batches-bin" / "data_batch_1.bin"
    content = bytearray(path.read_bytes())
    for index, label in enumerate((6, 9, 9, 4, 1, 1, 2, 7, 8, 3)):
        content[index * 3073] = label
    path.write_bytes(content)
    assert dataset.check()[0].detail.endswith("the official order")
    assert "not" not in dataset.check()[0].detail


def test_an_unknown_split_lists_the_known(root: Path) -> None:
    with pytest.raises(UsageError, match="cifar10 has no split 'valid'") as caught:
        data.create("cifar10", root=str(root)).split("valid")
    assert "train, test" in (caught.value.hint or "")


def test_describe_tells_what_is_there_without_reading_a_split(root: Path) -> None:
    described = data.describe("cifar10", str(root))
    assert described.ready
    assert (len(described.classes), described.image_size, described.splits) == (10, 32, ("train", "test"))
    assert described.url.startswith("https://")
    (root / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    described = data.describe("cifar10", str(root))
    assert not described.ready
    assert described.checks[-1].status == "missing"


@pytest.mark.skipif(not REAL, reason="RUSHKIT_DATA is not set")
@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_the_real_images_are_complete_and_balanced(name: str, classes: int) -> None:
    dataset = data.create(name, root=REAL)
    assert all(check.status == "ok" for check in dataset.check())
    for split, count in (("train", 50_000), ("test", 10_000)):
        labels = dataset.split(split).labels
        assert labels is not None
        assert torch.bincount(labels).tolist() == [count // classes] * classes


@pytest.mark.skipif(not REAL, reason="RUSHKIT_DATA is not set")
@pytest.mark.parametrize(
    ("name", "means"), [("cifar10", (0.4914, 0.4822, 0.4465)), ("cifar100", (0.5071, 0.4865, 0.4409))]
)
def test_the_real_images_have_the_known_channel_means(name: str, means: tuple[float, ...]) -> None:
    images = data.create(name, root=REAL).split("train").images
    found = [images[:, channel].double().mean().item() / 255 for channel in range(3)]
    assert found == pytest.approx(means, abs=1e-4)
