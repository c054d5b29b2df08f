"""Parquet files as the hub has them: the same pixels as the image files in them, and one message for anything else."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rushkit import data
from rushkit.data.picture import Form, read_picture
from rushkit.errors import DataError, UsageError

arrow = pytest.importorskip("pyarrow")
writer = pytest.importorskip("pyarrow.parquet")

CHANCE = np.random.default_rng(0)
PIXELS = CHANCE.integers(0, 256, (12, 10, 10, 3), dtype=np.uint8)
NAMES = ["cat", "dog", "eel"]


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


FILES = [encoded(pixels) for pixels in PIXELS]


def table(files=FILES, labels=None, names=NAMES, plain=False, **more) -> arrow.Table:
    """A table as ``datasets`` writes it, with the names of the classes in its metadata."""
    images = list(files) if plain else [{"bytes": content, "path": f"{n}.png"} for n, content in enumerate(files)]
    kind = arrow.binary() if plain else arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    labels = [n % 3 for n in range(len(files))] if labels is None else labels
    made = arrow.table({"image": arrow.array(images, kind), "label": labels, **more})
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    about = json.dumps({"info": {"features": features if names else {"image": {"_type": "Image"}}}})
    return made.replace_schema_metadata({"huggingface": about})


def write(path: Path, content: arrow.Table, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write_table(content, path, **options)
    return path


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A repository of the hub: two shards of training images, one of test images."""
    write(tmp_path / "pets/data/train-00000-of-00002.parquet", table(FILES[:5]), row_group_size=2)
    write(tmp_path / "pets/data/train-00001-of-00002.parquet", table(FILES[5:9]))
    write(tmp_path / "pets/data/test-00000-of-00001.parquet", table(FILES[9:]))
    (tmp_path / "pets/README.md").write_text("pets")
    return tmp_path / "pets"


def create(path: Path, **options):
    return data.create("parquet", root="nowhere", path=str(path), **options)


def channels_first(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(0, 3, 1, 2)


def test_shards_join_to_splits_with_the_names_of_the_classes(hub):
    dataset = create(hub)
    assert (dataset.name, dataset.splits, dataset.classes) == ("pets", ("train", "test"), tuple(NAMES))
    train = dataset.split("train")
    assert np.array_equal(train.images.numpy(), channels_first(PIXELS[:9]))
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 0]
    assert (train.name, dataset.image_size, dataset.stored_size) == ("pets/train", 10, 10)
    assert np.array_equal(dataset.split("test").images.numpy(), channels_first(PIXELS[9:]))


@pytest.mark.parametrize(
    "chosen", [[7, 0, 3], [2], [8, 7, 6, 5, 4, 3, 2, 1, 0], [0, 1, 2]], ids=["any", "one", "backwards", "first"]
)
def test_chosen_rows_come_in_the_order_that_is_asked_for(hub, chosen):
    split = create(hub).split("train", lambda count, labels: torch.tensor(chosen))
    assert np.array_equal(split.images.numpy(), channels_first(PIXELS[chosen]))
    assert split.labels.tolist() == [create(hub).split("train").labels[row] for row in chosen]


def test_row_groups_without_a_chosen_row_are_not_read(hub, monkeypatch):
    groups, original = [], writer.ParquetFile.iter_batches

    def noted(self, *positional, **named):
        if named["columns"] == ["image"]:
            groups.append(named["row_groups"])
        return original(self, *positional, **named)

    monkeypatch.setattr(writer.ParquetFile, "iter_batches", noted)
    create(hub, image_size=10).split("train", lambda *_: torch.tensor([2, 3]))
    # Rows 2 and 3 are those of the second group of two; no other is read.
    assert groups == [[1]]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_pixels_are_those_of_the_same_file(tmp_path, kind, fit):
    image = encoded(CHANCE.integers(0, 256, (40, 30, 3), dtype=np.uint8), kind)
    (tmp_path / "one").write_bytes(image)
    dataset = create(write(tmp_path / "test.parquet", table([image] * 2)), image_size=16, fit=fit)
    expected = read_picture(tmp_path / "one", Form(16, 3, fit)).pixels
    assert np.array_equal(dataset.split("test").images[1].numpy(), expected)
    assert dataset.stored_size == 0


def test_images_as_plain_bytes_and_texts_as_labels_are_read(tmp_path):
    labels = ["dog", "cat"] * 6
    dataset = create(write(tmp_path / "test.parquet", table(plain=True, labels=labels, names=None)))
    assert dataset.classes == ("cat", "dog")
    assert dataset.split("test").labels.tolist() == [1, 0] * 6


def test_numbers_without_names_are_classes(tmp_path):
    assert create(write(tmp_path / "test.parquet", table(names=None))).classes == ("0", "1", "2")


def test_grey_images_have_the_channels_that_are_asked_for(tmp_path):
    grey = write(tmp_path / "test.parquet", table([encoded(PIXELS[0, ..., 0])] * 2))
    assert create(grey).split("test").images.shape[1] == 3
    assert create(grey, channels=1).split("test").images.shape[1] == 1


def test_one_file_of_no_split_is_divided(tmp_path):
    path = write(tmp_path / "pets.parquet", table())
    dataset = create(path, holdout=0.25)
    assert [len(dataset.split(name)) for name in dataset.splits] == [9, 3]
    assert dataset.split("test").labels.sort().values.tolist() == [0, 1, 2]
    assert create(path, holdout=1).splits == ("test",)
    both = torch.cat([dataset.split(name).images for name in dataset.splits]).flatten(1).tolist()
    assert sorted(both) == sorted(channels_first(PIXELS).reshape(12, -1).tolist())


def test_folders_tell_the_split_where_files_do_not(tmp_path):
    write(tmp_path / "pets/default/train/0000.parquet", table(FILES[:6]))
    write(tmp_path / "pets/default/validation/0000.parquet", table(FILES[6:]))
    assert create(tmp_path / "pets").splits == ("train", "test")


TORN = [FILES[0], b"no image", FILES[2], b"", FILES[4]]


def test_an_unreadable_image_stops_or_is_skipped(tmp_path):
    path = write(tmp_path / "test.parquet", table(TORN))
    with pytest.raises(DataError, match=r"test\.parquet: row 1 cannot be read: not an image of a format"):
        create(path).split("test")
    dataset = create(path, on_unreadable="skip")
    split = dataset.split("test")
    assert (len(split), split.skipped, split.labels.tolist(), split.places.tolist()) == (3, 2, [0, 2, 1], [0, 2, 4])
    assert np.array_equal(split.images.numpy(), channels_first(PIXELS[[0, 2, 4]]))
    some = dataset.split("test", lambda *_: torch.tensor([4, 3, 0]))
    assert (some.labels.tolist(), some.places.tolist(), some.skipped) == ([1, 0], [0, 2], 1)
    assert np.array_equal(some.images.numpy(), channels_first(PIXELS[[4, 0]]))
    assert [check.status for check in dataset.check()] == ["partial"] * 3
    assert [check.status for check in create(path).check()] == ["partial", "wrong", "wrong"]


def test_images_of_several_sizes_name_the_option(tmp_path):
    path = write(tmp_path / "test.parquet", table([FILES[0], encoded(PIXELS[0, :8, :8])]))
    with pytest.raises(DataError, match=r"row 1 is 8x8, others are 10x10") as caught:
        create(path).split("test")
    assert "--set data.image_size=10" in caught.value.hint


FIVE = arrow.array([0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    "made, words",
    [
        (
            arrow.table({"text": ["a"], "id": [1]}),
            r"has no column of encoded images; its columns are text \(string\), id",
        ),
        (arrow.table({"image": ["a.png"]}), r"has no column of encoded images; its columns are image \(string\)"),
        (
            table(FILES[:5], other=arrow.array([{"bytes": b"x"}] * 5)),
            "several columns that may be the images: image, oth",
        ),
        (table(FILES[:5], target=FIVE), "several columns that may be the labels: label, target"),
        (table(FILES[:5], labels=[0, 1, None, 0, 1]), "row 2 has no label"),
        (table(FILES[:5], labels=[0, 1, 2, 3, 0]), r"record 3 has label 3, outside 0\.\.2"),
        (table(FILES[:5], labels=[0, 1, -1, 0, 0], names=None), r"record 2 has label -1"),
        (table([], labels=arrow.array([], arrow.int64())), "has no rows"),
        (table([None] * 3), "row 0 cannot be read"),
    ],
)
def test_what_is_no_data_set_gets_one_message(tmp_path, made, words):
    with pytest.raises(DataError, match=words):
        create(write(tmp_path / "test.parquet", made)).split("test")


def test_columns_may_be_named(tmp_path):
    made = table(FILES[:5], fine=FIVE, other=arrow.array([{"bytes": b"x"}] * 5))
    path = write(tmp_path / "test.parquet", made)
    dataset = create(path, columns=["image", "fine"])
    assert dataset.split("test").labels.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="has no column 'photo'; its columns are image"):
        create(path, columns="photo").split("test")
    with pytest.raises(DataError, match="the labels in 'image' are struct"):
        create(path, columns=["image", "image"]).split("test")


def test_more_than_two_columns_are_refused():
    with pytest.raises(UsageError, match="names 3 columns"):
        create(Path("a"), columns=["a", "b", "c"])


def test_files_of_several_kinds_are_refused(hub):
    write(hub / "data/train-2.parquet", table(FILES[:2], names=["a", "b", "c"]))
    with pytest.raises(DataError, match="has other columns than"):
        create(hub).split("train")
    write(hub / "data/more.parquet", table(FILES[:2]))
    with pytest.raises(DataError, match=r"more\.parquet is of no split, and other files are"):
        create(hub).split("train")


def test_a_file_that_is_cut_or_altered_anywhere_is_refused_or_read(tmp_path):
    path = write(tmp_path / "test.parquet", table(FILES[:4]))
    content, draws = path.read_bytes(), np.random.default_rng(0)
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(DataError):
            create(path, image_size=10).split("test")
    for _ in range(100):
        altered = bytearray(content)
        altered[draws.integers(len(content))] = draws.integers(256)
        path.write_bytes(altered)
        try:
            create(path, image_size=10).split("test")
        except DataError:
            continue


def test_metadata_that_are_no_json_are_not_believed(tmp_path):
    for about in (b"{", b"[]", b'{"info": {"features": 3}}', b'{"info": {"features": {"label": 5}}}'):
        path = write(tmp_path / "test.parquet", table().replace_schema_metadata({b"huggingface": about}))
        assert create(path).classes == ("0", "1", "2")


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no file or folder"):
        create(tmp_path / "none.parquet").split("test")
    assert create(tmp_path / "none.parquet").check()[0].status == "missing"
    with pytest.raises(DataError, match="has no Parquet files"):
        create(tmp_path).split("test")


def test_without_pyarrow_the_extra_is_named(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="Parquet files need pyarrow") as caught:
        create(hub).split("test")
    assert "rushkit[parquet]" in caught.value.hint
