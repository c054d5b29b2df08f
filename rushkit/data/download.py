"""Download official files where they are missing: fetch the archive, check its sum, unpack the wanted files."""

from __future__ import annotations

import gzip
import hashlib
import os
import posixpath
import tarfile
import tempfile
import zlib
from contextlib import nullcontext
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rushkit.data.files import Check
from rushkit.data.progress import Progress, reporting
from rushkit.errors import DataError
from rushkit.locks import sole_writer
from rushkit.paths import is_file, open_file, reason

TIMEOUT_SECONDS = 10.0
ATTEMPTS = 50
CHUNK_BYTES = 2**18
# Bytes of a list of class names.
MOST_EXTRA = 2**16
_RANGE_NOT_SATISFIABLE = 416
# What is read of an archive to see the name of its first member.
_HEAD_BYTES = 600


class ArchiveFile(Protocol):
    """A member of an archive that a data set needs."""

    @property
    def path(self) -> str:
        """Its path in the archive, and below the root."""
        ...

    @property
    def size(self) -> int:
        """The most bytes that it may have."""
        ...

    def check(self, root: Path) -> Check:
        """Say whether the unpacked file is there and can be used."""
        ...


@dataclass(frozen=True)
class Archive:
    """A published tar.gz archive.

    Attributes:
        url: Its official address.
        md5: Its official checksum.
        files: Members that the data set needs.
        extras: Members that are unpacked where they are present, such as class names.
    """

    url: str
    md5: str
    files: tuple[ArchiveFile, ...]
    extras: tuple[str, ...] = ()

    @property
    def filename(self) -> str:
        """The last part of the address."""
        return posixpath.basename(self.url)


@dataclass(frozen=True)
class Source:
    """The files of a data set under a root, and the archive that contains them.

    Attributes:
        dataset: The registered name, for messages.
        root: The folder that all paths are below.
        archive: Where the files come from.
        copy: The archive on this disk that the user names; None: one of the official name under the root, if any.
    """

    dataset: str
    root: Path
    archive: Archive
    copy: Path | None = None

    def check(self) -> list[Check]:
        """Check the length of each file."""
        return [file.check(self.root) for file in self.archive.files]

    def has(self, files: tuple[ArchiveFile, ...]) -> bool:
        """Return whether these files exist."""
        return all(is_file(self.root / file.path) for file in files)

    def local_archive(self) -> Path | None:
        """Return the archive that is on this disk, right or not; None if there is none."""
        copy = self.copy or self.root / self.archive.filename
        return copy if is_file(copy) else None

    def check_archive(self) -> Check | None:
        """Check the archive on this disk, which reading unpacks; None if there is none."""
        if (copy := self.local_archive()) is None:
            return None
        try:
            self._verify(copy)
        except DataError as error:
            return Check(str(copy), "wrong", error.message)
        return Check(str(copy), "ok", "the official archive, unpacked where it lies when it is read first")

    def unpack_local(self) -> bool:
        """Unpack the archive on this disk; False if there is none.

        Raises:
            DataError: it is torn or altered; its folder cannot be written.
        """
        if (copy := self.local_archive()) is None:
            return False
        self._verify(copy)
        self._unpack(copy)
        return True

    def ensure(self, files: tuple[ArchiveFile, ...]) -> None:
        """Make sure that these files exist: fetch the archive if one is missing.

        Raises:
            DataError: as ``fetch``.
        """
        if not self.has(files):
            self.fetch()

    def fetch(self, progress: Progress | None = None) -> None:
        """Download the archive and unpack all its files, unless every file exists and is usable.

        A copy of the archive on this disk is used instead of the network. What an interrupted download left is
        continued. Of several processes one downloads and the others wait.

        Args:
            progress: Called with (bytes done, bytes in all or 0); None shows a bar.

        Raises:
            DataError: no network, ``RUSHKIT_OFFLINE=1``, a wrong checksum, an unwritable folder.
        """
        if self._complete() or self.unpack_local():
            return
        from rushkit.system import offline

        if offline():
            raise self._unavailable("RUSHKIT_OFFLINE is set")
        partial = self.root / f"{self.archive.filename}.partial"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with sole_writer(partial) as handle:
                try:
                    # Another process may have brought them while this one waited.
                    if not self._complete():
                        self._download(partial, handle, progress)
                        self._unpack(partial)
                except DataError:
                    # An empty file is nothing to continue.
                    if not partial.stat().st_size:
                        partial.unlink()
                    raise
                partial.unlink()
        except OSError as error:
            raise DataError(
                f"{self.dataset} cannot be written to {self.root}: {error.strerror or error}",
                "set RUSHKIT_DATA to a folder that can be written and has room",
            ) from error

    def _complete(self) -> bool:
        return all(check.usable for check in self.check())

    def _download(self, partial: Path, handle: BinaryIO, progress: Progress | None) -> None:
        """Complete ``partial`` to the whole archive with the right checksum."""
        title = f"downloading {self.archive.filename}"
        with reporting(title, in_bytes=True) if progress is None else nullcontext(progress) as report:
            for _ in range(ATTEMPTS):
                start = handle.seek(0, os.SEEK_END)
                if start and md5_of(partial) == self.archive.md5:
                    return
                try:
                    resumed = _transfer(self.archive.url, handle, start, report)
                except _NetworkError as error:
                    handle.flush()
                    if handle.tell() > start:
                        continue
                    raise self._unavailable(str(error)) from error
                handle.flush()
                if (found := md5_of(partial)) == self.archive.md5:
                    return
                handle.truncate(0)
                # What was resumed may have been the beginning of another file: once more from the start.
                if not resumed:
                    raise DataError(
                        f"{self.archive.url} has MD5 {found}, expected {self.archive.md5}",
                        "the server sends something else: try again later, or bring the files from elsewhere",
                    )
        raise self._unavailable(f"the connection broke {ATTEMPTS} times; the next try continues the download")

    def _verify(self, copy: Path) -> None:
        """Raise DataError unless an archive has the official checksum."""
        try:
            found = md5_of(copy)
        except OSError as error:
            raise DataError(f"{copy} cannot be read: {reason(error)}", "check its permissions and the disk") from error
        if found != self.archive.md5:
            raise DataError(
                f"{copy} has MD5 {found}, expected {self.archive.md5}: it is torn, altered, or of something else",
                "delete or replace it",
            )

    def _unpack(self, path: Path) -> None:
        """Unpack the wanted members into a temporary folder, then move each of them to its place.

        Of all that an archive may say of a member nothing is believed but its name and content.
        """
        most = {file.path: file.size for file in self.archive.files} | dict.fromkeys(self.archive.extras, MOST_EXTRA)
        needed = {file.path for file in self.archive.files}
        try:
            with (
                tempfile.TemporaryDirectory(prefix=".unpack-", dir=self.root) as folder,
                tarfile.open(path, "r:gz") as tar,
            ):
                for member in tar:
                    name = posixpath.normpath(member.name)
                    if not member.isfile() or name not in most:
                        continue
                    if member.size > most[name]:
                        raise DataError(
                            f"{path}: {name} has {member.size} bytes, expected {most[name]} at most",
                            "delete it, and fetch again",
                        )
                    tar.extract(member, folder, filter="data")
                unpacked = {name for name in most if Path(folder, name).is_file()}
                if missing := sorted(needed - unpacked):
                    raise DataError(f"{path} does not contain {', '.join(missing)}", "delete it, and fetch again")
                for name in sorted(unpacked):
                    (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                    Path(folder, name).replace(self.root / name)
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path} cannot be unpacked: {error}", "delete it, and fetch again") from error
        except OSError as error:
            raise DataError(
                f"{path} cannot be unpacked into {self.root}: {reason(error)}",
                "copy it to a folder that can be written and has room, and point RUSHKIT_DATA there",
            ) from error

    def _unavailable(self, reason: str) -> DataError:
        bad = [file for file, check in zip(self.archive.files, self.check(), strict=True) if not check.usable]
        listed = "\n".join(f"  {file.path}  ({file.size} bytes)" for file in bad)
        return DataError(
            f"{self.dataset}: {len(bad)} of {len(self.archive.files)} files are missing or wrong under {self.root}, "
            f"and {self.archive.url} cannot be downloaded: {reason}",
            f"with a network: rushkit data fetch {self.dataset}; without: put these files under {self.root}, or the "
            f"archive itself, or point RUSHKIT_DATA at a folder that has them:\n{listed}\n"
            "the embedded digits need none, and a model of them comes with rushkit: --from shipped/digits",
        )


class _NetworkError(Exception):
    """The network or the server failed, not the disk."""


def _transfer(url: str, handle: BinaryIO, start: int, report: Progress) -> bool:
    """Append the rest of ``url`` to the ``start`` bytes that are there; True if the server continued them."""
    headers = {"User-Agent": "rushkit"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        with error:
            if error.code == _RANGE_NOT_SATISFIABLE and start:
                return _transfer(url, handle, 0, report)
            raise _NetworkError(f"HTTP {error.code} {error.reason}") from error
    except (URLError, HTTPException, OSError) as error:
        raise _NetworkError(str(getattr(error, "reason", error))) from error
    with response:
        resumed = bool(start) and response.status == 206
        if not resumed:
            handle.truncate(0)
            start = 0
        rest = int(response.headers.get("Content-Length") or 0)
        done, total = start, start + rest if rest else 0
        while True:
            try:
                chunk = response.read(CHUNK_BYTES)
            except (HTTPException, OSError) as error:
                raise _NetworkError(f"the connection broke after {done} bytes: {error}") from error
            if not chunk:
                break
            handle.write(chunk)
            done += len(chunk)
            report(done, total)
    if done < total:
        raise _NetworkError(f"the connection broke after {done} of {total} bytes")
    return resumed


def md5_of(path: Path) -> str:
    """Return the MD5 of a file, which data sets publish: it detects a damaged file, not a forged one."""
    with open_file(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def first_folder(path: Path) -> str:
    """Return the folder of the first member of a tar.gz archive; empty for any other file.

    Raises:
        OSError: the file cannot be read.
    """
    with open_file(path) as file:
        head = file.read(_HEAD_BYTES)
    try:
        header = zlib.decompressobj(wbits=31).decompress(head, tarfile.BLOCKSIZE)
    except zlib.error:
        return ""
    return header[:100].partition(b"\0")[0].decode("latin1").removeprefix("./").partition("/")[0]
