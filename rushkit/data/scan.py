"""Find the images in a folder: regular files and links to them, each folder once, and what is left out."""

from __future__ import annotations

import os
import stat
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rushkit.errors import DataError, first_few
from rushkit.paths import reason

# fmt: off
SUFFIXES = frozenset({
    ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".pjpeg", ".png", ".pnm", ".ppm", ".tif",
    ".tiff", ".webp",
})
# Images by their names, of formats that are not read: their absence from a class should not go unnoticed.
OTHER_SUFFIXES = frozenset({
    ".arw", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".ico", ".j2k", ".jp2", ".jxl", ".nef", ".orf", ".pcx",
    ".psd", ".raw", ".rw2", ".svg", ".tga",
})
# fmt: on
# What archivers and file servers leave beside images.
JUNK_FOLDERS = frozenset({"__MACOSX", "@eaDir", "lost+found"})
_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class ImageFile(NamedTuple):
    """One image on the disk: its path below the scanned folder, bytes, and time of change in ns."""

    path: str
    size: int
    mtime_ns: int

    @property
    def class_name(self) -> str:
        """The class folder, in composed letters; empty for an image that lies in none."""
        first, separator, _ = self.path.partition("/")
        return composed(first) if separator else ""


class LeftOut(NamedTuple):
    """Something that looks as if it had images, and why none are taken from it."""

    path: str
    why: str


@dataclass(frozen=True)
class Scan:
    """The contents of a folder.

    Attributes:
        images: Sorted by class and path.
        left_out: Sorted by path.
        class_folders: The folders right below it that were entered, whether or not they have images.
    """

    images: tuple[ImageFile, ...]
    left_out: tuple[LeftOut, ...]
    class_folders: tuple[str, ...]

    @property
    def empty_classes(self) -> tuple[str, ...]:
        """The class folders without an image."""
        return tuple(sorted(set(self.class_folders) - {image.class_name for image in self.images}))


def composed(name: str) -> str:
    """Return a name in composed letters (NFC): file systems and archives keep "é" as one character or as two."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_hidden(name: str) -> bool:
    """Return whether a name is ignored silently."""
    return name.startswith(".") or name in JUNK_FOLDERS


def describe_left_out(left_out: tuple[LeftOut, ...]) -> str:
    """List the first few with their reasons, for messages."""
    return first_few([f"{path} ({why})" for path, why in left_out], 5)


def scan(top: Path) -> Scan:
    """Find the image files below a folder; folders may nest and be links, and each is entered once.

    A link to a folder above it, a link in a circle, and a folder that is there under another name already are left out,
    and so are named pipes, sockets and devices. Folders come before links to them, so that of two names it is the
    folder's own that counts.

    Raises:
        DataError: a folder that cannot be listed.
    """
    walk = _Walk(top)
    walk.enter("")
    # The list grows while links are followed that lead to folders with links.
    for link in walk.links:
        walk.follow(link)
    classes = tuple(sorted({composed(path) for path in walk.entered.values() if path and "/" not in path}))
    # The same order on every machine, however its file system writes the names.
    images = sorted(walk.images, key=lambda image: (image.class_name, composed(image.path), image.path))
    return Scan(tuple(images), tuple(sorted(walk.left_out)), classes)


@dataclass
class _Walk:
    """A walk through a folder: the files found so far, and the links to folders that it has yet to follow."""

    top: Path
    images: list[ImageFile] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    # Device and inode of each folder -> the path under which it was entered.
    entered: dict[tuple[int, int], str] = field(default_factory=dict)

    def enter(self, path: str) -> None:
        """Look at everything in a folder and in the folders below it, and note links to folders."""
        waiting = [path]
        while waiting:
            folder = waiting.pop()
            try:
                about = (self.top / folder).stat()
                with os.scandir(self.top / folder) as entries:
                    names = sorted((entry.name, entry.is_symlink()) for entry in entries if not is_hidden(entry.name))
            except OSError as error:
                raise DataError(
                    f"{self.top / folder} cannot be listed: {reason(error)}", "check the path and its permissions"
                ) from error
            if not self._is_new(folder, about):
                continue
            for name, is_link in names:
                inner = f"{folder}/{name}" if folder else name
                if self._is_folder(inner):
                    (self.links if is_link else waiting).append(inner)

    def follow(self, link: str) -> None:
        """Enter the folder that a link leads to, unless it lies above the link or has been entered."""
        target = Path(os.path.realpath(self.top / link))
        around = (Path(os.path.realpath((self.top / link).parent)), Path(os.path.realpath(self.top)))
        if any(folder.is_relative_to(target) for folder in around):
            self.left_out.append(LeftOut(link, "a link to a folder above it"))
        else:
            self.enter(link)

    def _is_new(self, path: str, about: os.stat_result) -> bool:
        first = self.entered.setdefault((about.st_dev, about.st_ino), path)
        if first != path:
            self.left_out.append(LeftOut(path, f"the same folder as {first or self.top}"))
        return first == path

    def _is_folder(self, path: str) -> bool:
        """Return whether a path is a folder; if it is not, record it as an image or as left out."""
        suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - a million names: pathlib takes most of the time
        try:
            about = os.stat(f"{self.top}/{path}")  # noqa: PTH116
        except OSError as error:
            # An image's name without a file behind it is an unreadable image, and is named when it is decoded.
            if suffix in SUFFIXES:
                self.images.append(ImageFile(path, 0, 0))
            else:
                self.left_out.append(LeftOut(path, f"a link that leads nowhere: {reason(error)}"))
            return False
        if stat.S_ISDIR(about.st_mode):
            return True
        if not stat.S_ISREG(about.st_mode):
            self.left_out.append(LeftOut(path, _KINDS.get(stat.S_IFMT(about.st_mode), "no file")))
        elif suffix in SUFFIXES:
            self.images.append(ImageFile(path, about.st_size, about.st_mtime_ns))
        elif suffix in OTHER_SUFFIXES:
            self.left_out.append(LeftOut(path, f"{suffix} is a format that is not read"))
        return False
