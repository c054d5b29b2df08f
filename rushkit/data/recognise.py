"""Recognise a data set by what lies at a path: names, folders, the first bytes of files. Reads no image, runs nothing.

``recognise("pets/")`` says which registered data set reads it, and with which options.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rushkit.data.download import first_folder
from rushkit.data.scan import SUFFIXES, is_hidden
from rushkit.errors import DataError, UsageError, did_you_mean, first_few, shell_line, shorten
from rushkit.paths import expand, is_file, is_folder, open_file, reason
from rushkit.registries import datasets

# What tells the official data sets apart: the folders of each layout, and files that such a folder has.
_OFFICIAL: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "cifar10": (
        ("cifar-10-batches-bin", ("data_batch_1.bin", "test_batch.bin")),
        ("cifar-10-batches-py", ("data_batch_1", "test_batch")),
    ),
    "cifar100": (
        ("cifar-100-binary", ("train.bin", "test.bin")),
        ("cifar-100-python", ("train", "test")),
    ),
    "stl10": (("stl10_binary", ("train_X.bin", "test_X.bin", "unlabeled_X.bin")),),
}
_ARCHIVES = {
    "cifar-10-binary.tar.gz": "cifar10",
    "cifar-10-python.tar.gz": "cifar10",
    "cifar-100-binary.tar.gz": "cifar100",
    "cifar-100-python.tar.gz": "cifar100",
    "stl10_binary.tar.gz": "stl10",
}
# A path is looked through for images or Parquet files until so many names have been seen.
_MOST_NAMES = 100_000
_DEEPEST = 4
_HEAD_BYTES = 16
_IMAGE_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors", ".onnx", ".bin")


@dataclass(frozen=True)
class Recognised:
    """What lies at a path, as a data set.

    Attributes:
        name: The registered name of the data set that reads it.
        options: The options that it needs, as in a recipe's ``[data]``.
        kind: What it is, for messages: "a folder of images".
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    kind: str = "a data set by name"

    def changes(self) -> list[str]:
        """Return the changes of a recipe that read it, each as ``--set`` takes it."""
        return [f"data.name={self.name}", *(f"data.{key}={value}" for key, value in self.options.items())]

    def line(self) -> str:
        """Return the words of a command that read it, quoted for a shell."""
        return " ".join(shell_line("--set", change) for change in self.changes())


def recognise(what: str, root: str = "") -> Recognised:
    """Tell which data set a name or a path is.

    A registered name is that data set; ``./NAME`` is a path. A path is looked for in the working folder, then below the
    folder of data sets.

    >>> recognise("cifar10").name
    'cifar10'

    Args:
        what: A registered name, a folder, or a file.
        root: The folder of data sets; empty: none.

    Raises:
        UsageError: neither a name nor a path.
        DataError: the path has nothing that is read as a data set; the message says what it is.
    """
    if what in datasets:
        return Recognised(datasets.written(what))
    places = [expand(what), *([expand(root) / expand(what)] if root else [])]
    path = next((place for place in places if is_folder(place) or is_file(place)), None)
    if path is None:
        near = did_you_mean(what, datasets.names())
        raise UsageError(
            f"{shorten(what)!r} is neither a data set nor a folder or file that is there",
            near or "`rushkit data list` shows the data sets by name; a path is that of a folder or a file",
        )
    path = Path(os.path.abspath(path))  # noqa: PTH100 - a link stays a link
    return _folder(path) if is_folder(path) else _file(path)


def official_in(path: Path) -> dict[str, str]:
    """Return which official data sets lie in a folder, and what of theirs is there: a folder, itself, or an archive."""
    found: dict[str, str] = {}
    for name, layouts in _OFFICIAL.items():
        for folder, files in layouts:
            if _has(path / folder, files):
                found.setdefault(name, folder)
            if path.name == folder and _has(path, files):
                found.setdefault(name, folder)
    for archive, name in _ARCHIVES.items():
        if is_file(path / archive):
            found.setdefault(name, archive)
    return found


def _has(folder: Path, files: tuple[str, ...]) -> bool:
    return any(is_file(folder / file) for file in files)


def _folder(path: Path) -> Recognised:
    official = official_in(path)
    if len(official) > 1:
        ways = [f"--data {name}" for name in official]
        raise UsageError(
            f"{path} has several data sets: {', '.join(official)}",
            f"choose one by its name, with RUSHKIT_DATA or --data-dir for the folder: {' or '.join(ways)}",
        )
    for name, what in official.items():
        return Recognised(name, {"path": str(path)}, f"{name} as {what}")
    if renamed := _renamed(path):
        raise DataError(f"{path} has the files of {renamed}", f"give the folder its own name: {renamed}")
    suffixes = _suffixes(path)
    if ".parquet" in suffixes:
        return Recognised("parquet", {"path": str(path)}, "a folder of Parquet files")
    if suffixes & SUFFIXES:
        return Recognised("folder", {"path": str(path)}, "a folder of images")
    raise DataError(
        f"{path} has no images: its files end in {first_few(sorted(suffixes), 5) or 'nothing'}", _readable()
    )


def _renamed(path: Path) -> str:
    """Return the folder whose files lie in one of another name; empty if there is none."""
    for layouts in _OFFICIAL.values():
        for folder, files in layouts:
            # `train` and `test` without suffix are not telling by themselves.
            telling = (*files, "meta") if folder == "cifar-100-python" else files
            if all(is_file(path / file) for file in telling):
                return folder
    return ""


def _suffixes(path: Path) -> set[str]:
    """Return the suffixes of the files in a folder and those below it, as far as it is looked through."""
    return {os.path.splitext(name)[1].lower() for name in islice(_names(path), _MOST_NAMES)}  # noqa: PTH122


def _names(path: Path) -> Iterator[str]:
    """Yield the names of files, those of folders nearer the top first; links to folders are not followed twice."""
    level, seen = [path], {os.path.realpath(path)}
    for _ in range(_DEEPEST):
        below: list[Path] = []
        for folder in level:
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                raise DataError(f"{folder} cannot be listed: {reason(error)}", "check its permissions") from error
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if not is_folder(entry.path):
                    yield entry.name
                elif (target := os.path.realpath(entry.path)) not in seen:
                    seen.add(target)
                    below.append(Path(entry.path))
        level = below


def _file(path: Path) -> Recognised:
    try:
        with open_file(path) as file:
            head = file.read(_HEAD_BYTES)
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}", "check the path and its permissions") from error
    options, suffix = {"path": str(path)}, path.suffix.lower()
    if head.startswith(b"PAR1"):
        return Recognised("parquet", options, "a Parquet file")
    if suffix == ".npz" and head.startswith(b"PK"):
        return Recognised("npz", options, "an .npz file of arrays")
    if head.startswith(b"\x1f\x8b"):
        owners = {folder: name for name, layouts in _OFFICIAL.items() for folder, _ in layouts}
        if name := _ARCHIVES.get(path.name) or owners.get(first_folder(path)):
            return Recognised(name, options, f"the archive of {name}")
        raise DataError(f"{path} is an archive of no data set that is known", f"unpack it first; {_readable()}")
    raise _no_data_set(path, head, size)


def _no_data_set(path: Path, head: bytes, size: int) -> DataError:
    """Return the error about a file that is no data set: what it is, and what it may be good for."""
    suffix = path.suffix.lower()
    if not size:
        return DataError(f"{path} is empty", _readable())
    is_webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    if suffix in SUFFIXES or is_webp or head.startswith(_IMAGE_HEADS):
        return DataError(
            f"{path} is a single image, not a data set", f"{shell_line('rushkit', 'predict', path)} classifies it"
        )
    if path.parent.name in {folder for layouts in _OFFICIAL.values() for folder, _ in layouts}:
        return DataError(f"{path} is one file of a data set", f"name its folder: {path.parent}")
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return DataError(
            f"{path} is a pickle, which could run a program: it is not opened",
            "of pickles the folders cifar-10-batches-py and cifar-100-python alone are read; "
            "numpy.savez(FILE, images=..., labels=...) writes what is read as it is",
        )
    if suffix in _WEIGHTS:
        return DataError(f"{path} looks like weights, not like images", "`rushkit import FILE` reads weights")
    if suffix == ".npy":
        return DataError(
            f"{path} is one array without labels", "numpy.savez(FILE, images=..., labels=...) writes what is read"
        )
    if head.startswith(b"PK"):
        return DataError(f"{path} is a zip file", f"unpack it first; {_readable()}")
    return DataError(f"{path} is of no kind that is read as images", _readable())


def _readable() -> str:
    return (
        "read are folders of images, CIFAR-10, CIFAR-100 and STL-10 as they are downloaded, .npz files with images and "
        "labels, and Parquet files with encoded images"
    )
