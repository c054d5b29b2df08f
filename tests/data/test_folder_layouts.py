"""The usual forms of a folder of images: where its splits lie, and which label a class folder has."""

from __future__ import annotations

import logging
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from rushkit import data
from rushkit.data.layout import divided
from rushkit.data.scan import ImageFile
from rushkit.errors import DataError, UsageError


def paint(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), shade).save(path)


def class_folders(top: Path, classes: tuple[str, ...] = ("cat", "dog"), images: int = 10) -> Path:
    for label, name in enumerate(classes):
        for number in range(images):
            paint(top / name / f"{number}.png", 10 * label + number)
    return top


def shades(top: Path, split: str, **options: object) -> list[int]:
    return data.create("folder", root=str(top), **options).split(split).images[:, 0, 0, 0].tolist()


def test_class_folders_alone_are_divided_into_train_and_test(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    top = class_folders(tmp_path / "pets")
    with caplog.at_level(logging.INFO, "rushkit.data"):
        dataset = data.create("folder", root=str(top))
        assert dataset.splits == ("train", "test")
        train, test = (shades(top, split) for split in ("train", "test"))
    assert sorted(train + test) == list(range(20))
    # Of each class a fifth, at once and in words.
    assert [sum(shade // 10 == label for shade in test) for label in (0, 1)] == [2, 2]
    assert caplog.text.count("20.0 % of each class, chosen by a hash of the names, are the split test") == 1


def test_the_division_is_that_of_every_machine(tmp_path: Path) -> None:
    # Golden: another rank of the names would move training images of earlier runs into the test split.
    top = class_folders(tmp_path / "pets")
    assert shades(top, "test") == [7, 8, 15, 17]
    shutil.move(top, tmp_path / "elsewhere")
    assert shades(tmp_path / "elsewhere", "test") == [7, 8, 15, 17]


def test_a_new_image_moves_at_most_one_other() -> None:
    images = [ImageFile(f"cat/{number}.png", 0, 0) for number in range(50)]
    before = set(divided(images, 0.2)["test"])
    after = set(divided([*images, ImageFile("cat/new.png", 0, 0)], 0.2)["test"])
    assert len(before) == 10
    assert len(before - after) <= 1


@pytest.mark.parametrize(("images", "share", "held"), [(1, 0.9, 0), (2, 0.01, 1), (2, 0.99, 1), (5, 0.5, 3)])
def test_a_class_of_two_has_one_in_each_split(images: int, share: float, held: int) -> None:
    parts = divided([ImageFile(f"cat/{number}.png", 0, 0) for number in range(images)], share)
    assert len(parts["test"]) == held
    assert len(parts["train"]) == images - held


@pytest.mark.parametrize(("holdout", "split"), [(0.0, "train"), (1.0, "test")])
def test_no_share_or_all_makes_one_split(tmp_path: Path, holdout: float, split: str) -> None:
    top = class_folders(tmp_path / "pets")
    assert data.create("folder", root=str(top), holdout=holdout).splits == (split,)
    assert len(shades(top, split, holdout=holdout)) == 20


def test_a_share_beyond_all_is_refused(tmp_path: Path) -> None:
    for holdout in (-0.1, 1.5):
        with pytest.raises(UsageError, match=r"holdout must lie in \[0, 1\]"):
            data.create("folder", root=str(tmp_path), holdout=holdout)


@pytest.mark.parametrize(
    ("name", "split"),
    [("val", "test"), ("valid", "test"), ("Validation", "test"), ("test", "test"), ("train", "train")],
)
def test_a_folder_that_is_called_like_a_split_is_that_split(tmp_path: Path, name: str, split: str) -> None:
    top = class_folders(tmp_path / name)
    assert data.create("folder", root=str(top)).splits == (split,)
    assert len(shades(top, split)) == 20


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "val"), ("train", "test")),
        (("train", "valid"), ("train", "test")),
        (("train", "val", "test"), ("train", "test", "validation")),
        (("train", "valid", "test", "extra"), ("train", "test", "extra", "validation")),
        (("train", "validation"), ("train", "validation")),
        (("val",), ("test",)),
        (("test",), ("test",)),
    ],
)
def test_folders_of_validation_images(tmp_path: Path, folders: tuple[str, ...], splits: tuple[str, ...]) -> None:
    for number, name in enumerate(folders):
        paint(tmp_path / "pets" / name / "cat" / "a.png", number)
    dataset = data.create("folder", root=str(tmp_path / "pets"))
    assert dataset.splits == splits
    validation = next((number for number, name in enumerate(folders) if name.startswith("val")), None)
    if validation is not None:
        split = "validation" if "validation" in splits else "test"
        assert shades(tmp_path / "pets", split) == [validation]


def test_images_alone_are_training_images_without_labels(tmp_path: Path) -> None:
    for number in range(3):
        paint(tmp_path / "pets" / f"{number}.png", number)
    dataset = data.create("folder", root=str(tmp_path / "pets"))
    assert (dataset.splits, dataset.classes) == (("train",), ())
    assert dataset.split("train").labels is None


def test_a_folder_of_data_sets_is_none_itself(tmp_path: Path) -> None:
    class_folders(tmp_path / "pets" / "train")
    with pytest.raises(DataError, match=r"neither train/ nor test/, but data sets such as pets/") as caught:
        _ = data.create("folder", root=str(tmp_path)).splits
    assert caught.value.hint == "name one of them: --set data.path=pets"


def test_hidden_files_are_no_images_and_hidden_folders_no_classes(tmp_path: Path) -> None:
    top = class_folders(tmp_path / "train", images=2)
    for name in ("cat/._0.png", "cat/.hidden.png", ".cache/a.png", "__MACOSX/a.png", "cat/.AppleDouble/a.png"):
        paint(top / name, 99)
    assert shades(top, "train") == [0, 1, 10, 11]


def test_a_class_has_one_name_in_composed_and_decomposed_letters(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    paint(tmp_path / "train" / decomposed / "0.png", 1)
    paint(tmp_path / "train" / "cafz" / "0.png", 2)
    paint(tmp_path / "test" / composed / "0.png", 3)
    dataset = data.create("folder", root=str(tmp_path))
    # In the order of the composed name, whatever the file system made of it.
    assert dataset.classes == ("cafz", composed)
    labels = dataset.split("test").labels
    assert labels is not None
    assert labels.tolist() == [1]
    paint(tmp_path / "train" / composed / "1.png", 4)
    again = data.create("folder", root=str(tmp_path))
    assert again.classes == dataset.classes
    assert again.split("train").images[:, 0, 0, 0].tolist() == [2, 1, 4]


NUMBERS = ("0", "1", "10", "2")


def labels_in(top: Path, **options: object) -> dict[str, int]:
    """Class folder -> label, of class folders with one image each."""
    dataset = data.create("folder", root=str(top), **options)
    labels = dataset.split("train").labels
    assert labels is not None
    return dict(zip(sorted(path.name for path in top.iterdir()), labels.tolist(), strict=True))


def test_numbers_are_in_the_order_of_text_and_it_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    top = class_folders(tmp_path / "train", NUMBERS, 1)
    with caplog.at_level(logging.INFO, "rushkit.data"):
        assert labels_in(top) == {"0": 0, "1": 1, "10": 2, "2": 3}
    assert "in the order of text, 0, 1, 10, 2, as torchvision has them" in caplog.text
    assert "data.classes" in caplog.text


@pytest.mark.parametrize("text", ['["0", "1", "2", "10"]', "0\n1\n2\n10\n", "\ufeff0\r\n 1 \r\n\r\n2\r\n10"])
def test_the_order_of_the_classes_can_be_given(tmp_path: Path, text: str) -> None:
    top = class_folders(tmp_path / "train", NUMBERS, 1)
    (tmp_path / "names.txt").write_text(text, encoding="utf-8")
    expected = {"0": 0, "1": 1, "2": 2, "10": 3}
    assert labels_in(top, classes=["0", "1", "2", "10"]) == expected
    assert labels_in(top, classes=str(tmp_path / "names.txt")) == expected
    dataset = data.create("folder", root=str(tmp_path), path="train", classes="names.txt")
    assert dataset.classes == ("0", "1", "2", "10")


def test_an_order_may_name_classes_that_have_no_folder(tmp_path: Path) -> None:
    top = class_folders(tmp_path / "train", ("cat", "dog"), 1)
    assert labels_in(top, classes=["emu", "dog", "fox", "cat"]) == {"cat": 3, "dog": 1}


def test_a_class_folder_that_the_order_does_not_name_is_an_error(tmp_path: Path) -> None:
    top = class_folders(tmp_path / "train", ("cat", "dog"), 1)
    with pytest.raises(DataError, match=r"class folders that data\.classes does not name: dog") as caught:
        labels_in(top, classes=["cat", "dogs"])
    assert caught.value.hint == "did you mean dogs?"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no class"),
        ("cat\ndog\ncat\n", "names a class twice: cat"),
        ('["cat", 1]', "is no JSON list of names"),
        ('["cat",', "is no JSON list: "),
        ("[" * 100_000, "is no JSON list: "),
        (b"\xff\xfe\x00", "cannot be read: it is no text in UTF-8"),
        (None, "cannot be read: "),
    ],
)
def test_a_file_of_no_classes_is_named(tmp_path: Path, text: str | bytes | None, words: str) -> None:
    if text is not None:
        (tmp_path / "names").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises((DataError, UsageError), match=words):
        data.create("folder", root=str(tmp_path), classes="names")
