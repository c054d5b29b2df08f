"""The file of an artifact: a zip archive that has one form for what it holds.

Its members lie one behind the other, stored as they are, with fixed names and dates and nothing between them, so that
every size is known before a byte is read. ``unzip`` opens it. What is laid out in any other way is refused: nothing
can hide in a comment, between members or behind the end, and no name is ever joined to a path.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path

from rushkit.claims.problem import ArtifactError, Layout
from rushkit.errors import shorten
from rushkit.files import write_atomic
from rushkit.paths import open_file, reason

Bytes = bytes | memoryview

MANIFEST, IMAGES, WEIGHTS = "manifest.json", "images.safetensors", "weights.safetensors"
# What an artifact holds, in this order; the last may be missing.
NAMES = (MANIFEST, IMAGES, WEIGHTS)
# Signature, version, flags, method, time, date, checksum, packed size, size, length of the name, of what follows it.
_LOCAL = struct.Struct("<4s5H3I2H")
# The same with the maker's version before, and lengths, disk, attributes and the offset of the member behind.
_CENTRAL = struct.Struct("<4s6H3I5H2I")
# Signature, disks, members on this disk and in all, size and offset of the directory, length of the comment.
_END = struct.Struct("<4s4H2IH")
_LOCAL_SIGN, _CENTRAL_SIGN, _END_SIGN = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
# PKZIP 2.0, and 1 January 1980: a file says what it holds, not when it was packed.
_VERSION, _DATE = 20, 0x21
# Sizes are 32 bits; a larger archive would need the form zip64.
MOST_BYTES = (1 << 32) - 2
_MOST_DIRECTORY = 1 << 12
_WRITE_SIZE = 1 << 24
_LINK = 0o120000
# What stands for a size that is written elsewhere, in the form zip64.
_ELSEWHERE = 0xFFFFFFFF
_AGAIN = "get it again from its author, or pack it again: rushkit verify RUN --artifact FILE"


def write_container(path: Path, members: Mapping[str, Bytes]) -> None:
    """Write an archive atomically.

    Args:
        path: Where it goes; its folder exists.
        members: Name -> contents; the names are some of ``NAMES``, in that order.

    Raises:
        RushkitError: it would have more than 4 GiB, or cannot be written.
    """
    total = sum(map(len, members.values()))
    if total + _MOST_DIRECTORY > MOST_BYTES:
        raise ArtifactError(f"an artifact holds 4 GiB at most, and this one has {total} bytes", "attack fewer images")

    def chunks() -> Iterator[Bytes]:
        offset, directory = 0, b""
        for name, data in members.items():
            checksum = zlib.crc32(data)
            head = _local(name, len(data), checksum)
            directory += _central(name, len(data), checksum, offset)
            yield head
            for start in range(0, len(data), _WRITE_SIZE):
                yield data[start : start + _WRITE_SIZE]
            offset += len(head) + len(data)
        yield directory
        yield _end(len(members), len(directory), offset)

    write_atomic(path, chunks(), total + _MOST_DIRECTORY)


class Container:
    """An archive that is open for reading, and whose layout was checked. Use it in a ``with`` block.

    Attributes:
        sizes: Name of each member -> its bytes.

    Raises:
        ArtifactError: it is no archive of rushkit, or laid out in another way.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file: BufferedReader = open_file(path)
        except OSError as error:
            raise ArtifactError(
                f"{path} cannot be read: {reason(error)}", "name an artifact, or a run of rushkit attack --save"
            ) from error
        try:
            self._places = self._layout()
        except BaseException:
            self._file.close()
            raise
        self.sizes = {name: size for name, (_, size, _) in self._places.items()}

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, name: str) -> bytes:
        """Return the contents of a member. Raises ArtifactError if they do not fit its checksum."""
        start, size, checksum = self._places[name]
        data = self._at(start, size)
        if zlib.crc32(data) != checksum:
            raise self._wrong(f"{name} does not fit its checksum: it was altered", _AGAIN)
        return data

    def _layout(self) -> dict[str, tuple[int, int, int]]:
        """Return where the contents of each member begin, their size and their checksum."""
        length = self._file.seek(0, 2)
        if self._at(0, 4) != _LOCAL_SIGN:
            raise self._wrong(
                "it is no artifact of rushkit", "rushkit attack --save --artifact FILE writes one", "RV18"
            )
        if length < _END.size or length > MOST_BYTES:
            raise self._wrong(f"it has {length} bytes, and an artifact is no archive of that size", _AGAIN)
        sign, disk, first, here, members, size, offset, comment = _END.unpack(self._at(length - _END.size, _END.size))
        if sign != _END_SIGN or offset + size + _END.size != length:
            raise self._wrong("it is cut short, or has extra bytes before, between or behind its members", _AGAIN)
        if (disk, first, here, comment) != (0, 0, members, 0) or not 2 <= members <= len(NAMES):
            raise self._wrong(f"it has {members} members, and an artifact has two or three", _AGAIN)
        if size > _MOST_DIRECTORY:
            raise self._wrong("its directory is too long for three members", _AGAIN)
        return self._members(self._at(offset, size), members, offset)

    def _members(self, directory: bytes, members: int, end: int) -> dict[str, tuple[int, int, int]]:
        entries, rest = [], directory
        for _ in range(members):
            if len(rest) < _CENTRAL.size:
                raise self._wrong("its directory is cut short", _AGAIN)
            fields = _CENTRAL.unpack_from(rest)
            entry, rest = rest[: _CENTRAL.size + sum(fields[10:13])], rest[_CENTRAL.size + sum(fields[10:13]) :]
            name = entry[_CENTRAL.size :][: fields[10]].decode("ascii", "backslashreplace")
            entries.append((name, fields, entry))
        self._check_names([name for name, *_ in entries])
        places: dict[str, tuple[int, int, int]] = {}
        offset = 0
        for name, fields, entry in entries:
            checksum, size = fields[7], fields[9]
            if entry != _central(name, size, checksum, offset) or size == _ELSEWHERE:
                raise self._wrong(f"{name} {_why(fields, offset)}", _AGAIN, _row_of(fields))
            head = _local(name, size, checksum)
            if offset + len(head) + size > end:
                raise self._wrong(f"{name} says that it has {size} bytes, more than the file", _AGAIN)
            if self._at(offset, len(head)) != head:
                raise self._wrong(f"{name} is described in two ways: before it and in the directory", _AGAIN)
            places[name] = (offset + len(head), size, checksum)
            offset += len(head) + size
        if rest or offset != end:
            raise self._wrong("it has extra bytes before, between or behind its members", _AGAIN)
        return places

    def _check_names(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in NAMES:
                only = ", ".join(NAMES)
                raise self._wrong(f"it has a member {shorten(name)!r}, and an artifact has only {only}", _AGAIN, "RV17")
            if names.count(name) > 1:
                raise self._wrong(f"it has two members of the name {name}", _AGAIN)
        if tuple(names) != NAMES[: len(names)]:
            raise self._wrong(f"its members are not in the order {', '.join(NAMES)}", _AGAIN)

    def _at(self, place: int, size: int) -> bytes:
        try:
            self._file.seek(place)
            return self._file.read(size)
        except OSError as error:
            raise self._wrong(f"it cannot be read: {reason(error)}", _AGAIN) from error

    def _wrong(self, what: str, hint: str, code: Layout = "RV16") -> ArtifactError:
        return ArtifactError(f"{self._path}: {what}", hint, code)


def _local(name: str, size: int, checksum: int) -> bytes:
    raw = name.encode("ascii")
    return _LOCAL.pack(_LOCAL_SIGN, _VERSION, 0, 0, 0, _DATE, checksum, size, size, len(raw), 0) + raw


def _central(name: str, size: int, checksum: int, offset: int) -> bytes:
    raw = name.encode("ascii")
    fixed = (_CENTRAL_SIGN, _VERSION, _VERSION, 0, 0, 0, _DATE, checksum, size, size)
    return _CENTRAL.pack(*fixed, len(raw), 0, 0, 0, 0, 0, offset) + raw


def _end(members: int, size: int, offset: int) -> bytes:
    return _END.pack(_END_SIGN, 0, 0, members, members, size, offset, 0)


def _why(fields: Sequence[int], offset: int) -> str:
    """Say in what an entry of the directory differs from the one that rushkit writes."""
    _, _, _, flags, method, _, _, _, packed, size, _, extra, comment, _, _, attributes, place = fields
    if (attributes >> 16) & 0o170000 == _LINK:
        return "is a link"
    if flags & 1:
        return "is encrypted"
    if method or (packed != size and _ELSEWHERE not in (packed, size)):
        return "is compressed, so that its size is not known"
    if _ELSEWHERE in (packed, size, place):
        return "has its size in another place (zip64)"
    if flags & 8:
        return "has its size behind it (a data descriptor)"
    if extra or comment:
        return "has extra fields or a comment"
    if place != offset:
        return "does not lie where the one before it ends"
    return "is not described as rushkit describes it: the file was packed again"


def _row_of(fields: Sequence[int]) -> Layout:
    return "RV17" if (fields[15] >> 16) & 0o170000 == _LINK else "RV16"
