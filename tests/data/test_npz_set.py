"""A data set in an .npz file: the usual names and shapes are read exactly, everything else gets one message."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rushkit import data
from rushkit.data import npz_file
from rushkit.errors import DataError, UsageError

CHANCE = np.random.default_rng(0)
RGB = CHANCE.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
RGBA = np.concatenate([RGB, RGB[..., :1]], 3)
LABELS = np.arange(30) % 3


@pytest.fixture
def save(tmp_path):
    """``save(images=..., labels=...)``: the path of an .npz file of these arrays."""

    def write(name="mine.npz", packed=False, **arrays):
        (np.savez_compressed if packed else np.savez)(tmp_path / name, **arrays)
        return str(tmp_path / name)

    return write


def create(path, **options):
    return data.create("npz", root="nowhere", path=path, **options)


@pytest.mark.parametrize(
    "train, test, third",
    [
        (("x_train", "y_train"), ("x_test", "y_test"), ()),
        (("train_images", "train_labels"), ("test_images", "test_labels"), ("val_images", "val_labels")),
        (("X_train", "Y_train"), ("X_test", "Y_test"), ("X_valid", "Y_valid")),
        (("images_train", "labels_train"), ("images_test", "labels_test"), ()),
    ],
)
def test_the_usual_names_are_splits(save, train, test, third):
    arrays = {train[0]: RGB, train[1]: LABELS, test[0]: RGB[:6], test[1]: LABELS[:6]}
    arrays |= {third[0]: RGB[6:9], third[1]: LABELS[6:9]} if third else {}
    dataset = create(save(**arrays))
    assert dataset.splits == ("train", "test", *(("validation",) if third else ()))
    split = dataset.split("test")
    assert np.array_equal(split.images.numpy(), RGB[:6].transpose(0, 3, 1, 2))
    assert split.labels.tolist() == LABELS[:6].tolist()
    assert (split.images.dtype, split.labels.dtype, split.name) == (torch.uint8, torch.int64, "mine/test")
    assert (dataset.classes, dataset.image_size) == (("0", "1", "2"), 8)


def test_validation_images_are_the_test_split_where_there_is_no_other(save):
    dataset = create(save(train_images=RGB, train_labels=LABELS, val_images=RGB[:4], val_labels=LABELS[:4]))
    assert dataset.splits == ("train", "test")
    assert len(dataset.split("test")) == 4


@pytest.mark.parametrize(
    "images, expected",
    [
        (RGB, RGB.transpose(0, 3, 1, 2)),
        (RGB.transpose(0, 3, 1, 2), RGB.transpose(0, 3, 1, 2)),
        (RGB[..., 0], RGB[..., :1].transpose(0, 3, 1, 2)),
        (RGB[..., :1], RGB[..., :1].transpose(0, 3, 1, 2)),
        (RGB[:, :3, :3], RGB[:, :3, :3].transpose(0, 3, 1, 2)),
        (RGBA, RGBA.transpose(0, 3, 1, 2)),
        (RGB[:, :4, :4], RGB[:, :4, :4].transpose(0, 3, 1, 2)),
    ],
    ids=["HWC", "CHW", "HW", "HW1", "3x3", "RGBA", "4x4x3"],
)
def test_every_layout_gives_channels_first(save, images, expected):
    path = save("test.npz", images=np.ascontiguousarray(images), labels=LABELS)
    if images.shape[1:] == (3, 3, 3):
        with pytest.raises(DataError, match=r"has the shape \(30, 3, 3, 3\), with channels in either place"):
            create(path).split("test")
        return
    assert np.array_equal(create(path).split("test").images.numpy(), expected)


@pytest.mark.parametrize("images", [RGB[..., 0], RGBA], ids=["grey", "RGBA"])
def test_grey_and_four_channels_become_three_where_they_are_asked_for(save, images):
    path = save("test.npz", images=images, labels=LABELS)
    assert create(path).channels == (1 if images.ndim == 3 else 4)
    dataset = create(path, channels=3)
    expected = RGB if images.ndim == 4 else RGB[..., :1].repeat(3, 3)
    assert dataset.channels == 3
    assert np.array_equal(dataset.split("test").images.numpy(), expected.transpose(0, 3, 1, 2))


def test_channels_that_cannot_be_had_are_refused(save):
    with pytest.raises(UsageError, match=r"have 3 channels, and data\.channels asks for 1"):
        create(save("test.npz", images=RGB, labels=LABELS), channels=1).split("test")


@pytest.mark.parametrize(
    "labels, classes, numbers",
    [
        (np.array(["dog", "cat", "ant"])[LABELS], ("ant", "cat", "dog"), [2, 1, 0]),
        (np.array([b"dog", b"cat", b"ant"])[LABELS], ("ant", "cat", "dog"), [2, 1, 0]),
        (np.eye(3)[LABELS], ("0", "1", "2"), [0, 1, 2]),
        (np.eye(3, dtype=bool)[LABELS], ("0", "1", "2"), [0, 1, 2]),
        (LABELS[:, None].astype(np.uint8), ("0", "1", "2"), [0, 1, 2]),
        (LABELS.astype(">i4"), ("0", "1", "2"), [0, 1, 2]),
    ],
    ids=["texts", "bytes", "one-hot", "one-hot bool", "a column", "other byte order"],
)
def test_labels_that_name_one_class_are_read(save, labels, classes, numbers):
    dataset = create(save("test.npz", images=RGB, labels=labels))
    assert dataset.classes == classes
    assert dataset.split("test").labels[:3].tolist() == numbers


def test_names_of_classes_come_from_the_file(save):
    dataset = create(save("test.npz", images=RGB, labels=LABELS, class_names=np.array(["a", "b", "c", "d"])))
    assert dataset.classes == ("a", "b", "c", "d")


def test_arrays_without_a_name_are_divided_by_class(save):
    path = save(images=RGB, labels=LABELS)
    dataset = create(path, holdout=0.4)
    train, test = dataset.split("train"), dataset.split("test")
    assert (len(train), len(test)) == (18, 12)
    assert torch.bincount(test.labels).tolist() == [4, 4, 4]
    both = torch.cat([train.images, test.images]).flatten(1).tolist()
    assert sorted(both) == sorted(RGB.transpose(0, 3, 1, 2).reshape(30, -1).tolist())
    assert create(path, holdout=1).splits == ("test",)
    assert create(path, holdout=0).splits == ("train",)


def test_only_chosen_images_are_kept(save):
    split = create(save("test.npz", images=RGB, labels=LABELS), image_size=4).split(
        "test", lambda n, _: torch.tensor([5, 2])
    )
    assert (split.images.shape, split.labels.tolist()) == ((2, 3, 4, 4), [2, 2])


def test_images_without_labels_are_a_split_without_labels(save):
    dataset = create(save("train.npz", images=RGB))
    assert dataset.split("train").labels is None
    assert dataset.classes == ()


WIDE = RGB[:, :6]


def test_images_that_are_not_square_are_refused_or_fitted(save):
    path = save("test.npz", images=WIDE, labels=LABELS)
    with pytest.raises(DataError, match="are 8x6, not square") as caught:
        create(path).split("test")
    assert "data.image_size=6" in caught.value.hint
    pixels = WIDE.transpose(0, 3, 1, 2)
    assert np.array_equal(create(path, image_size=6).split("test").images.numpy(), pixels[..., 1:7])
    padded = create(path, image_size=8, fit="pad").split("test").images.numpy()
    assert np.array_equal(padded[:, :, 1:7], pixels)
    assert padded[:, :, :1].max() == padded[:, :, 7:].max() == 0
    assert create(path, image_size=6, fit="stretch").split("test").images.shape == (30, 3, 6, 6)
    assert create(path, image_size=6).stored_size == 0


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"images": RGB / 255, "labels": LABELS}, "`images` is float64 .*: images are 8-bit"),
        ({"images": RGB.astype(int), "labels": LABELS}, "`images` is int64"),
        ({"images": RGB.reshape(30, -1), "labels": LABELS}, r"`images` is uint8 \(30, 192\)"),
        ({"images": RGB[..., :2], "labels": LABELS}, "with no channels"),
        ({"images": RGB, "labels": LABELS[:5]}, r"`labels` is int64 \(5,\) for 30 images"),
        ({"images": RGB, "labels": LABELS / 2}, "`labels` is float64 .*: labels are whole numbers"),
        ({"images": RGB, "labels": np.full((30, 3), 0.3)}, "no single class for each image"),
        ({"images": RGB, "labels": np.ones((30, 3), int)}, "no single class for each image"),
        ({"images": RGB, "labels": LABELS - 1}, "has label -1"),
        ({"images": RGB, "labels": LABELS, "classes": np.array(["a", "b"])}, r"has label 2, outside 0\.\.1"),
        ({"images": RGB, "labels": LABELS, "classes": LABELS}, "`classes` is int64 .*, expected a list of names"),
        ({"labels": LABELS}, "has no images: its arrays are labels"),
        ({"images": RGB, "x": RGB, "labels": LABELS}, "two arrays for one thing: images and x"),
        ({"images": RGB, "labels": np.array([{}] * 30, dtype=object)}, "is pickled"),
        ({"train_images": RGB, "test_images": RGB[:, :6]}, "has images of several shapes"),
    ],
)
def test_what_is_no_data_set_gets_one_message(save, arrays, words):
    path = save(**{name: np.ascontiguousarray(values) for name, values in arrays.items()})
    with pytest.raises(DataError, match=words):
        create(path, holdout=1).split("test")
    (check,) = create(path, holdout=1).check()
    assert check.status == "wrong"


def test_a_bomb_is_refused_before_it_goes_off(save, cache):
    path = save("test.npz", packed=True, images=np.zeros((20_000, 8, 8, 3), np.uint8), labels=np.zeros(20_000, int))
    with pytest.raises(DataError, match="more than 200 times its size"):
        create(path).split("test")
    assert not (cache / "data").exists()


def test_a_bomb_of_labels_is_refused(save, monkeypatch):
    monkeypatch.setattr(npz_file, "MOST_VALUES_BYTES", 100)
    with pytest.raises(DataError, match="the array 'labels' has 240 bytes"):
        create(save("test.npz", images=RGB, labels=LABELS)).split("test")


def test_a_missing_file_names_the_option(tmp_path):
    with pytest.raises(DataError, match="there is no file") as caught:
        create(str(tmp_path / "none.npz")).split("test")
    assert "data.path" in caught.value.hint
    assert create(str(tmp_path / "none.npz")).check()[0].status == "missing"


def test_check_counts_each_split(save):
    (check,) = create(save(x_train=RGB, y_train=LABELS, x_test=RGB[:5], y_test=LABELS[:5])).check()
    assert check[1:] == ("ok", "train: 30 images, test: 5 images")


@pytest.mark.parametrize("holdout", [-0.1, 1.1])
def test_a_share_beyond_the_whole_is_refused(save, holdout):
    with pytest.raises(UsageError, match=r"holdout must lie in \[0, 1\]"):
        create("a.npz", holdout=holdout)
