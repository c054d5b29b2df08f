"""Extra images come from .npz files that anybody may have made: what is read is exact, and the rest is refused."""

from __future__ import annotations

import io
import os
import zipfile

import numpy as np
import pytest
import torch

from rushkit.data import npz_file
from rushkit.data.npz import read_npz
from rushkit.errors import DataError, UsageError

CLASSES = 10


def arrays(images: int = 12, side: int = 4) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (images, side, side, 3), dtype=np.uint8)
    return {"image": pixels, "label": np.arange(images) % CLASSES}


@pytest.fixture
def save(tmp_path):
    """``save(image=..., label=...)``: the path of an .npz file of these arrays."""

    def write(packed=False, **content):
        path = tmp_path / "extra.npz"
        (np.savez_compressed if packed else np.savez)(path, **content)
        return path

    return write


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["int64", "uint8", ">i4"])
def test_images_and_labels_are_those_of_the_file(save, packed, kind):
    content = arrays()
    split = read_npz(save(packed, image=content["image"], label=content["label"].astype(kind)), 4, CLASSES)
    assert split.labels.tolist() == content["label"].tolist()
    assert np.array_equal(split.images.numpy(), content["image"].transpose(0, 3, 1, 2))
    assert (split.images.dtype, split.labels.dtype, split.name) == (torch.uint8, torch.int64, "extra.npz")


def test_blocks_join_to_the_same_images(save, monkeypatch):
    content = arrays()
    monkeypatch.setattr("rushkit.data.memory.BLOCK_BYTES", 5 * 48)
    split = read_npz(save(**content), 4, CLASSES, limit=7)
    kept = [
        int(np.flatnonzero((content["image"] == row).all((1, 2, 3)))[0])
        for row in split.images.permute(0, 2, 3, 1).numpy()
    ]
    assert len(set(kept)) == 7
    assert split.labels.tolist() == [int(content["label"][index]) for index in kept]


def test_a_smaller_limit_keeps_a_part_of_what_a_larger_one_keeps(save):
    path = save(**arrays(40))
    few, more = (read_npz(path, 4, CLASSES, limit).images.flatten(1).tolist() for limit in (5, 20))
    assert len(few) == 5
    assert all(image in more for image in few)


def test_another_file_of_the_same_name_is_read_anew(save):
    content = arrays()
    read_npz(save(**content), 4, CLASSES)
    again = read_npz(save(image=255 - content["image"], label=content["label"], more=np.zeros(1)), 4, CLASSES)
    assert np.array_equal(again.images.numpy(), 255 - content["image"].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("like", ["size", "time"])
def test_a_file_that_differs_in_size_or_time_alone_is_read_anew(save, like):
    content = arrays()
    path = save(**content)
    read_npz(path, 4, CLASSES)
    before = path.stat()
    save(image=255 - content["image"], label=content["label"], **({} if like == "size" else {"more": np.zeros(1)}))
    os.utime(path, ns=(0, before.st_mtime_ns + (10**9 if like == "size" else 0)))
    assert (path.stat().st_size == before.st_size) == (like == "size")
    assert np.array_equal(read_npz(path, 4, CLASSES).images.numpy(), 255 - content["image"].transpose(0, 3, 1, 2))


PIXELS, LABELS = arrays()["image"], arrays()["label"]


@pytest.mark.parametrize(
    "content, words",
    [
        ({"image": PIXELS}, "has no array 'label'; it has image.npy"),
        ({"label": LABELS}, "has no array 'image'"),
        ({"image": PIXELS.astype(np.float32), "label": LABELS}, r"`image` is float32 \(12, 4, 4, 3\)"),
        ({"image": PIXELS[..., 0], "label": LABELS}, r"`image` is uint8 \(12, 4, 4\)"),
        ({"image": PIXELS.transpose(0, 3, 1, 2), "label": LABELS}, "`image` is uint8"),
        ({"image": np.asfortranarray(PIXELS), "label": LABELS}, "Fortran"),
        ({"image": PIXELS[:, :3, :3], "label": LABELS}, "are 3x3, those of the data set 4x4"),
        ({"image": PIXELS[:0], "label": LABELS[:0]}, "is empty"),
        ({"image": PIXELS[:, :3], "label": LABELS}, "are 3x4, those of the data set 4x4"),
        ({"image": PIXELS[:, :, :3], "label": LABELS}, "are 4x3, those of the data set 4x4"),
        ({"image": PIXELS, "label": LABELS[:-1]}, r"`label` is int64 \(11,\) for 12 images"),
        ({"image": PIXELS, "label": LABELS[:, None]}, r"`label` is int64 \(12, 1\)"),
        ({"image": PIXELS, "label": LABELS + 0.5}, "`label` is float64"),
        ({"image": PIXELS, "label": LABELS == 1}, "`label` is bool"),
        ({"image": PIXELS, "label": LABELS + 1}, r"record 9 has label 10, outside 0\.\.9"),
        ({"image": PIXELS, "label": LABELS - 1}, r"record 0 has label -1, outside 0\.\.9"),
        ({"image": PIXELS, "label": LABELS.astype(np.uint64) + 2**63}, r"outside 0\.\.9"),
        ({"image": np.array([{"a": 1}] * 12, dtype=object), "label": LABELS}, "is pickled"),
    ],
)
def test_what_does_not_fit_is_refused(save, content, words):
    with pytest.raises(DataError, match=words):
        read_npz(save(**content), 4, CLASSES)


def test_a_negative_limit_is_refused(save):
    with pytest.raises(UsageError, match="limit"):
        read_npz(save(**arrays()), 4, CLASSES, -1)


def zipped(path, members: dict[str, bytes], kind=zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def array(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values)
    return stream.getvalue()


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little") + text.encode()


def test_a_bomb_is_refused_before_it_goes_off(tmp_path, cache):
    path = tmp_path / "bomb.npz"
    black = np.zeros((20_000, 4, 4, 3), np.uint8)
    zipped(path, {"image.npy": array(black), "label.npy": array(np.zeros(20_000, int))}, zipfile.ZIP_DEFLATED)
    assert black.nbytes > npz_file.MOST_EXPANSION * path.stat().st_size
    with pytest.raises(DataError, match=r"would unpack to .* more than 200 times its size"):
        read_npz(path, 4, CLASSES)
    assert not (cache / "data").exists()


@pytest.mark.parametrize(
    "image",
    [
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999, 4, 4, 3)}\n"),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (13, 4, 4, 3)}\n") + PIXELS.tobytes(),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (-12, -4, 4, 3)}\n") + PIXELS.tobytes(),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (12, 4, 4, 3)}\n", b"\x02\x00") + PIXELS.tobytes(),
        header("{'descr': __import__('os'), 'fortran_order': False, 'shape': (12, 4, 4, 3)}\n") + PIXELS.tobytes(),
        header("(" * 9000),
        b"\x93NUMPY",
        b"no array",
        b"",
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, image):
    path = tmp_path / "lies.npz"
    zipped(path, {"image.npy": image, "label.npy": array(LABELS)})
    with pytest.raises(DataError, match="'image'"):
        read_npz(path, 4, CLASSES)


def test_a_member_in_an_unusual_packing_is_refused(tmp_path):
    path = tmp_path / "odd.npz"
    zipped(path, {"image.npy": array(PIXELS), "label.npy": array(LABELS)}, zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match="packed in an unusual way"):
        read_npz(path, 4, CLASSES)


def test_an_altered_pixel_is_seen(save, cache):
    path = save(**arrays())
    content = bytearray(path.read_bytes())
    place = content.index(PIXELS.tobytes()[:16])
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        read_npz(path, 4, CLASSES)
    assert list((cache / "data").glob("*.u8")) == []


@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_byte_is_refused_or_changes_nothing(save, packed):
    path = save(packed, image=PIXELS // 32, label=LABELS)
    content, refused = path.read_bytes(), 0
    for place in range(0, len(content), 11):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            split = read_npz(path, 4, CLASSES)
        except DataError:
            refused += 1
        else:
            assert split.labels.tolist() == LABELS.tolist()
            assert np.array_equal(split.images.numpy(), (PIXELS // 32).transpose(0, 3, 1, 2))
    assert refused > len(content) / 11 / 2


# Of a zip's central directory: where a member's flags and the version that it needs stand.
FLAGS, VERSION = 8, 6


@pytest.mark.parametrize("field, value, words", [(FLAGS, 1, "encrypted"), (VERSION, 99, "version")])
def test_a_file_that_takes_a_password_or_a_newer_reader_is_refused(save, field, value, words):
    path = save(**arrays())
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + field] |= value
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"no \.npz file that can be read: .*{words}"):
        read_npz(path, 4, CLASSES)


def test_a_file_cut_anywhere_is_refused(save):
    path = save(**arrays())
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"no \.npz file that can be read"):
            read_npz(path, 4, CLASSES)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="is missing"):
        read_npz(tmp_path / "none.npz", 4, CLASSES)
    with pytest.raises(DataError, match="a folder"):
        read_npz(tmp_path, 4, CLASSES)
