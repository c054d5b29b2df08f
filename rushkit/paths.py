"""Paths from outside: decide in one place which files are usable, and open them.

A usable file is a regular file or a link to one. Named pipes, sockets and devices are not usable: opening them may
block, and reading them may never end. Every problem with a path raises an ``OSError`` whose ``strerror`` explains it.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

StrPath = str | os.PathLike[str]

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_file(path: StrPath) -> BufferedReader:
    """Open a regular file, or a link to one, to read its bytes.

    Raises:
        OSError: there is none, it is something else, it cannot be opened, or no file can have this name.
    """
    # Looked at before it is opened, since to open a device may already do something; and again when it is open, without
    # waiting, since another process may have put something else in its place.
    regular_stat(path)
    handle = os.open(path, _READ)
    try:
        _check_regular(os.fstat(handle), path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: StrPath, most: int | None = None) -> bytes:
    """Return all bytes of a regular file.

    Args:
        path: The file.
        most: How many bytes it may have at most, where others may have written it; None: any number.

    Raises:
        OSError: as for ``open_file``, or the file is larger.
    """
    with open_file(path) as file:
        if most is None:
            return file.read()
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", os.fspath(path))
    return data


def read_text(path: StrPath, most: int | None = None) -> str:
    """Return the text of a regular UTF-8 file, with line ends as ``"\\n"`` and without a byte order mark.

    Raises:
        OSError: as for ``read_file``, or the file is not UTF-8.
    """
    try:
        return read_file(path, most).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, f"it is no text in UTF-8 (byte {error.start})", os.fspath(path)) from error


def direct(path: str, flags: int) -> int:
    """Open a path for ``open``, but refuse links: ``open(path, "a", opener=direct)``.

    Somebody else may own a run folder or a cache, and a link in it may point to any of the user's files.

    Raises:
        OSError: the path is a link, or a named pipe without a reader.
    """
    try:
        return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link to another file", path) from error
        raise


def regular_stat(path: StrPath) -> os.stat_result:
    """Return the status of a regular file, or of the file behind a link. Raises OSError as ``open_file`` does."""
    try:
        about = Path(path).stat()
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise OSError(errno.EINVAL, "no file can have this name", os.fspath(path)) from error
    _check_regular(about, path)
    return about


def is_file(path: StrPath) -> bool:
    """Return whether a path is a regular file, or a link to one. Never raises, even for an invalid path."""
    return os.path.isfile(path)  # noqa: PTH113 - pathlib's own raises


def is_folder(path: StrPath) -> bool:
    """Return whether a path is a folder, or a link to one. Never raises."""
    return os.path.isdir(path)  # noqa: PTH112


def exists(path: StrPath) -> bool:
    """Return whether a path exists, and for a link its target. Never raises."""
    return os.path.exists(path)  # noqa: PTH110


def expand(path: StrPath) -> Path:
    """Return the path with ``~`` replaced by the home folder; for an unknown user it stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's own raises


def expand_text(path: str) -> str:
    """Return the path as ``expand`` does, with everything else as it was written."""
    return os.path.expanduser(path)  # noqa: PTH111


def cache_root() -> Path:
    """Return ``$RUSHKIT_CACHE``, else ``$XDG_CACHE_HOME/rushkit``, else ``~/.cache/rushkit``."""
    if chosen := os.environ.get("RUSHKIT_CACHE"):
        return expand(chosen)
    return expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "rushkit"


def is_unicode(name: str) -> bool:
    """Return whether a file name is valid Unicode; names with other bytes cannot be stored as text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def why_no_file(path: StrPath) -> str:
    """Return why a path is not usable as a file; empty if it is usable, or nothing is there."""
    try:
        regular_stat(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return reason(error)
    return ""


def reason(error: Exception) -> str:
    """Return the reason for an error with a path, without the path's name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _check_regular(about: os.stat_result, path: StrPath) -> None:
    kind = stat.S_IFMT(about.st_mode)
    if kind != stat.S_IFREG:
        code = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
        raise OSError(code, f"it is {_KINDS.get(kind, 'something else')}, not a file", os.fspath(path))
