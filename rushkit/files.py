"""Write files atomically: whole or not at all, even if the process dies or the disk is full."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rushkit.errors import NumericsError, RushkitError
from rushkit.interrupt import uninterrupted
from rushkit.rounding import size_words

JSON = None | bool | int | float | str | list[Any] | dict[str, Any]

_LEFTOVER = ".partial"
_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def write_atomic(path: Path, chunks: Iterable[bytes | memoryview], needed: int = 0) -> None:
    """Write a file so that at any moment either the old one or the whole new one stands at ``path``.

    Args:
        path: Where the file goes; its folder exists.
        chunks: The bytes, in order.
        needed: How many bytes that is, for the message when there is no room.

    Raises:
        RushkitError: no room, no permission, or the device fails; the temporary file is gone and the old file stands.
    """
    try:
        replace_file(path, chunks)
    except OSError as error:
        raise write_error(path, error, needed) from error


def replace_file(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Do what ``write_atomic`` does, for callers with a message of their own.

    The bytes go to a temporary name in the same folder, to the disk, and then take the name in one step.

    Raises:
        OSError: the file cannot be written; the temporary file is gone and the old file stands.
    """
    # A name that nobody foresees, and made anew: a link that waits there is not followed.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_LEFTOVER}")
    try:
        with uninterrupted(), temporary.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically. Raises NumericsError for NaN or infinity, naming the key."""
    text = json.dumps(plain_json(value, path.name), indent=2) + "\n"
    write_atomic(path, [text.encode()], len(text))


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the temporary files of a killed process, in subfolders too; only for the folder's one writer."""
    found = [path for path in folder.rglob("*") if is_leftover(path)]
    for path in found:
        with contextlib.suppress(OSError):
            path.unlink()
    return found


def is_leftover(path: Path) -> bool:
    """Return whether a file is the temporary one of ``write_atomic``."""
    return path.name.startswith(".") and path.name.endswith(_LEFTOVER) and path.is_file()


def make_writable(folder: Path) -> None:
    """Make a folder where it is missing, and find out before long work whether files can be written there.

    Raises:
        RushkitError: it cannot be made, or no file can be written in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise write_error(folder, error) from error


def write_error(path: Path, error: OSError, needed: int = 0) -> RushkitError:
    """Return the error for a path that cannot be written."""
    if error.errno not in _NO_ROOM:
        reason = error.strerror or str(error)
        fix = "make its folder" if error.errno == errno.ENOENT else "check the folder's permissions"
        return RushkitError(f"cannot write {path}: {reason}", f"{fix}, or choose another one")
    try:
        free = f", {size_words(shutil.disk_usage(path.parent).free)} are free on its disk"
    except OSError:
        free = ""
    size = f": it takes {size_words(needed)}" if needed else ""
    return RushkitError(
        f"no room to write {path}{size}{free} ({error.strerror or error})",
        "what was there before is untouched; free some space and go on with --resume",
    )


def plain_json(value: Any, where: str) -> JSON:
    """Convert a value to plain JSON types: numpy and torch scalars to numbers, tuples to lists, paths to strings.

    Args:
        value: The value to convert.
        where: Its name in messages; keys are appended to it.

    Raises:
        NumericsError: the value contains NaN or infinity, which JSON does not support.
        TypeError: the value contains an object without a JSON form.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NumericsError(f"{where} is {value}", "only finite numbers can be stored; find where it comes from")
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): plain_json(item, f"{where}: {key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value) if isinstance(os.fspath(value), str) else os.fsdecode(value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return plain_json(value.item(), where)
    if hasattr(value, "tolist"):
        return plain_json(value.tolist(), where)
    raise TypeError(f"{where}: a {type(value).__name__} cannot be stored as JSON")


def sync_folder(folder: Path) -> None:
    """Flush a rename to the disk, if the system can: Windows and some network file systems cannot open folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
