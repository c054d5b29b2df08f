"""MedMNIST for rushkit: its two-dimensional data sets that have one label an image.

J. Yang et al., "MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image classification",
Scientific Data, 2023. The medmnist package says where each file is, what its checksum is and what the labels mean; the
files are read here, without pickle and in blocks, into rushkit's cache of decoded images.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import torch
from medmnist.info import INFO  # type: ignore[import-untyped]
from torch import Tensor

from rushkit.data.cache import Cached, cached, fingerprint, place_of
from rushkit.data.download import CHUNK_BYTES, TIMEOUT_SECONDS, md5_of
from rushkit.data.files import Check, known_split, verify_labels
from rushkit.data.memory import Split, blocks
from rushkit.data.progress import Progress, reporting
from rushkit.errors import DataError
from rushkit.locks import sole_writer
from rushkit.system import offline

FOLDER = "medmnist"
Size = Literal[28, 64, 128, 224]


def dataset(flag: str, root: str, size: Size = 28) -> MedMNIST:
    """One data set of MedMNIST; reads nothing yet.

    Args:
        flag: Its name in medmnist, such as "pathmnist".
        root: Folder that has, or is to have, ``medmnist/<flag>.npz``, or ``medmnist/<flag>_<size>.npz``.
        size: Height and width of the images, each a file of its own.
    """
    return MedMNIST(flag, root, size)


bloodmnist = partial(dataset, "bloodmnist")
breastmnist = partial(dataset, "breastmnist")
dermamnist = partial(dataset, "dermamnist")
octmnist = partial(dataset, "octmnist")
organamnist = partial(dataset, "organamnist")
organcmnist = partial(dataset, "organcmnist")
organsmnist = partial(dataset, "organsmnist")
pathmnist = partial(dataset, "pathmnist")
pneumoniamnist = partial(dataset, "pneumoniamnist")
tissuemnist = partial(dataset, "tissuemnist")


class MedMNIST:
    """One data set of MedMNIST at one size, under a root."""

    splits = ("train", "val", "test")

    def __init__(self, flag: str, root: str, size: int) -> None:
        info, variant = INFO[flag], "" if size == 28 else f"_{size}"
        self.name = flag
        self.image_size = size
        self.classes = tuple(info["label"][str(label)] for label in range(len(info["label"])))
        self.url = info[f"url{variant}"]
        self.md5 = info[f"MD5{variant}"]
        self.path = Path(root).expanduser() / FOLDER / f"{flag}{variant}.npz"
        self._channels = info["n_channels"]

    def split(self, name: str) -> Split:
        """``train``, ``val`` or ``test``: uint8 (N, 3, S, S), grey images with three equal channels, and int64 (N,).

        The first use decodes the split into the cache, after the file's checksum; later ones map it from there.

        Raises:
            UsageError: no such split.
            DataError: the file is missing and cannot be downloaded, or is altered, or the cache cannot be written.
        """
        known_split(self.name, name, self.splits)
        if not self.path.is_file():
            self.fetch()
        found = self._decoded(name)
        labels = torch.tensor(found.notes["labels"], dtype=torch.int64)
        return Split(found.images.expand(-1, 3, -1, -1), labels, f"{self.name}/{name}")

    def check(self) -> list[Check]:
        """Whether the file is there and has medmnist's checksum."""
        if not self.path.is_file():
            return [Check(str(self.path), "missing", f"expected a file with MD5 {self.md5}")]
        found = md5_of(self.path)
        if found != self.md5:
            return [Check(str(self.path), "wrong", f"has MD5 {found}, expected {self.md5}")]
        return [Check(str(self.path), "ok", f"{self.path.stat().st_size} bytes, MD5 {found}")]

    def fetch(self, progress: Progress | None = None) -> None:
        """Download the file, unless it is there.

        Args:
            progress: Called with (bytes done, bytes in all or 0); None shows a bar.

        Raises:
            DataError: no network, ``RUSHKIT_OFFLINE=1``, a wrong checksum, an unwritable folder.
        """
        if self.path.is_file():
            self._verify()
            return
        if offline():
            raise self._unavailable("RUSHKIT_OFFLINE is set")
        draft = self.path.with_suffix(".npz.partial")
        try:
            draft.parent.mkdir(parents=True, exist_ok=True)
            with sole_writer(draft) as handle:
                try:
                    # Another process may have brought it while this one waited.
                    if not self.path.is_file():
                        handle.truncate(0)
                        self._download(handle, progress)
                        handle.flush()
                        if (found := md5_of(draft)) != self.md5:
                            raise self._unavailable(f"what it sends has MD5 {found}, expected {self.md5}")
                        draft.replace(self.path)
                finally:
                    draft.unlink(missing_ok=True)
        except (OSError, HTTPException) as error:
            raise self._unavailable(str(getattr(error, "reason", None) or error)) from error

    def _download(self, handle: BinaryIO, progress: Progress | None) -> None:
        request = Request(self.url, headers={"User-Agent": "rushkit"})
        title = f"downloading {self.path.name}"
        with (
            urlopen(request, timeout=TIMEOUT_SECONDS) as response,
            reporting(title, in_bytes=True) if progress is None else nullcontext(progress) as report,
        ):
            total, done = int(response.headers.get("Content-Length") or 0), 0
            while chunk := response.read(CHUNK_BYTES):
                handle.write(chunk)
                done += len(chunk)
                report(done, total)

    def _verify(self) -> None:
        """Raise DataError unless the file has its checksum."""
        (check,) = self.check()
        if not check.usable:
            raise DataError(
                f"{check.file} {check.detail}",
                f"cut, altered or another release: delete it, and `rushkit data fetch {self.name}` downloads it again",
            )

    def _unavailable(self, reason: str) -> DataError:
        address = urlsplit(self.url)._replace(query="").geturl()
        return DataError(
            f"{self.name}: there is no {self.path}, and {address} cannot be downloaded: {reason}",
            f"bring {self.path.name} (MD5 {self.md5}) from {address} and put it under {self.path.parent}, or point "
            f"RUSHKIT_DATA or --data-dir at a folder that has {FOLDER}/{self.path.name}",
        )

    def _decoded(self, split: str) -> Cached:
        """A split in the cache: images (N, C, S, S) with the channels of the file, and labels among the notes."""
        about = self.path.stat()
        shape = (self._channels, self.image_size, self.image_size)

        def build(notes: dict[str, Any]) -> Iterator[Tensor]:
            self._verify()
            with self._open() as archive:
                with archive.open(f"{split}_labels.npy") as member:
                    labels = torch.from_numpy(np.lib.format.read_array(member, allow_pickle=False)).long().flatten()
                verify_labels(labels.numpy(), 0, len(self.classes) - 1, self.path)
                notes["labels"] = labels.tolist()
                with (
                    archive.open(f"{split}_images.npy") as member,
                    reporting(f"decoding {self.name}/{split}") as report,
                ):
                    for start, block in self._images(member, len(labels)):
                        yield block
                        report(start + len(block), len(labels))

        source = fingerprint([(self.path.name, about.st_size, about.st_mtime_ns)], self.md5)
        return cached(f"{self.path.stem}-{split}-{place_of(self.path)}", source, shape, build)

    def _images(self, member: IO[bytes], count: int) -> Iterator[tuple[int, Tensor]]:
        """Blocks (n, C, S, S) of an array (N, S, S) or (N, S, S, 3) of bytes, and where each starts."""
        size, channels = self.image_size, self._channels
        version = np.lib.format.read_magic(member)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, dtype = read_header(member)
        if (shape, by_column, dtype) != ((count, size, size) + (3,) * (channels == 3), False, np.dtype(np.uint8)):
            raise ValueError(f"{shape} {dtype} for {count} images")
        for start, stop in blocks(count, channels * size * size):
            content = bytearray(member.read((stop - start) * channels * size * size))
            block = torch.frombuffer(content, dtype=torch.uint8).view(stop - start, size, size, channels)
            yield start, block.permute(0, 3, 1, 2)

    @contextmanager
    def _open(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}") from error
        except (zipfile.BadZipFile, EOFError, KeyError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{self.path} is not laid out as a file of MedMNIST: {error}",
                "is rushkit-medmnist older than medmnist?",
            ) from error
