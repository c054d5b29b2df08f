from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor

from rushkit.data.cache import cached, fingerprint, map_file, scratch
from rushkit.errors import DataError
from rushkit.paths import cache_root

SHAPE = (3, 2, 2)
IMAGES = torch.arange(5 * 12, dtype=torch.uint8).view(5, *SHAPE)


class Builder:
    """Yields the images in two blocks, counts how often, and may break in between."""

    def __init__(self, images: Tensor = IMAGES, breaks: BaseException | None = None) -> None:
        self.images, self.breaks, self.calls = images, breaks, 0

    def __call__(self, notes: dict[str, Any]) -> Iterator[Tensor]:
        self.calls += 1
        yield self.images[:2]
        if self.breaks is not None:
            raise self.breaks
        yield self.images[2:]
        notes["skipped"] = [7]


def test_it_is_built_once_and_found_again() -> None:
    build = Builder()
    first, second = cached("x", "s", SHAPE, build), cached("x", "s", SHAPE, build)
    assert build.calls == 1
    assert torch.equal(first.images, IMAGES)
    assert torch.equal(second.images, IMAGES)
    assert second.notes == first.notes == {"skipped": [7]}


def test_another_source_replaces_it() -> None:
    cached("x", "s", SHAPE, Builder())
    assert torch.equal(cached("x", "t", SHAPE, Builder(IMAGES + 1)).images, IMAGES + 1)
    assert len(list((cache_root() / "data").glob("*.u8"))) == 1


def test_images_of_another_shape_replace_it_though_they_take_as_many_bytes() -> None:
    cached("x", "s", SHAPE, Builder())
    other = (3, 4, 1)
    assert torch.equal(cached("x", "s", other, Builder(IMAGES.view(5, *other))).images, IMAGES.view(5, *other))


def test_what_is_mapped_stays_whole_while_it_is_replaced() -> None:
    old = cached("x", "s", SHAPE, Builder()).images
    cached("x", "t", SHAPE, Builder(IMAGES[:3] + 100))
    assert torch.equal(old, IMAGES)


@pytest.mark.parametrize("bytes_left", [0, 59, 61])
def test_a_file_of_another_length_is_built_again(bytes_left: int) -> None:
    cached("x", "s", SHAPE, Builder())
    os.truncate(cache_root() / "data" / "x.u8", bytes_left)
    build = Builder()
    assert torch.equal(cached("x", "s", SHAPE, build).images, IMAGES)
    assert build.calls == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 0, "source": "s"}'])
def test_a_damaged_or_older_sidecar_is_built_again(text: str) -> None:
    cached("x", "s", SHAPE, Builder())
    (cache_root() / "data" / "x.json").write_text(text)
    build = Builder()
    cached("x", "s", SHAPE, build)
    assert build.calls == 1


@pytest.mark.parametrize("breaks", [KeyboardInterrupt(), ValueError("decoder")])
def test_an_interruption_leaves_nothing_and_the_old_cache_in_place(breaks: BaseException) -> None:
    cached("x", "s", SHAPE, Builder())
    with pytest.raises(type(breaks)):
        cached("x", "t", SHAPE, Builder(IMAGES + 1, breaks))
    assert sorted(path.name for path in (cache_root() / "data").iterdir()) == ["x.json", "x.u8"]
    build = Builder()
    assert torch.equal(cached("x", "s", SHAPE, build).images, IMAGES)
    assert build.calls == 0


def test_a_crash_before_the_last_rename_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    cached("x", "s", SHAPE, Builder())
    replace = Path.replace

    def crash(self: Path, target: Path) -> Path:
        if self.name == "x.partial":
            raise KeyboardInterrupt
        return replace(self, target)

    # As long as the old images: only the order of the steps tells the two apart.
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            cached("x", "t", SHAPE, Builder(IMAGES + 1))
    assert torch.equal(cached("x", "t", SHAPE, Builder(IMAGES + 2)).images, IMAGES + 2)


def test_what_a_killed_process_left_is_overwritten() -> None:
    folder = cache_root() / "data"
    folder.mkdir(parents=True)
    (folder / "x.partial").write_bytes(b"torn" * 100)
    assert torch.equal(cached("x", "s", SHAPE, Builder()).images, IMAGES)


def test_of_several_writers_one_builds_and_the_others_wait() -> None:
    # The lock belongs to the open file, so threads exclude each other as processes do.
    barrier, build = Barrier(3), Builder()

    def read(_: int) -> Tensor:
        barrier.wait()
        return cached("x", "s", SHAPE, build).images

    with ThreadPoolExecutor(3) as pool:
        assert all(torch.equal(images, IMAGES) for images in pool.map(read, range(3)))
    assert build.calls == 1
    assert not (cache_root() / "data" / "x.partial").exists()


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("RUSHKIT_CACHE", str(file))
    for attempt in (lambda: cached("x", "s", SHAPE, Builder()), lambda: scratch((4,))):
        with pytest.raises(DataError, match=r"file.* cannot be written: ") as caught:
            attempt()
        assert "RUSHKIT_CACHE" in (caught.value.hint or "")


def test_writing_to_a_mapped_tensor_warns_not_and_reaches_no_file(tmp_path: Path) -> None:
    file = tmp_path / "images"
    file.write_bytes(bytes(range(12)))
    mapped = map_file(file, (1, *SHAPE))
    mapped.zero_()
    assert file.read_bytes() == bytes(range(12))


def test_a_file_larger_than_memory_is_mapped(tmp_path: Path) -> None:
    # A hole: it takes no room on the disk.
    count = 4 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 12
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 12 * count)
    mapped = map_file(tmp_path / "huge", (count, *SHAPE))
    assert mapped[torch.tensor([0, count // 2, count - 1])].sum() == 0


def test_no_images_are_an_empty_tensor(tmp_path: Path) -> None:
    assert map_file(tmp_path / "none", (0, *SHAPE)).shape == (0, *SHAPE)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"RUSHKIT_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/rushkit"),
        ({"HOME": "/c"}, "/c/.cache/rushkit"),
    ],
)
def test_where_the_cache_lies(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUSHKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_root() == Path(expected)


def test_the_fingerprint_sees_names_sizes_times_and_settings() -> None:
    base = fingerprint([("a", 1, 2)], 32)
    others = [[("b", 1, 2)], [("a", 3, 2)], [("a", 1, 3)], [("a", 1, 2), ("b", 1, 2)]]
    assert fingerprint([("a", 1, 2)], 32) == base
    assert len({base, fingerprint([("a", 1, 2)], 33), *(fingerprint(other, 32) for other in others)}) == 6  # type: ignore[arg-type]


def test_the_sidecar_is_small_and_readable() -> None:
    cached("x", "s", SHAPE, Builder())
    about = json.loads((cache_root() / "data" / "x.json").read_text())
    written = (cache_root() / "data" / "x.u8").stat().st_mtime_ns
    assert len(about.pop("hash")) == 32
    assert about == {
        "version": 3,
        "source": "s",
        "shape": [5, 3, 2, 2],
        "notes": {"skipped": [7]},
        "mtime_ns": written,
    }


def test_images_that_someone_else_wrote_to_are_built_again() -> None:
    cached("x", "s", SHAPE, Builder())
    path = cache_root() / "data" / "x.u8"
    content, about = path.read_bytes(), path.stat()
    path.write_bytes(b"\xff" + content[1:])
    # A clock that has not moved on since.
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    build = Builder()
    assert torch.equal(cached("x", "s", SHAPE, build).images, IMAGES)
    assert build.calls == 1
