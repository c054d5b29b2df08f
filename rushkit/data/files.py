"""Files of a data set: what each one should contain, and checks that it does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rushkit.errors import DataError, UsageError
from rushkit.paths import expand, is_file, is_folder, open_file, read_text, reason, regular_stat

Status = Literal["ok", "partial", "missing", "wrong"]


class Check(NamedTuple):
    """The state of a file: ``ok``; ``partial``, usable with fewer images than the official; ``missing``; ``wrong``."""

    file: str
    status: Status
    detail: str

    @property
    def usable(self) -> bool:
        """Whether a split can be read from the file."""
        return self.status in ("ok", "partial")


@dataclass(frozen=True)
class RecordFile:
    """A file of equal binary records, without a header.

    Attributes:
        path: Below the root, with forward slashes.
        record: Bytes of one record.
        records: How many the official file has.
        any_count: Whether a file with another whole number of records is usable.
    """

    path: str
    record: int
    records: int
    any_count: bool = False

    @property
    def size(self) -> int:
        """Bytes of the official file."""
        return self.record * self.records

    def check(self, root: Path) -> Check:
        """Check that the length of the file is right."""
        file = root / self.path
        try:
            length = regular_stat(file).st_size
        except FileNotFoundError:
            return Check(str(file), "missing", f"expected {self.size} bytes")
        except OSError as error:
            return Check(str(file), "wrong", f"not usable: {reason(error)}")
        if length == self.size:
            return Check(str(file), "ok", f"{self.records} records")
        if self.any_count and length and length % self.record == 0:
            return Check(str(file), "partial", f"{length // self.record} records; the official file has {self.records}")
        fault = "short" if length < self.size else "long"
        return Check(str(file), "wrong", f"too {fault}: expected {self.size} bytes, found {length}")

    def verify(self, root: Path) -> Path:
        """Return the path of the file.

        Raises:
            DataError: the file is missing, short or long.
        """
        check = self.check(root)
        if check.status == "missing":
            raise DataError(f"{check.file} is missing ({check.detail})", "`rushkit data fetch` downloads it")
        if check.status == "wrong":
            raise DataError(f"{check.file} is {check.detail}", "delete it, and `rushkit data fetch` downloads it again")
        return root / self.path

    def read(self, root: Path) -> NDArray[np.uint8]:
        """Read all records, (N, record). Raises DataError as ``verify`` does, or where the file cannot be read."""
        path = self.verify(root)
        try:
            content = bytearray(regular_stat(path).st_size)
            with open_file(path) as file:
                file.readinto(content)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {reason(error)}", "check its permissions and the disk") from error
        return np.frombuffer(content, dtype=np.uint8).reshape(-1, self.record)


def verify_labels(labels: ArrayLike, first: int, last: int, path: Path) -> None:
    """Check that every label of a file, an array or a tensor on the CPU, lies in [first, last].

    Raises:
        DataError: one does not; the first bad record is named.
    """
    labels = np.asarray(labels)
    bad = np.flatnonzero((labels < first) | (labels > last))
    if len(bad):
        index = int(bad[0])
        raise DataError(
            f"{path}: record {index} has label {int(labels[index])}, outside {first}..{last}",
            f"{len(bad)} of {len(labels)} labels are wrong: the file is altered or not of this data set",
        )


def read_names(path: Path, builtin: tuple[str, ...]) -> tuple[str, ...]:
    """Read class names, one a line; return the built-in ones where the file is missing.

    Raises:
        DataError: the file has another number of names, or is no text.
    """
    try:
        names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    except FileNotFoundError:
        return builtin
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}", "delete or restore the file") from error
    if len(names) != len(builtin):
        raise DataError(f"{path} has {len(names)} class names, expected {len(builtin)}", "delete or restore the file")
    return names


def locate(root: str, path: str, folders: tuple[str, ...]) -> tuple[Path, Path | None]:
    """Return the folder that the files of an official data set lie below, and the archive if the path is a file.

    Args:
        root: The folder of data sets.
        path: What the user points at, below the root or absolute: the folder around one of ``folders``, one of these
            itself, or an archive.
        folders: The folders that the official archives have.
    """
    place = expand(root) / expand(path)
    if is_file(place):
        return place.parent, place
    whole = Path(os.path.abspath(place))  # noqa: PTH100 - a link stays a link
    if whole.name in folders and is_folder(whole) and not is_folder(whole / whole.name):
        return whole.parent, None
    return place, None


def known_split(dataset: str, name: str, splits: tuple[str, ...]) -> None:
    """Check a split's name. Raises UsageError that lists the splits."""
    if name not in splits:
        raise UsageError(f"{dataset} has no split {name!r}", f"its splits: {', '.join(splits)}")
