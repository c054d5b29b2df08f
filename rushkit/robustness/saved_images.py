"""Save the adversarial images of a run: block by block while the attack runs, and as one file when it is done.

They are saved as float32, because rounding to whole grey levels can move an image out of its ball.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch
from torch import Tensor

from rushkit.errors import RushkitError
from rushkit.files import JSON
from rushkit.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rushkit.run.folder import Run
from rushkit.run.names import SUFFIX

FOLDER = "adversarial"
# The key of the file's metadata that holds the hash of the originals and labels, as ``setup.subject.fingerprint_of``.
CONTENT = "content"


class SavedImages:
    """The adversarial images of one job: one file for each block while it runs, one file for all when it is done.

    Args:
        run: The run; the images go to its folder ``adversarial``.
        name: The name of the job.
    """

    def __init__(self, run: Run, name: str) -> None:
        self._blocks = run.path / FOLDER / name
        self.path = run.path / FOLDER / f"{name}{SUFFIX}"
        run.subfolder(FOLDER)

    def resume(self, done: int) -> None:
        """Delete the images of blocks without a logged outcome: an earlier process was killed before it logged them.

        Args:
            done: How many images have an outcome.

        Raises:
            RushkitError: some images with an outcome were not saved.
        """
        for path in self._paths():
            if int(path.stem) >= done:
                path.unlink()
        if not self.path.exists() and done != sum(len(block.tensors["labels"]) for block in self._kept()):
            raise RushkitError(f"{done} images were attacked without saving them", "start a new run with --save")

    def keep(self, start: int, x_adv: Tensor, labels: Tensor) -> None:
        """Write the images of a block; call this before its outcome is logged."""
        self._blocks.mkdir(exist_ok=True)
        save_checkpoint(self._blocks / f"{start:08d}{SUFFIX}", _tensors(x_adv, labels, start), {})

    def assemble(self, meta: dict[str, JSON]) -> Path:
        """Join all blocks into one file: ``images`` (N, C, H, W) float32, ``labels`` and ``indices`` (N,) int64.

        An index is a position in the limited split, not in the data set's own order.
        """
        if not self.path.exists():
            kept = self._kept()
            joined = {key: torch.cat([block.tensors[key] for block in kept]) for key in kept[0].tensors}
            save_checkpoint(self.path, joined, meta)
        for path in self._paths():
            path.unlink()
        # If the folder holds other files, it stays.
        with contextlib.suppress(OSError):
            self._blocks.rmdir()
        return self.path

    def drop(self) -> None:
        """Delete the images of an attack that failed."""
        for path in self._paths():
            path.unlink()
        with contextlib.suppress(OSError):
            self._blocks.rmdir()

    def images(self) -> dict[str, Tensor]:
        """Load the file that ``assemble`` wrote. Raises CheckpointError if it is gone or damaged."""
        return load_checkpoint(self.path).tensors

    def _paths(self) -> list[Path]:
        return sorted(self._blocks.glob("[0-9]" * 8 + SUFFIX))

    def _kept(self) -> list[Checkpoint]:
        return [load_checkpoint(path) for path in self._paths()]


def _tensors(x_adv: Tensor, labels: Tensor, start: int) -> dict[str, Tensor]:
    return {
        "images": x_adv.detach().cpu().to(torch.float32),
        "labels": labels.cpu(),
        "indices": torch.arange(start, start + len(labels)),
    }
