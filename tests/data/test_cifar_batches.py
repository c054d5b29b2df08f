"""CIFAR in the python layout, as torchvision leaves it on the disk, and the official archives."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rushkit import data
from rushkit.data import cifar
from rushkit.data.cifar import CIFAR10, CIFAR10_CLASSES, CIFAR100, CIFAR100_FINE, Layout
from rushkit.errors import DataError

RECORDS = 12
PY, PY100 = "cifar-10-batches-py", "cifar-100-python"
PIXELS = np.random.default_rng(0).integers(0, 256, (RECORDS, 3072), dtype=np.uint8)


def dumped(value: Any) -> bytes:
    return bytes(ForkingPickler.dumps(value, 2))


def small(layout: Layout) -> Layout:
    """The official layout with a few records a file."""
    binary = {name: tuple(replace(file, records=RECORDS) for file in files) for name, files in layout.parts.items()}
    python = {
        name: tuple(replace(file, records=RECORDS) for file in files) for name, files in layout.python.parts.items()
    }
    return replace(layout, parts=binary, python=replace(layout.python, parts=python))


def contents() -> dict[str, bytes]:
    """Both data sets in the python layout; the pixels of the f-th file are PIXELS + f, its n-th label is n % 10."""
    names = [f"{n}.png" for n in range(RECORDS)]
    files = {}
    for number, file in enumerate(CIFAR10.python.archive.files):
        labels = [n % 10 for n in range(RECORDS)]
        files[file.path] = dumped({"data": PIXELS + number, "labels": labels, "filenames": names, "batch_label": "b"})
    for number, file in enumerate(CIFAR100.python.archive.files):
        fine, coarse = [99 - n for n in range(RECORDS)], list(range(RECORDS))
        batch = {"data": PIXELS + number, "fine_labels": fine, "coarse_labels": coarse, "filenames": names}
        files[file.path] = dumped(batch)
    files[f"{PY}/batches.meta"] = dumped({"label_names": list(CIFAR10_CLASSES), "num_vis": 3072})
    files[f"{PY100}/meta"] = dumped(
        {"fine_label_names": list(CIFAR100_FINE), "coarse_label_names": [f"c{n}" for n in range(20)]}
    )
    return files


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cifar, "CIFAR10", small(CIFAR10))
    monkeypatch.setattr(cifar, "CIFAR100", small(CIFAR100))
    write(tmp_path / "root", contents())
    return tmp_path / "root"


def test_a_folder_of_torchvision_is_used_as_it_is(root):
    train = data.create("cifar10", root=str(root)).split("train")
    expected = np.concatenate([PIXELS + number for number in range(5)]).reshape(-1, 3, 32, 32)
    assert np.array_equal(train.images.numpy(), expected)
    assert train.labels.tolist() == [n % 10 for n in range(RECORDS)] * 5
    assert np.array_equal(data.create("cifar10", root=str(root)).split("test").images[0].numpy().ravel(), PIXELS[0] + 5)


@pytest.mark.parametrize("kind, first", [("fine", 99), ("coarse", 0)])
def test_both_kinds_of_labels_of_cifar100_are_read(root, kind, first):
    dataset = data.create("cifar100", root=str(root), labels=kind)
    assert dataset.split("test").labels[0] == first
    assert dataset.classes[0] == ("apple" if kind == "fine" else "c0")


def test_the_images_are_those_that_torchvision_reads(root, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    for theirs, name in ((datasets.CIFAR10, "cifar10"), (datasets.CIFAR100, "cifar100")):
        monkeypatch.setattr(theirs, "_check_integrity", lambda _: True)
        digest = hashlib.md5(
            (root / theirs.base_folder / theirs.meta["filename"]).read_bytes(), usedforsecurity=False
        ).hexdigest()
        monkeypatch.setitem(theirs.meta, "md5", digest)
        for split in ("train", "test"):
            peer, ours = theirs(str(root), train=split == "train"), data.create(name, root=str(root)).split(split)
            assert np.array_equal(peer.data.transpose(0, 3, 1, 2), ours.images.numpy())
            assert peer.targets == ours.labels.tolist()


@pytest.mark.parametrize("pointed", [PY, f"../root/{PY}", "."])
def test_the_folder_itself_may_be_named(root, pointed):
    assert len(data.create("cifar10", root=str(root), path=pointed).split("test")) == RECORDS
    assert len(data.create("cifar10", root=str(root / pointed)).split("test")) == RECORDS
    assert len(data.create("cifar10", root="nowhere", path=str(root / pointed)).split("test")) == RECORDS


def test_keys_of_python_3s_bytes_are_read_too(root):
    batch = {b"data": PIXELS, b"labels": np.arange(RECORDS) % 10}
    (root / PY / "test_batch").write_bytes(dumped(batch))
    assert data.create("cifar10", root=str(root)).split("test").labels.tolist() == [n % 10 for n in range(RECORDS)]


def test_the_binary_files_come_first_and_check_says_so(root, caplog):
    records = np.concatenate([np.full((RECORDS, 1), 9, np.uint8), 255 - PIXELS], axis=1)
    write(root, {file.path: records.tobytes() for file in CIFAR10.archive.files})
    dataset = data.create("cifar10", root=str(root))
    with caplog.at_level("INFO", logger="rushkit.data"):
        assert dataset.split("test").labels.tolist() == [9] * RECORDS
    assert "cifar10 is read from cifar-10-batches-bin; cifar-10-batches-py is there too" in caplog.text
    assert dataset.check()[-1] == (str(root / PY), "ok", "not read: the binary files are")


def test_check_reads_every_batch(root):
    dataset = data.create("cifar10", root=str(root))
    assert [check.status for check in dataset.check()] == ["ok"] * 6
    assert dataset.check()[0].detail == f"{RECORDS} records, complete, not the official order"
    (root / PY / "data_batch_2").write_bytes(b"\x80\x02cos\nsystem\n.")
    (root / PY / "data_batch_3").unlink()
    checks = dataset.check()
    assert [check.status for check in checks] == ["ok", "wrong", "missing", "ok", "ok", "ok"]
    assert "names 'os.system', which is no data" in checks[1].detail
    assert not data.describe("cifar10", str(root)).ready


def batch(**changes: Any) -> dict[str, Any]:
    return {"data": PIXELS, "labels": [0] * RECORDS, **changes}


@pytest.mark.parametrize(
    "content, words",
    [
        (batch(data=PIXELS[:5]), r"`data` is uint8 \(5, 3072\), expected uint8 \(12, 3072\)"),
        (batch(data=PIXELS.astype(np.int8)), "`data` is int8"),
        (batch(data=[1]), "`data` is list of 1"),
        ({"labels": []}, "`data` is missing"),
        ({"data": PIXELS}, "`labels` is missing"),
        (batch(labels=[0] * 5), "`labels` is list of 5, expected 12 whole numbers"),
        (batch(labels=["a"] * RECORDS), "`labels` is list of 12, expected 12 whole numbers"),
        (batch(labels=[2**40] * RECORDS), "expected 12 whole numbers"),
        (batch(labels=np.eye(RECORDS)), "`labels` is float64"),
        (batch(labels=[10] * RECORDS), r"record 0 has label 10, outside 0\.\.9"),
        ([1, 2], "test_batch has list of 2, expected a dict"),
    ],
)
def test_a_batch_of_something_else_is_named(root, content, words):
    (root / PY / "test_batch").write_bytes(dumped(content))
    with pytest.raises(DataError, match=words):
        data.create("cifar10", root=str(root)).split("test")


def test_names_of_another_number_are_refused(root):
    (root / PY / "batches.meta").write_bytes(dumped({"label_names": ["a"]}))
    with pytest.raises(DataError, match="`label_names` is list of 1, expected 10 names"):
        _ = data.create("cifar10", root=str(root)).classes


class Calls:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def test_an_evil_batch_does_nothing_and_is_named(root, tmp_path):
    (root / PY / "test_batch").write_bytes(dumped(batch(filenames=Calls(tmp_path / "ran"))))
    with pytest.raises(DataError, match=r"test_batch is no pickle of plain data: it names '\w+\.system'"):
        data.create("cifar10", root=str(root)).split("test")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive that torchvision downloads, alone in a folder."""
    path = tmp_path / "alone" / "cifar-10-python.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as packed:
        for name, content in contents().items():
            if name.startswith(PY):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
    layout = small(CIFAR10)
    python = replace(layout.python, md5=hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest())
    monkeypatch.setattr(cifar, "CIFAR10", replace(layout, python=python))
    return path


@pytest.mark.parametrize("named", [False, True])
def test_the_archive_alone_is_unpacked_where_it_lies(archive, named):
    options = {"path": str(archive)} if named else {}
    dataset = data.create("cifar10", root=str(archive.parent), **options)
    assert data.describe("cifar10", str(archive.parent), **options).ready
    assert dataset.check()[0].detail.startswith("the official archive")
    assert len(dataset.split("train")) == 5 * RECORDS
    assert sorted(path.name for path in archive.parent.iterdir()) == [PY, archive.name]


def test_an_archive_of_another_name_is_known_by_what_is_in_it(archive):
    renamed = archive.rename(archive.parent / "download.tgz")
    assert len(data.create("cifar10", root="nowhere", path=str(renamed)).split("test")) == RECORDS


def test_a_torn_archive_is_named(archive):
    archive.write_bytes(archive.read_bytes()[:-100])
    dataset = data.create("cifar10", root=str(archive.parent))
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz has MD5 \w+, expected \w+: it is torn"):
        dataset.split("test")
    assert [check.status for check in dataset.check()] == ["wrong"]
    assert sorted(archive.parent.iterdir()) == [archive]


def test_the_archive_of_something_else_is_refused(archive):
    other = archive.parent / "photos.tar.gz"
    other.write_bytes(b"\x1f\x8bphotos")
    with pytest.raises(DataError, match=r"photos\.tar\.gz has MD5"):
        data.create("cifar10", root="nowhere", path=str(other)).split("test")
