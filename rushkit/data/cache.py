"""Decoded images on disk: raw uint8 files, written once, mapped into memory, rebuilt when their source changes."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from rushkit.errors import DataError
from rushkit.files import replace_file, sync_folder
from rushkit.locks import sole_writer
from rushkit.paths import cache_root, open_file, read_text, regular_stat

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 3
# Name -> whole numbers, such as {"skipped": [3, 17]}.
Notes: TypeAlias = dict[str, list[int]]
_LONGEST_STEM = 150
# Python names it from 3.13 on; this is the value of the kernel's generic headers.
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)


@dataclass(frozen=True)
class Cached:
    """Images in the cache.

    Attributes:
        images: uint8, (N, *item shape), mapped: pages are read as they are used; writing to it changes only the copy.
        notes: What the builder noted beside the images.
    """

    images: Tensor
    notes: Notes


def fingerprint(files: Iterable[tuple[str, int, int]], *settings: object) -> str:
    """Hash (name, bytes, mtime in ns) of every source file and the settings that shape the result."""
    digest = hashlib.blake2b(repr((VERSION, settings)).encode(), digest_size=16)
    for file in files:
        digest.update(repr(file).encode())
    return digest.hexdigest()


def place_of(path: Path) -> str:
    """Return a short hash of a source's path, so that sources of the same name in two folders have separate caches."""
    return hashlib.blake2b(os.fsencode(path.resolve()), digest_size=4).hexdigest()


def cached(
    name: str,
    source: str,
    shape: tuple[int, ...],
    build: Callable[[Notes], Iterator[Tensor]],
) -> Cached:
    """Return the images under ``name``; build them if they are missing, truncated, altered, or from another source.

    The images are written under a temporary name and renamed when they are complete, so an interruption leaves no wrong
    cache. If several processes ask for them, one builds and the others wait. The time of the last write reveals changes
    by anyone else, since hashing would mean reading all images each time.

    Args:
        name: What the cache is of; a new source replaces the old one under the same name.
        source: Fingerprint of the source.
        shape: Shape of one image.
        build: Yields uint8 blocks (n, *shape) in order, and may add to the notes that it gets.

    Raises:
        DataError: the cache cannot be written.
    """
    images = _place(name)
    if (found := _load(images, source, shape)) is not None:
        return found
    with _partial(images) as file:
        # Another process may have built it while this one waited for the lock.
        if (found := _load(images, source, shape)) is not None:
            file.path.unlink()
            return found
        notes: Notes = {}
        count = 0
        for block in build(notes):
            file.write(block)
            count += len(block)
        file.commit(images, source, [count, *shape], notes)
    return Cached(map_file(images, (count, *shape)), notes)


def part_of(chosen: Tensor) -> str:
    """Return a short hash of the int64 indices of a selection, for the name of its cache."""
    return f"{len(chosen)}-{hashlib.blake2b(chosen.numpy().tobytes(), digest_size=4).hexdigest()}"


def find_cached(name: str, source: str, shape: tuple[int, ...]) -> Cached | None:
    """Return the images under ``name`` as ``cached`` does, or None if it would have to build them."""
    return _load(_place(name), source, shape)


def map_file(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Map a raw file as a uint8 tensor of ``shape``: pages are read from the disk as they are used.

    The mapping is copy-on-write, so that a write to the tensor neither reaches the file nor faults.

    Raises:
        DataError: the file cannot be mapped.
    """
    import torch

    if prod(shape) == 0:
        return torch.empty(shape, dtype=torch.uint8)
    try:
        with open_file(path) as file:
            if sys.platform == "linux":
                # Without NORESERVE the kernel refuses a private mapping larger than the machine's memory.
                flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
                mapped = mmap.mmap(file.fileno(), prod(shape), flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            else:
                mapped = mmap.mmap(file.fileno(), prod(shape), access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be mapped into memory: {error}") from error
    return torch.frombuffer(mapped, dtype=torch.uint8).view(shape)


def scratch(shape: tuple[int, ...]) -> Tensor:
    """Return a writable uint8 tensor in a nameless file of the cache, which is deleted with the tensor.

    Raises:
        DataError: the cache cannot be written, or the disk has no room.
    """
    import torch

    folder = cache_root()
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            size = prod(shape)
            # Room is taken now: a full disk is an error here, and would be a bus error at a later write.
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            mapped = mmap.mmap(file.fileno(), size)
    return torch.frombuffer(mapped, dtype=torch.uint8).view(shape)


def _place(name: str) -> Path:
    """Return the file of the images under a name; of a name too long for a file the end is kept."""
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[-_LONGEST_STEM:]
    return cache_root() / "data" / f"{stem}.u8"


def _load(images: Path, source: str, shape: tuple[int, ...]) -> Cached | None:
    """Return the cached images, or None if they are missing, torn, altered, or of another source or version."""
    try:
        about = _Sidecar.read(images)
        stat = regular_stat(images)
    except (OSError, ValueError, RecursionError):
        return None
    whole = tuple(about.shape)
    if (about.source, whole[1:]) != (source, shape):
        return None
    if (prod(whole), about.mtime_ns) != (stat.st_size, stat.st_mtime_ns):
        return None
    return Cached(map_file(images, whole), about.notes)


@dataclass(frozen=True)
class _Sidecar:
    """The file beside the images that tells whether they are whole and of the right source."""

    version: int
    source: str
    shape: list[int]
    notes: Notes
    mtime_ns: int

    @staticmethod
    def path(images: Path) -> Path:
        """Return the path of the sidecar of a file of images."""
        return images.with_suffix(".json")

    @classmethod
    def read(cls, images: Path) -> _Sidecar:
        """Read the sidecar of a file of images. Raises OSError or ValueError where it is missing or altered."""
        about = json.loads(read_text(cls.path(images)))
        if not isinstance(about, dict):
            raise ValueError("no JSON object")
        stated = about.pop("hash", None)
        # By the hash it is what `text` has written; another version may have other keys.
        if stated != _hash(json.dumps(about, sort_keys=True)) or about.get("version") != VERSION:
            raise ValueError("altered, or of another version")
        return cls(**about)

    def text(self) -> str:
        """Return the text of the file."""
        about = asdict(self)
        return json.dumps(about | {"hash": _hash(json.dumps(about, sort_keys=True))})


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class _Partial:
    """A cache that is being built, by this process alone."""

    path: Path
    handle: BinaryIO

    def write(self, block: Tensor) -> None:
        with _explained(self.path.parent):
            self.handle.write(block.contiguous().numpy().data)

    def commit(self, images: Path, source: str, shape: list[int], notes: Notes) -> None:
        """Make this file the cache, and write its sidecar.

        The last rename decides: before it there is no cache, after it a whole one.
        """
        with _explained(self.path.parent):
            self.handle.flush()
            os.fsync(self.handle.fileno())
            about = _Sidecar(VERSION, source, shape, notes, os.fstat(self.handle.fileno()).st_mtime_ns)
            images.unlink(missing_ok=True)
            replace_file(_Sidecar.path(images), [about.text().encode()])
            self.path.replace(images)
            sync_folder(images.parent)


@contextmanager
def _partial(images: Path) -> Iterator[_Partial]:
    """Lock an empty temporary file for a cache; it is removed when anything goes wrong."""
    path = images.with_suffix(".partial")
    with ExitStack() as stack:
        with _explained(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context(sole_writer(path))
            handle.truncate(0)
        try:
            yield _Partial(path, handle)
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the cache {folder} cannot be written: {error.strerror or error}",
            "set RUSHKIT_CACHE to a folder that can be written and has room for the decoded images",
        ) from error
