"""MedMNIST from small files of the true layout, whose checksums stand in for the real ones in medmnist's own table."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from medmnist.info import INFO
from rushkit_medmnist import FOLDER

from rushkit import data
from rushkit.cli.app import main
from rushkit.errors import DataError, UsageError
from rushkit.registry import factory_parameters

COUNTS = {"train": 40, "val": 6, "test": 10}
# fmt: off
NAMES = (
    "bloodmnist", "breastmnist", "dermamnist", "octmnist", "organamnist", "organcmnist", "organsmnist", "pathmnist",
    "pneumoniamnist", "tissuemnist",
)
# fmt: on


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("RUSHKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RUSHKIT_DATA", str(tmp_path))
    monkeypatch.setenv("RUSHKIT_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


def arrays(flag, size):
    """uint8 images (N, S, S) or (N, S, S, 3) and uint8 labels (N, 1) of every split."""
    draws = np.random.default_rng(size)
    classes, color = len(INFO[flag]["label"]), (3,) * (INFO[flag]["n_channels"] == 3)
    found = {}
    for split, count in COUNTS.items():
        found[f"{split}_images"] = draws.integers(0, 256, (count, size, size, *color), dtype=np.uint8)
        found[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % classes)[:, None]
    return found


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file as medmnist would, and its checksum into medmnist's table."""

    def put(flag, size=28, content=None, folder=FOLDER):
        variant = "" if size == 28 else f"_{size}"
        path = tmp_path / folder / f"{flag}{variant}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, **(arrays(flag, size) if content is None else content))
        monkeypatch.setitem(INFO[flag], f"MD5{variant}", hashlib.md5(path.read_bytes()).hexdigest())
        return path

    return put


@pytest.mark.parametrize("flag, size", [("pathmnist", 28), ("bloodmnist", 64), ("pneumoniamnist", 28)])
def test_images_and_labels_are_those_of_the_file(write, flag, size):
    write(flag, size)
    stored, made = arrays(flag, size), data.create(flag, root=".", size=size)
    for name, count in COUNTS.items():
        split, expected = made.split(name), torch.from_numpy(stored[f"{name}_images"])
        assert split.images.shape == (count, 3, size, size)
        for channel in range(3):
            plane = expected[..., channel] if expected.ndim == 4 else expected
            assert torch.equal(split.images[:, channel], plane)
        assert split.labels.tolist() == stored[f"{name}_labels"].ravel().tolist()
        assert split.name == f"{flag}/{name}"


def test_a_second_look_comes_from_the_cache_and_a_changed_file_does_not(write, tmp_path):
    path = write("breastmnist")
    first = data.create("breastmnist", root=".").split("val")
    content = arrays("breastmnist", 28)
    content["val_images"] = 255 - content["val_images"]
    write("breastmnist", content=content)
    assert torch.equal(data.create("breastmnist", root=".").split("val").images, 255 - first.images)
    times, whole = path.stat(), path.read_bytes()
    path.write_bytes(bytes(len(whole)))
    # The same length and time: what is cached is believed, and the file is not read.
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert torch.equal(data.create("breastmnist", root=".").split("val").images, 255 - first.images)


@pytest.mark.parametrize("flag", NAMES)
def test_every_name_is_a_set_of_one_label_an_image_and_reads_nothing_when_made(flag):
    made = data.create(flag, root="nowhere")
    assert INFO[flag]["task"] in ("multi-class", "binary-class")
    assert made.name == flag
    assert made.classes == tuple(INFO[flag]["label"].values())
    assert made.image_size == 28
    assert list(factory_parameters(data.get(flag))) == ["root", "size"]


def test_no_single_label_set_in_two_dimensions_is_missing():
    flat = {flag for flag in INFO if not flag.endswith("3d")}
    assert flat - set(NAMES) == {"chestmnist", "retinamnist"}


def test_a_size_that_there_is_not_is_refused():
    with pytest.raises(UsageError, match="size must be one of 28, 64, 128, 224"):
        data.create("pathmnist", root=".", size=32)


def test_an_unknown_split_is_refused(write):
    write("breastmnist")
    with pytest.raises(UsageError, match="breastmnist has no split 'validation'"):
        data.create("breastmnist", root=".").split("validation")


def test_an_altered_file_is_refused_and_says_both_checksums(write):
    path = write("breastmnist")
    path.write_bytes(path.read_bytes() + b"\0")
    made = data.create("breastmnist", root=".")
    (check,) = made.check()
    assert check.status == "wrong"
    for act in (lambda: made.split("train"), made.fetch):
        with pytest.raises(DataError, match=f"expected {made.md5}") as raised:
            act()
        assert "delete it" in raised.value.hint


def test_a_missing_file_says_what_to_put_where(tmp_path):
    made = data.create("pathmnist", root=str(tmp_path), size=64)
    assert made.check()[0].status == "missing"
    with pytest.raises(DataError, match="RUSHKIT_OFFLINE is set") as raised:
        made.split("train")
    for words in ("pathmnist_64.npz", INFO["pathmnist"]["MD5_64"], str(tmp_path / FOLDER), "https://zenodo.org/"):
        assert words in raised.value.hint


@pytest.mark.parametrize("fault", ["short", "labels", "type", "absent"])
def test_another_layout_is_refused(write, fault):
    content = arrays("breastmnist", 28)
    if fault == "short":
        content["train_images"] = content["train_images"][:-1]
    elif fault == "labels":
        content["train_labels"] = content["train_labels"] + 2
    elif fault == "type":
        content["train_images"] = content["train_images"].astype(np.float32)
    else:
        del content["train_images"]
    write("breastmnist", content=content)
    with pytest.raises(DataError, match=r"not laid out|outside 0\.\.1"):
        data.create("breastmnist", root=".").split("train")


def test_pickled_labels_are_refused(write):
    content = arrays("breastmnist", 28)
    content["train_labels"] = np.array([print] * 40, dtype=object)
    write("breastmnist", content=content)
    with pytest.raises(DataError, match="not laid out"):
        data.create("breastmnist", root=".").split("train")


def test_a_download_is_checked_before_it_is_there(write, tmp_path, monkeypatch):
    away = write("breastmnist", folder="away")
    monkeypatch.delenv("RUSHKIT_OFFLINE")
    monkeypatch.setitem(INFO["breastmnist"], "url", away.as_uri())
    seen = []
    data.create("breastmnist", root=".").fetch(lambda done, total: seen.append((done, total)))
    assert (tmp_path / FOLDER / "breastmnist.npz").read_bytes() == away.read_bytes()
    assert seen[-1] == (away.stat().st_size,) * 2
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["breastmnist.npz"]

    (tmp_path / FOLDER / "breastmnist.npz").unlink()
    away.write_bytes(b"something else")
    with pytest.raises(DataError, match="what it sends has MD5"):
        data.create("breastmnist", root=".").fetch(lambda done, total: None)
    away.unlink()
    with pytest.raises(DataError, match="cannot be downloaded"):
        data.create("breastmnist", root=".").fetch(lambda done, total: None)
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_the_data_commands_know_it(write, capsys):
    write("breastmnist")
    assert main(["data", "list", "--json"]) == 0
    listed = capsys.readouterr().out
    assert '"breastmnist"' in listed
    assert main(["data", "check", "breastmnist"]) == 0
    assert main(["data", "fetch", "breastmnist"]) == 0
    assert main(["data", "check", "pathmnist"]) == 1
    assert "rushkit data fetch pathmnist" in capsys.readouterr().err


def test_one_epoch_of_each_stage_on_grey_images(write):
    write("pneumoniamnist")
    small = [
        "data.image_size=8",
        "projector.hidden=8",
        "projector.out=4",
        "pretrain.epochs=1",
        "pretrain.batch_size=20",
    ]
    small += ["pretrain.knn.every=0", "finetune.epochs=1", "finetune.batch_size=20", "data.name=pneumoniamnist"]
    changes = [word for change in small for word in ("--set", change)]
    assert main(["pretrain", "--recipe", "digits", *changes]) == 0
    assert main(["finetune", "--from", "digits", *changes]) == 0
    assert main(["evaluate", "--samples", "1"]) == 0


def test_importing_it_warns_of_nothing():
    subprocess.run([sys.executable, "-W", "error", "-c", "import rushkit_medmnist"], check=True)
