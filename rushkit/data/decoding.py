"""Decode the image files of a folder to one form, on all cores: all of them in order, or those that are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rushkit.data.cache import cached, fingerprint
from rushkit.data.picture import Form, ImageFault, Picture, Room, read_picture
from rushkit.data.progress import reporting
from rushkit.data.scan import ImageFile

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Images that are decoded ahead of the one that is used next: by blocks, to bound the memory.
BLOCK_IMAGES = 4096
BLOCK_BYTES = 2**26
# Threads that decode: one a core.
WORKERS = os.cpu_count() or 1
DIGEST_BYTES = 16
# In place of the digest of an image that cannot be decoded.
NO_DIGEST = bytes(DIGEST_BYTES)


@dataclass(frozen=True)
class Decoder:
    """Decodes the files below a folder.

    Attributes:
        top: The folder.
        form: What each image is brought to.
    """

    top: Path
    form: Form

    @cached_property
    def _room(self) -> Room:
        return Room()

    def decode(self, file: ImageFile) -> Picture | ImageFault:
        """Decode a file, or return what is wrong with it."""
        try:
            return read_picture(self.top / file.path, self.form, self._room)
        except ImageFault as fault:
            return fault

    def all(self, files: Sequence[ImageFile]) -> Iterator[tuple[ImageFile, Picture | ImageFault]]:
        """Yield every file in order with its image, or with what is wrong with it; memory bounds how many wait."""
        step = max(1, min(BLOCK_IMAGES, BLOCK_BYTES // np.prod(self.form.shape, dtype=int)))
        for start in range(0, len(files), step):
            block = files[start : start + step]
            yield from zip(block, workers().map(self.decode, block), strict=True)


class OnDemand:
    """The images of a split that stay in their files, and are decoded when they are asked for.

    It takes the place of a uint8 tensor (N, C, H, W): ``images[rows]`` is one, for a slice, an int64 tensor, or a row.

    Args:
        decoder: Decodes the files.
        files: One for each image.
        why: Why they are not in memory, such as "7.5 GB are more than ...".
    """

    ndim = 4

    def __init__(self, decoder: Decoder, files: Sequence[ImageFile], why: str) -> None:
        self._decoder, self._files, self.why = decoder, files, why
        # The images that were announced, by the bytes of their indices.
        self._expected: tuple[bytes, _Block] | None = None

    def __repr__(self) -> str:
        return f"OnDemand({str(self._decoder.top)!r}: {len(self)} images)"

    def __len__(self) -> int:
        return len(self._files)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the pixels: uint8."""
        import torch

        return torch.uint8

    @property
    def shape(self) -> torch.Size:
        """The shape of all images together: (N, C, H, W)."""
        import torch

        return torch.Size((len(self), *self._decoder.form.shape))

    def numel(self) -> int:
        """Return the number of bytes that all images would take."""
        return self.shape.numel()

    def __getitem__(self, rows: int | slice | Tensor) -> Tensor:
        """Decode rows: uint8 (n, C, H, W), or (C, H, W) of a single one.

        Raises:
            ImageFault: an image that cannot be decoded.
        """
        if isinstance(rows, int):
            return self._begin([self._files[rows]]).finish()[0]
        if isinstance(rows, slice):
            return self._begin(self._files[rows]).finish()
        expected, self._expected = self._expected, None
        if expected is not None and expected[0] == _key(rows):
            return expected[1].finish()
        return self._begin([self._files[row] for row in rows.tolist()]).finish()

    def expect(self, rows: Tensor) -> None:
        """Begin to decode the rows that will be asked for next, int64 (n,), while the caller goes on."""
        self._expected = _key(rows), self._begin([self._files[row] for row in rows.tolist()])

    def take(self, rows: Tensor) -> OnDemand:
        """Return the images at int64 ``rows`` (n,), which stay in their files as well."""
        return OnDemand(self._decoder, [self._files[row] for row in rows.tolist()], self.why)

    def digests(self, allow_faults: bool = False) -> Tensor:
        """Return a hash of the pixels of each image: uint8 (N, 16). All are decoded for it once; the cache keeps them.

        Args:
            allow_faults: Whether an image that cannot be decoded has zeros for a hash; otherwise it is an error.

        Raises:
            ImageFault: an image that cannot be decoded; one of another size in any case.
            DataError: the cache cannot be written.
        """
        import torch

        source = fingerprint(self._files, self._decoder.form, "digests", allow_faults)

        def build(_: object) -> Iterator[Tensor]:
            with reporting(f"reading {self._decoder.top}") as report:
                for number, (_, found) in enumerate(self._decoder.all(self._files), 1):
                    if isinstance(found, ImageFault) and not (allow_faults and found.skippable):
                        raise found
                    digest = NO_DIGEST if isinstance(found, ImageFault) else digest_of(found.pixels)
                    yield torch.frombuffer(bytearray(digest), dtype=torch.uint8)[None]
                    report(number, len(self._files))

        return cached(f"digests-{self._decoder.top.name}-{source}", source, (DIGEST_BYTES,), build).images

    def _begin(self, files: Sequence[ImageFile]) -> _Block:
        import torch

        images = torch.empty((len(files), *self._decoder.form.shape), dtype=torch.uint8)

        # Into its place at once: pictures that wait for each other leave holes in the memory when they are gone.
        def fill(place: np.ndarray, file: ImageFile) -> None:
            found = self._decoder.decode(file)
            if isinstance(found, ImageFault):
                raise found
            place[:] = found.pixels

        return _Block(images, [workers().submit(fill, *pair) for pair in zip(images.numpy(), files, strict=True)])


@dataclass(frozen=True)
class _Block:
    """Images that are being decoded, uint8 (n, C, H, W), each by a thread."""

    images: Tensor
    done: list[Future[None]]

    def finish(self) -> Tensor:
        """Wait for all images, and return them. Raises ImageFault for the first that cannot be decoded."""
        for future in self.done:
            future.result()
        return self.images


def digest_of(pixels: np.ndarray) -> bytes:
    """Return the hash of an image's pixels: uint8 (C, H, W) -> 16 bytes."""
    return blake2b(np.ascontiguousarray(pixels).data, digest_size=DIGEST_BYTES).digest()


@cache
def workers() -> ThreadPoolExecutor:
    """Return the threads that decode: Pillow lets go of the interpreter while it decodes and resizes."""
    return ThreadPoolExecutor(WORKERS, thread_name_prefix="rushkit-decode")


def _key(rows: Tensor) -> bytes:
    return rows.cpu().numpy().tobytes()
