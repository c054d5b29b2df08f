"""Store the state of an unfinished block in a file of its own, so that a stop loses no work."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from rushkit.errors import CheckpointError
from rushkit.files import JSON
from rushkit.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rushkit.run.log import Table
from rushkit.run.names import SUFFIX

# Between a block's number and the suffix of what is known of it so far.
_PART = ".part"


class Partial:
    """The file of one unfinished block, so that a stop between two attacks loses no work.

    Args:
        path: The file.
        subject: The facts that the state depends on; a file with another subject is ignored.
    """

    def __init__(self, path: Path, subject: Table) -> None:
        self.path = path
        self._subject = subject

    def load(self, start: int) -> Checkpoint | None:
        """Return the stored state of the block that starts at an image; None if there is none."""
        try:
            stored = load_checkpoint(self.path)
        except CheckpointError:
            return None
        return stored if stored.meta.get("subject") == {**self._subject, "start": start} else None

    def save(self, start: int, tensors: dict[str, Tensor], meta: Mapping[str, JSON]) -> None:
        """Store the state of the block that starts at an image."""
        save_checkpoint(self.path, tensors, {"subject": {**self._subject, "start": start}, **meta})


class Partials:
    """The partial files of a job's blocks.

    Args:
        folder: The folder of the files.
        name: Name of the job.
        subject: The facts that the states depend on.
    """

    def __init__(self, folder: Path, name: str, subject: Table) -> None:
        self._folder = folder
        self._name = name
        self._subject = subject

    def of(self, start: int) -> Partial:
        """Return the partial file of the block that starts at an image."""
        return Partial(self._folder / f"{self._name}.{start:08d}{_PART}{SUFFIX}", self._subject)

    def exist(self) -> bool:
        """Return whether the state of any block of the job is stored."""
        return any(self._files())

    def clear(self, done: int) -> None:
        """Delete the files of blocks within the first ``done`` images, which have an outcome."""
        for path in self._files():
            if int(path.name.removesuffix(f"{_PART}{SUFFIX}")[-8:]) < done:
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        return self._folder.glob(f"{glob.escape(self._name)}.{'[0-9]' * 8}{_PART}{SUFFIX}")
