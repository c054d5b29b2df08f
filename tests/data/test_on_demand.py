"""Images that stay in their files are those that a cache would hold, and only what is asked for is read."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from rushkit import data
from rushkit.data import decoding, memory
from rushkit.data import folder as folder_module
from rushkit.data.decoding import OnDemand
from rushkit.data.memory import Split, chosen_indices
from rushkit.data.picture import ImageFault
from rushkit.errors import DataError, UsageError
from rushkit.recipe.load import load_recipe
from rushkit.setup import components
from rushkit.setup.subject import fingerprint_of

COUNT = 20


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes of ten images of 9x8 pixels; the shade is the number of the image."""
    for number in range(COUNT):
        path = tmp_path / "pets" / "train" / ("cat", "dog")[number // 10] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (number, 2 * number, 0)).save(path)
    return tmp_path / "pets"


def split_of(top: Path, where: str, **options: object) -> Split:
    """The training split with its images in memory, or in their files."""
    options = {"image_size": 6, **options}
    memory_bytes = memory.MEMORY_BYTES if where == "memory" else 0
    split: Split = data.create("folder", root=str(top), **options).split("train", memory=memory_bytes)
    assert isinstance(split.images, OnDemand) == (where == "files")
    return split


def both(top: Path, **options: object) -> tuple[Split, Split]:
    # In this order: what is in the cache is used however large it is.
    lying = split_of(top, "files", **options)
    return split_of(top, "memory", **options), lying


@pytest.mark.parametrize(
    "rows",
    [0, -1, slice(None), slice(3, 9), slice(18, 40), slice(5, 5), [7], [3, 1, 1, 19, 0], []],
    ids=str,
)
def test_every_index_gives_what_the_cache_holds(pets: Path, rows: int | slice | list[int]) -> None:
    cached, lying = both(pets)
    index = torch.tensor(rows, dtype=torch.int64) if isinstance(rows, list) else rows
    assert torch.equal(lying.images[index], cached.images[index])


def test_they_look_like_a_tensor(pets: Path) -> None:
    cached, lying = both(pets, channels=1)
    for name in ("shape", "dtype", "ndim"):
        assert getattr(lying.images, name) == getattr(cached.images, name)
    assert (len(lying), lying.images.numel()) == (COUNT, cached.images.numel())
    assert torch.equal(lying.labels, cached.labels)


def test_a_selection_stays_in_its_files(pets: Path) -> None:
    cached, lying = both(pets)
    rows = torch.tensor([5, 2, 17])
    few, expected = lying.take(rows), cached.take(rows)
    assert isinstance(few.images, OnDemand)
    assert torch.equal(few.images[:], expected.images)
    assert torch.equal(few.labels, expected.labels)


def test_a_hash_tells_images_apart_and_not_where_they_lie(pets: Path) -> None:
    cached, lying = both(pets)
    assert fingerprint_of(lying) == fingerprint_of(cached)
    rows = torch.tensor([5, 2, 17])
    assert fingerprint_of(lying.take(rows)) == fingerprint_of(cached.take(rows))
    assert fingerprint_of(lying.take(rows.flip(0))) != fingerprint_of(lying.take(rows))
    Image.new("RGB", (9, 8), (200, 0, 0)).save(pets / "train" / "dog" / "19.png")
    assert fingerprint_of(split_of(pets, "files")) != fingerprint_of(lying)


def test_the_hashes_are_kept_and_the_images_read_once_for_them(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint_of(split_of(pets, "files"))
    monkeypatch.setattr(decoding, "read_picture", None)
    assert fingerprint_of(split_of(pets, "files")) == first


def test_an_image_that_cannot_be_read_is_named_when_it_is_asked_for(pets: Path) -> None:
    (pets / "train" / "dog" / "13.png").write_text("no image")
    split = split_of(pets, "files")
    assert split.images[:13].shape[0] == 13
    with pytest.raises(ImageFault, match=r"dog/13\.png cannot be read"):
        split.images[12:14]
    with pytest.raises(ImageFault, match=r"dog/13\.png cannot be read"):
        fingerprint_of(split)


def test_unreadable_images_are_skipped_as_by_the_cache(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in (0, 13):
        (pets / "train" / ("cat", "dog")[number // 10] / f"{number:02}.png").write_text("no image")
    with caplog.at_level(logging.WARNING, "rushkit"):
        cached, lying = both(pets, on_unreadable="skip")
    assert caplog.text.count("2 images skipped, unreadable: cat/00.png, dog/13.png") == 2
    assert torch.equal(lying.images[:], cached.images)
    assert torch.equal(lying.labels, cached.labels)
    expected = [number for number in range(COUNT) if number not in (0, 13)]
    for split in (cached, lying):
        assert split.places is not None
        assert split.places.tolist() == expected
    assert lying.skipped == 2


def test_nothing_readable_is_an_error(pets: Path) -> None:
    for path in pets.rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(DataError, match="no image that can be read"):
        split_of(pets, "files", on_unreadable="skip")


def test_a_full_disk_leaves_images_in_their_files(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    split = data.create("folder", root=str(pets), image_size=6).split("train")
    assert isinstance(split.images, OnDemand)
    assert "do not fit on the disk of the cache" in split.images.why


@pytest.mark.parametrize("where", ["memory", "files"])
@pytest.mark.parametrize(("limit", "skip"), [(0, 3), (4, 1), (4, 3), (100, 2)])
def test_a_choice_opens_no_other_files_and_says_which_images_they_are(
    pets: Path, monkeypatch: pytest.MonkeyPatch, where: str, limit: int, skip: int
) -> None:
    read: list[str] = []
    original = decoding.read_picture
    monkeypatch.setattr(decoding, "read_picture", lambda path, *rest: read.append(path.stem) or original(path, *rest))
    options = {"data.name": "folder", "data.path": str(pets), "data.image_size": 8}
    recipe = load_recipe("digits", options)
    split = components.load_split(
        recipe,
        components.build_dataset(recipe),
        "train",
        limit=limit,
        skip=skip,
        memory=0 if where == "files" else 2**31,
    )
    expected = chosen_indices(COUNT, limit, skip)
    assert expected is not None
    assert split.images[:][:, 0, 0, 0].tolist() == expected.tolist()
    assert sorted(map(int, read)) == sorted(expected.tolist())
    assert (split.places.tolist(), split.of) == (expected.tolist(), COUNT)


def test_a_choice_among_chosen_images_counts_from_those(pets: Path) -> None:
    options = {"data.name": "folder", "data.path": str(pets), "data.image_size": 8}
    recipe = load_recipe("digits", {**options, "data.limit": 10, "data.on_unreadable": "skip"})
    whole = components.load_split(recipe, components.build_dataset(recipe), "train")
    shade = int(whole.images[4, 0, 0, 0])
    path = pets / "train" / ("cat", "dog")[shade // 10] / f"{shade:02}.png"
    path.write_text("no image")
    part = components.load_split(recipe, components.build_dataset(recipe), "train", skip=2)
    assert (part.places.tolist(), part.of, part.skipped) == ([0, 2, 6, 8], 10, 1)
    assert torch.equal(part.images[:, 0, 0, 0], whole.images[[0, 2, 6, 8], 0, 0, 0])


def test_images_are_counted_without_being_read(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "read_picture", None)
    recipe = load_recipe("digits", {"data.name": "folder", "data.path": str(pets), "data.image_size": 8})
    assert components.count_images(recipe, components.build_dataset(recipe), "train") == COUNT


@pytest.mark.parametrize(("limit", "skip", "expected"), [(0, 1, None), (0, 4, [0, 4, 8]), (9, 4, [0, 4, 8])])
def test_every_so_many_images(limit: int, skip: int, expected: list[int] | None) -> None:
    chosen = chosen_indices(10, limit, skip)
    assert (None if chosen is None else chosen.tolist()) == expected


def test_a_limit_chooses_among_those_that_skip_leaves() -> None:
    chosen = chosen_indices(100, 5, 7)
    assert chosen is not None
    assert len(chosen) == 5
    assert not (chosen % 7).any()
    smaller = chosen_indices(100, 3, 7)
    assert smaller is not None
    assert smaller.tolist() == chosen[:3].tolist()
    with pytest.raises(UsageError, match="skip must be 1"):
        chosen_indices(10, 0, 0)


def test_what_is_announced_is_decoded_ahead_and_given(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = split_of(pets, "files")
    rows = torch.tensor([4, 1, 9])
    expected = split.images[rows]
    split.images.expect(rows)
    decoding.workers().submit(int).result()
    monkeypatch.setattr(OnDemand, "_begin", None)
    assert torch.equal(split.images[rows], expected)


def test_another_batch_than_the_announced_one_is_decoded(pets: Path) -> None:
    split = split_of(pets, "files")
    split.images.expect(torch.tensor([4, 1, 9]))
    assert split.images[torch.tensor([5])][:, 0, 0, 0].tolist() == [5]
