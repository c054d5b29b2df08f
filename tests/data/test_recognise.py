"""What lies at a path is told from names and first bytes: no image is read, and nothing is run."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rushkit.data.recognise import Recognised, recognise
from rushkit.errors import DataError, UsageError


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


def test_a_registered_name_is_that_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert recognise("Digits") == Recognised("digits")


def test_a_path_of_a_registered_name_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "digits/train/one/a.png")
    assert recognise("./digits").options == {"path": str(tmp_path / "digits")}


@pytest.mark.parametrize(
    "files, name",
    [
        (("cifar-10-batches-bin/data_batch_1.bin",), "cifar10"),
        (("cifar-10-batches-py/test_batch", "cifar-10-python.tar.gz"), "cifar10"),
        (("cifar-100-binary/train.bin",), "cifar100"),
        (("cifar-100-python/train",), "cifar100"),
        (("stl10_binary/unlabeled_X.bin",), "stl10"),
        (("cifar-100-python.tar.gz",), "cifar100"),
        (("stl10_binary.tar.gz",), "stl10"),
    ],
)
def test_official_files_are_recognised_from_the_folder_around_them(tmp_path, files, name):
    for file in files:
        touch(tmp_path / file)
    assert recognise(str(tmp_path)) == Recognised(name, {"path": str(tmp_path)}, f"{name} as {files[0].split('/')[0]}")


@pytest.mark.parametrize(
    "file", ["cifar-10-batches-py/data_batch_1", "cifar-100-python/test", "stl10_binary/test_X.bin"]
)
def test_the_folder_of_an_archive_is_recognised_itself(tmp_path, file):
    folder = touch(tmp_path / file).parent
    assert recognise(str(folder)).options == {"path": str(folder)}


def test_a_root_with_several_data_sets_asks_for_a_name(tmp_path):
    touch(tmp_path / "cifar-10-batches-bin/test_batch.bin")
    touch(tmp_path / "cifar-100-python/train")
    with pytest.raises(UsageError, match="has several data sets: cifar10, cifar100") as caught:
        recognise(str(tmp_path))
    assert "--data cifar10 or --data cifar100" in caught.value.hint


def test_official_files_in_a_folder_of_another_name_are_named(tmp_path):
    for file in ("train", "test", "meta"):
        touch(tmp_path / "mine" / file)
    with pytest.raises(DataError, match="has the files of cifar-100-python"):
        recognise(str(tmp_path / "mine"))


def test_folders_called_train_and_test_are_no_cifar(tmp_path):
    image(tmp_path / "train/cat/1.png")
    image(tmp_path / "test/cat/1.png")
    assert recognise(str(tmp_path)) == Recognised("folder", {"path": str(tmp_path)}, "a folder of images")


def test_shards_in_a_folder_are_parquet(tmp_path):
    touch(tmp_path / "data/train-00000-of-00001.parquet", b"PAR1")
    touch(tmp_path / "README.md")
    assert recognise(str(tmp_path)).name == "parquet"


def test_a_file_is_told_by_its_first_bytes(tmp_path):
    assert recognise(str(touch(tmp_path / "a.parquet", b"PAR1..."))).name == "parquet"
    np.savez(tmp_path / "b.npz", images=np.zeros(3))
    assert recognise(str(tmp_path / "b.npz")).name == "npz"


def packed(path: Path, member: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(member), io.BytesIO())
    return path


def test_an_archive_is_told_by_its_name_or_its_first_member(tmp_path):
    path = packed(tmp_path / "download.tgz", "cifar-100-python/meta")
    assert recognise(str(path)) == Recognised("cifar100", {"path": str(path)}, "the archive of cifar100")
    assert recognise(str(touch(tmp_path / "cifar-10-python.tar.gz", b"\x1f\x8btorn"))).name == "cifar10"
    with pytest.raises(DataError, match="an archive of no data set that is known"):
        recognise(str(packed(tmp_path / "other.tgz", "photos/1.png")))


@pytest.mark.parametrize(
    "file, content, words",
    [
        ("a.pkl", b"\x80\x04K\x01.", "is a pickle, which could run a program: it is not opened"),
        ("cifar-10-batches-py/data_batch_2", b"\x80\x02}.", "is one file of a data set"),
        ("a.png", b"anything", "is a single image"),
        ("photo", b"\xff\xd8\xff\xe0", "is a single image"),
        ("weights.pt", b"PK\3\4", "looks like weights"),
        ("a.npy", b"\x93NUMPY", "is one array without labels"),
        ("a.zip", b"PK\3\4", "is a zip file"),
        ("a.csv", b"1,2", "is of no kind that is read as images"),
        ("empty", b"", "is empty"),
    ],
)
def test_what_is_no_data_set_is_called_what_it_is(tmp_path, file, content, words):
    with pytest.raises(DataError, match=words):
        recognise(str(touch(tmp_path / file, content)))


def test_a_folder_without_images_says_what_it_has(tmp_path):
    touch(tmp_path / "notes.txt")
    with pytest.raises(DataError, match=r"has no images: its files end in \.txt"):
        recognise(str(tmp_path))


def test_links_in_circles_are_walked_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/up").symlink_to(tmp_path)
    with pytest.raises(DataError, match="has no images"):
        recognise(str(tmp_path))


def test_what_is_not_there_names_the_nearest_data_set():
    with pytest.raises(UsageError, match="'cifar12' is neither a data set nor a folder or file") as caught:
        recognise("cifar12")
    assert "did you mean cifar10" in caught.value.hint


def test_a_path_is_looked_for_below_the_root_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "data/pets/train/cat/1.png")
    assert recognise("pets", root="data").options == {"path": str(tmp_path / "data/pets")}


def test_the_line_is_quoted_for_a_shell(tmp_path):
    image(tmp_path / "my pets/train/cat/1.png")
    found = recognise(str(tmp_path / "my pets"))
    assert found.changes() == ["data.name=folder", f"data.path={tmp_path}/my pets"]
    assert found.line() == f"--set data.name=folder --set 'data.path={tmp_path}/my pets'"


def test_hidden_names_and_pipes_are_not_looked_at(tmp_path):
    image(tmp_path / ".cache/1.png")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="has no images"):
        recognise(str(tmp_path))
