"""Paths that come from outside: what a usable file is, decided in one place, and how it is opened.

A usable file is a regular file or a link to one. Named pipes, sockets and devices are none: to open them may wait for
ever, to read them may never end. What is wrong with a path is always an ``OSError`` whose ``strerror`` says it.
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


def read_file(path: StrPath) -> bytes:
    """All bytes of a regular file. Raises OSError as ``open_file`` does."""
    with open_file(path) as file:
        return file.read()


def read_text(path: StrPath) -> str:
    """A regular file as UTF-8 text, line ends as ``"\\n"``.

    Raises:
        OSError: as ``open_file``, or it is no UTF-8.
    """
    try:
        return read_file(path).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, f"it is no text in UTF-8 (byte {error.start})", os.fspath(path)) from error


def direct(path: str, flags: int) -> int:
    """An opener for ``open`` that writes where a file stands and through no link: ``open(path, "a", opener=direct)``.

    A run folder or a cache may be somebody else's, and a link in it may lead to any file of ours.

    Raises:
        OSError: the path is a link, or a named pipe that nobody reads.
    """
    try:
        return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link to another file", path) from error
        raise


def regular_stat(path: StrPath) -> os.stat_result:
    """What the system tells of a regular file, or of the one that a link leads to. Raises OSError as ``open_file``."""
    try:
        about = Path(path).stat()
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise OSError(errno.EINVAL, "no file can have this name", os.fspath(path)) from error
    _check_regular(about, path)
    return about


def is_file(path: StrPath) -> bool:
    """Whether there is a regular file, or a link to one. Never raises: what a user typed may be no path at all."""
    return os.path.isfile(path)  # noqa: PTH113 - pathlib's own raises


def is_folder(path: StrPath) -> bool:
    """Whether there is a folder, or a link to one. Never raises."""
    return os.path.isdir(path)  # noqa: PTH112


def exists(path: StrPath) -> bool:
    """Whether there is anything at a path, and at the end of a link. Never raises."""
    return os.path.exists(path)  # noqa: PTH110


def expand(path: StrPath) -> Path:
    """The path with the home folder for its ``~``; one of a user who is not known stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's own raises


def is_unicode(name: str) -> bool:
    """Whether a name is text; a file's name may be any bytes, and those that are no UTF-8 cannot be written down."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def why_no_file(path: StrPath) -> str:
    """Why what is at a path is not usable as a file; empty where nothing is there, or where it is one."""
    try:
        regular_stat(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return reason(error)
    return ""


def reason(error: Exception) -> str:
    """What went wrong with a path, in words and without its name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _check_regular(about: os.stat_result, path: StrPath) -> None:
    kind = stat.S_IFMT(about.st_mode)
    if kind != stat.S_IFREG:
        code = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
        raise OSError(code, f"it is {_KINDS.get(kind, 'something else')}, not a file", os.fspath(path))
