"""What decoding and resizing take: memory by the size that is wanted, and work for the chosen images alone."""

from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from rushkit import data
from rushkit.data import decoding, memory
from rushkit.data import folder as folder_module
from rushkit.data.memory import Split, hold_out_indices, limit
from rushkit.errors import DataError, UsageError
from rushkit.recipe.load import load_recipe
from rushkit.setup import components


def paint(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes of ten images whose red value is their number."""
    for label, first in (("cat", 0), ("dog", 10)):
        for number in range(10):
            paint(tmp_path / "pets" / "train" / label / f"{number}.png", first + number)
    return tmp_path / "pets"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"data.limit": 4}, "train"),
        ({"data.limit": 4, "data.validation": 6}, "train"),
        ({"data.validation": 6}, "validation"),
    ],
)
def test_only_the_chosen_images_are_decoded_and_they_are_those_of_all(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], name: str
) -> None:
    whole = data.create("folder", root=str(pets), image_size=8).split("train")
    if "data.validation" in changes:
        training, held = hold_out_indices(len(whole), whole.labels, changes["data.validation"], 0, whole.name)
        whole = whole.take(held if name == "validation" else training)
    expected = limit(whole, changes.get("data.limit", 0))
    # Without the cache of the whole split, and with every image damaged that is not chosen.
    monkeypatch.setenv("RUSHKIT_CACHE", str(tmp_path / "another"))
    chosen = set(expected.images[:, 0, 0, 0].tolist())
    for path in pets.rglob("*.png"):
        if int(path.stem) + 10 * (path.parent.name == "dog") not in chosen:
            path.write_text("no image")
    recipe = load_recipe("digits", {"data.name": "folder", "data.path": str(pets), "data.image_size": 8, **changes})
    split = components.load_split(recipe, components.build_dataset(recipe), name)
    assert expected.labels is not None
    assert split.labels is not None
    assert torch.equal(split.images, expected.images)
    assert split.labels.tolist() == expected.labels.tolist()


def test_a_limit_comes_before_the_resize(monkeypatch: pytest.MonkeyPatch) -> None:
    class Grey:
        name, classes, image_size, splits = "grey", ("one",), 4, ("train",)

        def split(self, name: str) -> Split:
            return Split(torch.zeros(50, 3, 4, 4, dtype=torch.uint8), torch.zeros(50, dtype=torch.int64), "grey/train")

    resized: list[int] = []
    resize = components.resize
    monkeypatch.setattr(components, "resize", lambda images, size: resized.append(len(images)) or resize(images, size))
    recipe = load_recipe("digits", {"data.image_size": 8, "data.limit": 3})
    assert components.load_split(recipe, Grey(), "train").images.shape == (3, 3, 8, 8)
    assert resized == [3]


def test_making_larger_takes_blocks_of_the_larger_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BLOCK_BYTES", 4 * 3 * 64 * 64)
    made: list[int] = []
    interpolate = F.interpolate

    def noted(*arguments, **options):
        made.append(len(arguments[0]))
        return interpolate(*arguments, **options)

    monkeypatch.setattr(F, "interpolate", noted)
    memory.resize(torch.zeros(5, 3, 4, 4, dtype=torch.uint8), 64)
    assert made == [1] * 5


def test_more_cores_do_not_keep_more_decoded_images(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (decoding, folder_module):
        monkeypatch.setattr(module, "BLOCK_BYTES", 2 * 3 * 64)
    pool = ThreadPoolExecutor(64)
    monkeypatch.setattr(decoding, "workers", lambda: pool)
    decoded, waiting = [], []
    read, block = decoding.read_picture, folder_module._block

    def noted(path, *rest):
        decoded.append(path)
        return read(path, *rest)

    def blocked(images):
        waiting.append(len(decoded) - sum(taken))
        taken.append(len(images))
        return block(images)

    taken: list[int] = []
    monkeypatch.setattr(decoding, "read_picture", noted)
    monkeypatch.setattr(folder_module, "_block", blocked)
    assert len(data.create("folder", root=str(pets)).split("train")) == 20
    assert max(waiting) <= 4


def test_an_image_of_more_pixels_than_there_is_memory_for_is_refused_before_it_is_decoded(pets: Path) -> None:
    Image.new("P", (8193, 8192)).save(pets / "train" / "cat" / "0.png")
    with pytest.raises(DataError, match=r"cat/0\.png cannot be read: 8193x8192 are too many pixels to decode"):
        data.create("folder", root=str(pets), image_size=8).split("train")


def test_of_sixteen_bits_in_three_channels_the_upper_eight_are_kept(pets: Path) -> None:
    rows = b"".join(b"\0" + b"\x12\x34" * 24 for _ in range(8))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    (pets / "train" / "cat" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert data.create("folder", root=str(pets)).split("train").images[0].unique().tolist() == [0x12]


@pytest.mark.parametrize("name", ["folder", "digits", "stl10"])
def test_a_size_that_no_memory_holds_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="image_size must be 8192 at most"):
        data.create(name, root=str(tmp_path), image_size=int("1" * 30))
