"""Where the splits of a folder of images lie: in ``train/`` and ``test/``, or in one folder that is divided."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from rushkit.data.progress import say_once
from rushkit.data.scan import SUFFIXES, ImageFile, LeftOut, Scan, composed, describe_left_out, is_hidden, scan
from rushkit.errors import DataError, first_few, shell_line
from rushkit.paths import is_folder, reason
from rushkit.rounding import percent

# What folders of validation images are called too, in the order of preference.
_VALIDATION = ("val", "valid")
_TEST_FOLDERS = frozenset({"test", "validation", *_VALIDATION})
_TRAIN_FOLDERS = frozenset({"train", "training"})


@dataclass(frozen=True)
class Part:
    """The images of one split.

    Attributes:
        folder: The folder that they lie in.
        side: Which of its images they are, where the folder is divided into two splits; "" for all.
    """

    folder: Path
    side: Literal["", "train", "test"] = ""


@dataclass(frozen=True)
class Listing:
    """The images of one split, sorted by class and path; ``labelled`` where they lie in class folders.

    Attributes:
        folder: The folder that they lie in.
        images: What is read.
        left_out: What looks as if it had images too, and is not read.
    """

    folder: Path
    images: tuple[ImageFile, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def labelled(self) -> bool:
        """Whether the images lie in class folders."""
        return bool(self.images[0].class_name)


class Layout:
    """The splits of a folder of images; nothing is read before it is needed.

    - With ``train/`` or ``test/`` in it, each folder is a split. ``val/`` or ``valid/`` is ``validation``, or ``test``
      where there is neither ``test/`` nor ``validation/``.
    - With class folders in it, it is itself a split if it is called like one (``val``, ``train``). Otherwise its images
      are divided into ``train`` and ``test``; see ``divided``.
    - With nothing but images in it, it is the split ``train``.

    Args:
        path: The folder.
        holdout: The share of each class that becomes ``test`` where the images are divided; 0 and 1 make one split.
    """

    def __init__(self, path: Path, holdout: float) -> None:
        self.path = path
        self._holdout = holdout
        self._scans: dict[Path, Scan] = {}
        self._listings: dict[str, Listing] = {}

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The splits by name, ``train`` and ``test`` first.

        Raises:
            DataError: the folder cannot be listed or has none, or another split is a link to the training images.
        """
        try:
            names = sorted(inner.name for inner in self.path.iterdir() if self._is_split(inner))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.path} cannot be listed: {reason(error)}",
                "RUSHKIT_DATA names the folder of data sets, --set data.path=... the one of images in it",
            ) from error
        if "train" in names or "test" in names or (names and _TEST_FOLDERS.issuperset(names)):
            return _named_parts(self.path, names)
        return self._parts_of_one_folder(names)

    def listing(self, name: str) -> Listing:
        """Return the images of a split.

        Raises:
            DataError: there are none; some lie beside class folders; a class folder has none; a folder cannot be
                listed.
        """
        if name not in self._listings:
            part = self.parts[name]
            contents = self._scan(part.folder)
            _check(part.folder, contents)
            images = divided(contents.images, self._holdout)[part.side] if part.side else contents.images
            if not images:
                raise DataError(
                    f"{part.folder} has too few images for a split {part.side}",
                    "put the images into train/ and test/, or make all of them one split: --set data.holdout=0",
                )
            self._listings[name] = Listing(part.folder, images, contents.left_out)
        return self._listings[name]

    def _parts_of_one_folder(self, names: list[str]) -> dict[str, Part]:
        path, holdout = self.path, self._holdout
        if inner := next((name for name in names if _has_splits(path / name)), None):
            raise DataError(
                f"{path} has neither train/ nor test/, but data sets such as {inner}/",
                f"name one of them: {shell_line('--set', f'data.path={inner}')}",
            )
        contents = self._scan(path)
        if not contents.images:
            without = f"; left out: {describe_left_out(contents.left_out)}" if contents.left_out else ""
            raise DataError(
                f"{path} has neither train/ nor test/, nor class folders with images{without}",
                "put the images of each class into a folder of its own; --set data.path=... names another folder",
            )
        own = path.resolve().name.casefold()
        if not contents.images[0].class_name or own in _TRAIN_FOLDERS or holdout == 0:
            return {"train": Part(path)}
        if own in _TEST_FOLDERS or holdout == 1:
            return {"test": Part(path)}
        say_once(
            f"{path} has neither train/ nor test/: {percent(holdout)} % of each class, chosen by a hash of the names, "
            "are the split test, the others train; data.holdout sets the share"
        )
        return {"train": Part(path, "train"), "test": Part(path, "test")}

    def _scan(self, top: Path) -> Scan:
        if top not in self._scans:
            self._scans[top] = scan(top)
        return self._scans[top]

    def _is_split(self, inner: Path) -> bool:
        """Return whether a path is a folder, and not a link to this one or one above it."""
        here = Path(os.path.realpath(self.path))
        return not is_hidden(inner.name) and is_folder(inner) and not here.is_relative_to(os.path.realpath(inner))


def divided(images: Sequence[ImageFile], holdout: float) -> dict[str, tuple[ImageFile, ...]]:
    """Divide images into ``train`` and ``test``: of each class the share ``holdout``, to the nearest image.

    The images of a class are ranked by a hash of their names, so the division is the same on every machine, whatever
    the seed, and a new image moves few others. A class of two images or more has one in each split.
    """
    by_class: dict[str, list[ImageFile]] = {}
    for image in images:
        by_class.setdefault(image.class_name, []).append(image)
    held: set[ImageFile] = set()
    for members in by_class.values():
        count = int(holdout * len(members) + 0.5)
        count = min(max(count, 1), len(members) - 1)
        held.update(sorted(members, key=_rank)[:count])
    return {
        "train": tuple(image for image in images if image not in held),
        "test": tuple(image for image in images if image in held),
    }


def _rank(image: ImageFile) -> bytes:
    return blake2b(composed(image.path).encode("utf-8", "surrogateescape"), person=b"rushkit holdout").digest()


def _named_parts(path: Path, names: list[str]) -> dict[str, Part]:
    if "train" in names:
        train = os.path.realpath(path / "train")
        if twin := next((name for name in names if name != "train" and train == os.path.realpath(path / name)), None):
            raise DataError(
                f"{path / twin} is the same folder as {path / 'train'}",
                f"what is measured on it would be measured on training images: put others into {twin}/, or remove "
                "the link",
            )
    parts = {name: Part(path / name) for name in names}
    validation = next((name for name in _VALIDATION if name in parts), None)
    if validation is not None and "validation" not in parts:
        split = "validation" if "test" in parts else "test"
        parts[split] = parts.pop(validation)
        say_once(f"{path}: {validation}/ is the split {split}" + ", for there is no test/" * (split == "test"))
    first = [name for name in ("train", "test") if name in parts]
    return {name: parts[name] for name in (*first, *sorted(parts.keys() - set(first)))}


def _has_splits(path: Path) -> bool:
    return is_folder(path / "train") or is_folder(path / "test")


def _check(top: Path, contents: Scan) -> None:
    """Raise DataError if a folder has no images, some beside class folders, or an empty class folder."""
    if not contents.images:
        without = f": {describe_left_out(contents.left_out)}" if contents.left_out else ""
        raise DataError(f"{top} has no images{without}", f"their names must end in one of {' '.join(sorted(SUFFIXES))}")
    if contents.images[0].class_name:
        if contents.empty_classes:
            raise _empty(top, contents.empty_classes, contents.left_out)
    elif contents.images[-1].class_name:
        raise DataError(
            f"{top} has images beside its class folders: {contents.images[0].path}",
            "move it into a class folder, or all images out of theirs for a split without labels",
        )


def _empty(top: Path, classes: tuple[str, ...], left_out: tuple[LeftOut, ...]) -> DataError:
    inside = tuple(entry for entry in left_out if composed(entry.path.partition("/")[0]) in classes)
    without = f"; left out: {describe_left_out(inside)}" if inside else ""
    return DataError(
        f"{top} has class folders without an image: {first_few(classes, 5)}{without}",
        f"without them the other classes would get other labels: put images there that end in one of "
        f"{' '.join(sorted(SUFFIXES))}, or remove the folders",
    )
