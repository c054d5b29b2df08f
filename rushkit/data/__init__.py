"""Data sets: their interface, and the state of their files on disk.

``rushkit.data.create("cifar10", root="data")`` makes one and reads nothing; its ``split("train")`` reads, and downloads
what is missing. Importing this package imports no component.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from rushkit.errors import DataError
from rushkit.image_size import ImageSize
from rushkit.paths import expand_text
from rushkit.registries import datasets as _registry

if TYPE_CHECKING:
    from rushkit.data.files import Check
    from rushkit.data.memory import Split

create, get, register = _registry.create, _registry.get, _registry.register
names, entries = _registry.names, _registry.entries


class Dataset(Protocol):
    """The interface of a data set; a plugin needs no base class.

    A factory ``f(root, **options)`` returns one and reads nothing. A data set that lies in files may also offer
    ``check() -> list[Check]`` and ``fetch(progress=None)``; ``rushkit data`` uses them where they are. One that resizes
    its images itself says by ``stored_size`` what their side is before that, 0 if they differ.
    """

    @property
    def name(self) -> str:
        """The name of the data set in results: the registered one, or that of the folder of images that it reads."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels, in the order of the labels."""
        ...

    @property
    def image_size(self) -> ImageSize:
        """Height and width of the images of every split."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """The names that ``split`` accepts."""
        ...

    def split(self, name: str) -> Split:
        """Read a split: uint8 images (N, C, H, W), int64 labels (N,) or None.

        Raises:
            UsageError: no such split.
            DataError: a file is missing and cannot be downloaded, or is short, long or altered.
        """
        ...


@runtime_checkable
class HasChannels(Protocol):
    """A data set that says how many channels its images have; those of any other have three."""

    @property
    def channels(self) -> int:
        """C, the number of channels of the images of every split."""
        ...


def channels_of(dataset: Dataset) -> int:
    """Return the number of channels of a data set's images: what it says, else 3."""
    return dataset.channels if isinstance(dataset, HasChannels) else 3


@runtime_checkable
class HasSizes(Protocol):
    """A data set whose images may have sizes of their own, and whose option ``image_size`` brings them to one."""

    def sizes(self, name: str) -> Mapping[tuple[int, int], int]:
        """Return how many images of a split have each (width, height).

        Raises:
            DataError: the files cannot be read.
        """
        ...


@runtime_checkable
class Downloadable(Protocol):
    """A data set whose files can be downloaded."""

    def fetch(self) -> None:
        """Download what is missing, and check it.

        Raises:
            DataError: the files cannot be had.
        """
        ...


@dataclass(frozen=True)
class Description:
    """A data set and the state of its files, for ``rushkit data list`` and ``check``.

    Attributes:
        name: The registered name.
        classes: Names of the labels; empty if the files that would tell are missing.
        image_size: Height and width; 0 if the files that would tell are missing.
        splits: Names of the splits; empty if the files that would tell are missing.
        checks: One entry a file; empty for a data set that does not check.
        url: Where ``fetch`` downloads from; empty if it cannot.
        problem: Why the data set cannot tell more about itself; empty if it can.
    """

    name: str
    classes: tuple[str, ...]
    image_size: ImageSize
    splits: tuple[str, ...]
    checks: tuple[Check, ...]
    url: str
    problem: str

    @property
    def ready(self) -> bool:
        """Whether every split can be read without a download."""
        return not self.problem and all(check.usable for check in self.checks)


def default_root() -> str:
    """Return the default folder of data sets: ``$RUSHKIT_DATA``, else ``data`` in the working folder."""
    return expand_text(os.environ.get("RUSHKIT_DATA") or "data")


def describe(name: str, root: str | None = None, **options: Any) -> Description:
    """Describe a registered data set and the state of its files. Downloads nothing.

    Raises:
        UsageError: unknown name or option.
    """
    dataset = create(name, root=root or default_root(), **options)
    check = getattr(dataset, "check", None)
    checks = tuple(check()) if check else ()
    try:
        known, problem = (dataset.classes, dataset.image_size, dataset.splits), ""
    except DataError as error:
        known, problem = ((), 0, ()), error.message
    classes, image_size, splits = known
    return Description(name, classes, image_size, splits, checks, getattr(dataset, "url", ""), problem)
