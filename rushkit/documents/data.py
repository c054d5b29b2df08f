"""What ``rushkit data`` prints under ``--json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rushkit.data.files import Check, Status
from rushkit.image_size import ImageSize
from rushkit.results.jsonable import LEFT_OUT, Figures, spread


@dataclass(frozen=True)
class DataSetFacts(Figures):
    """A data set, and whether its files are there.

    Attributes:
        ready: Whether every split can be read without a download.
        problem: Why the data set cannot tell more about itself; empty if it can.
        classes: Number of classes; 0 if the files that would tell are missing. Absent, like the next two, for a data
            set that cannot be used at all.
        image_size: Height and width, pixels; 0 if the files that would tell are missing.
        splits: Names of the splits.
    """

    ready: bool
    problem: str
    classes: int | None = field(default=None, metadata=LEFT_OUT)
    image_size: ImageSize | None = field(default=None, metadata=LEFT_OUT)
    splits: tuple[str, ...] | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True)
class DataSets(Figures):
    """Every data set by name.

    Attributes:
        data_dir: The folder of data sets.
        datasets: Name -> the data set.
    """

    data_dir: str
    datasets: Mapping[str, DataSetFacts]


@dataclass(frozen=True)
class FetchedData(Figures):
    """A data set whose files are there.

    Attributes:
        dataset: Its name.
        data_dir: The folder of data sets.
        ok: Always true: what cannot be fetched is an error.
    """

    dataset: str
    data_dir: str
    ok: bool = True


@dataclass(frozen=True)
class FileState(Figures):
    """The state of a file.

    Attributes:
        file: Its name below the folder of the data set.
        status: ``ok``; ``partial``, usable with fewer images than the official one; ``missing``; ``wrong``.
        detail: What is wrong, or what there is.
    """

    file: str
    status: Status
    detail: str

    @classmethod
    def of(cls, check: Check) -> FileState:
        """Return the state that a data set tells."""
        return cls(check.file, check.status, check.detail)


@dataclass(frozen=True)
class SplitFacts(Figures):
    """The images of a split.

    Attributes:
        images: How many there are, unreadable ones included.
        per_class: How many of each class; empty where there are no labels.
    """

    images: int
    per_class: Mapping[str, int]


@dataclass(frozen=True)
class Place(Figures):
    """What lies at a path.

    Attributes:
        path: The path.
        kind: What it is, in words.
    """

    path: str
    kind: str


@dataclass(frozen=True)
class Images(Figures):
    """The images that lie at a path.

    Attributes:
        classes: Names of the classes; none where there are no labels.
        channels: Number of channels of an image.
        image_size: Height and width that images are brought to, pixels.
        splits: Name of a split -> its images.
        use: The changes of a recipe that read them, each as ``--set`` takes it.
    """

    classes: list[str]
    channels: int
    image_size: ImageSize
    splits: dict[str, SplitFacts]
    use: list[str]


@dataclass(frozen=True)
class CheckedData(Figures):
    """A data set whose files were checked.

    Attributes:
        dataset: Its name; for a path, that of the data set that reads it.
        ready: Whether every split can be read without a download.
        files: The state of each file.
        place: Where and what it is; None for a data set by name.
        images: What there is; None for a data set by name, and where it cannot be read.
    """

    dataset: str
    ready: bool
    files: list[FileState]
    place: Place | None = field(default=None, metadata=spread())
    images: Images | None = field(default=None, metadata=spread())
