"""``rushkit data check PATH`` says what lies there, what becomes of it, and the line to use."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
from commands import sets
from PIL import Image

from rushkit.cli.given import data_options
from rushkit.errors import DataError


@pytest.fixture
def pets(folder):
    """Images of two classes, some not square."""
    for split, sizes in (("train", [(8, 8), (12, 8), (9, 20)]), ("test", [(8, 8)])):
        for name in ("cat", "dog"):
            (folder / "pets" / split / name).mkdir(parents=True)
            for number, size in enumerate(sizes):
                Image.new("RGB", size).save(folder / "pets" / split / name / f"{number}.png")
    return folder / "pets"


def test_a_folder_is_told_with_classes_counts_sizes_and_the_line(cli, pets):
    said = cli("data", "check", "pets")
    assert (said.code, said.err) == (0, "")
    for line in (
        f"{pets}: a folder of images",
        "2 classes: cat, dog",
        "train: 6 images; cat 3, dog 3; 3 sizes from 8x8 to 12x20 (width x height), 4 not square",
        "test: 2 images; cat 1, dog 1; 8x8",
        "images: 3 x 8 x 8, resized; of those that are not square the middle is kept",
        f"use: --set data.name=folder --set data.path={pets} --set data.image_size=8",
    ):
        assert line in said.out


def test_the_line_reads_the_images(cli, pets):
    said = cli("data", "check", "pets").out
    (line,) = (row for row in said.splitlines() if row.startswith("use: "))
    changes = shlex.split(line.removeprefix("use: "))[1::2]
    options = [change for change in changes if not change.startswith("data.name")]
    assert cli("data", "check", "folder", *sets(*options)).code == 0


def test_facts_come_as_json(cli, pets):
    facts = json.loads(cli("data", "check", "pets", "--json").out)
    assert (facts["dataset"], facts["ready"], facts["image_size"], facts["channels"]) == ("folder", True, 8, 3)
    assert facts["splits"]["test"] == {"images": 2, "per_class": {"cat": 1, "dog": 1}}
    assert facts["use"][0] == "data.name=folder"


def test_options_count_for_a_path_too(cli, pets):
    said = cli("data", "check", "pets", *sets("data.image_size=6", "data.fit=pad")).out
    assert "images: 3 x 6 x 6, resized; of those that are not square black bars are added" in said
    assert "--set data.image_size=6 --set data.fit=pad" in said


def test_unreadable_files_are_listed_and_fail(fails, pets):
    (pets / "train/cat/bad.png").write_bytes(b"no image")
    said = fails(1, "data", "check", "pets")
    assert "1 of them unusable" in said.out
    assert "wrong" in said.out
    assert "has files that cannot be used" in said.err


def test_arrays_are_told(cli, fails, folder):
    pixels = np.zeros((6, 8, 8), np.uint8)
    np.savez(folder / "x.npz", x_train=pixels, y_train=np.arange(6) % 2, x_test=pixels, y_test=np.arange(6) % 2)
    said = cli("data", "check", "x.npz").out
    assert "train: 6 images; 0 3, 1 3; 8x8" in said
    assert "images: 1 x 8 x 8\n" in said
    np.savez(folder / "y.npz", images=pixels / 255, labels=np.arange(6))
    said = fails(1, "data", "check", "y.npz")
    assert "`images` is float64" in said.err
    assert "astype('uint8')" in said.err


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.png", b"\x89PNG\r\n\x1a\n", "is a single image, not a data set"),
        ("evil.pkl", b"\x80\x02cos\nsystem\n.", "is a pickle, which could run a program: it is not opened"),
        ("a.txt", b"text", "is of no kind that is read as images"),
        ("cifar-10-python.tar.gz", b"\x1f\x8btorn", "expected c58f30108f718f92721af3b95e74349a: it is torn"),
    ],
)
def test_what_is_no_data_set_fails_and_is_called_what_it_is(fails, folder, name, content, words):
    (folder / name).write_bytes(content)
    said = fails(1, "data", "check", name)
    assert words in said.err + said.out.replace("│\n│", "").replace("  ", "")


def test_the_flag_for_data_takes_whatever_is_recognised(folder, pets):
    np.savez(folder / "x.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(4))
    assert data_options("x.npz") == {"name": "npz", "path": str(folder / "x.npz"), "holdout": 1}
    assert data_options("pets") == {"name": "folder", "path": str(pets), "holdout": 1}
    assert data_options("Digits") == {"name": "digits"}
    (folder / "evil.pkl").write_bytes(b"\x80\x02cos\nsystem\n.")
    with pytest.raises(DataError, match="is a pickle"):
        data_options("evil.pkl")
