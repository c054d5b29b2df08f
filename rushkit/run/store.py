"""The checkpoints of one run: the last ones and the best, behind two small pointer files."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from rushkit.errors import CheckpointError, showable
from rushkit.files import JSON, remove_leftovers, write_atomic, write_error
from rushkit.paths import read_text
from rushkit.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rushkit.run.names import POINTERS, SUFFIX

_STEP_NAME = re.compile(r"step-(\d{6,18})" + re.escape(SUFFIX))


def _log_warning(text: str) -> None:
    logging.getLogger(__name__).warning("%s", showable(text))


class CheckpointStore:
    """Checkpoints as ``step-000123.safetensors`` files; the files ``last`` and ``best`` name one each.

    A kill at any moment leaves a state that loads. One process writes to a folder at a time; the run's lock sees to it.

    Args:
        folder: Where they lie; made when the first one is saved.
        keep: How many of the newest stay; the best stays too. At least 2 do: one to fall back to.
        writable: True for the folder's one writer: leftovers of a killed one are removed now.
        warn: What to call with a sentence about a checkpoint that was passed over; logging by default.
    """

    def __init__(
        self,
        folder: str | Path,
        keep: int = 2,
        writable: bool = True,
        warn: Callable[[str], None] = _log_warning,
    ) -> None:
        self.folder = Path(folder)
        self.keep = keep
        self._writable = writable
        self._warn = warn
        if writable:
            remove_leftovers(self.folder)

    def save(
        self, step: int, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, JSON], best: bool = False
    ) -> Path:
        """Write the checkpoint of a step, point ``last`` (and ``best``) at it, and drop those no longer kept.

        Raises:
            CheckpointError: the store was opened for reading, or a tensor cannot be stored.
            RushkitError: no room or no permission; the checkpoints from before still load.
        """
        if not self._writable:
            raise CheckpointError(f"{self.folder} was opened for reading only", "open its run to write to it")
        try:
            # Not its parents: the folder of a run that is gone must not come back half.
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise write_error(self.folder, error) from error
        path = self.folder / f"step-{step:06d}{SUFFIX}"
        save_checkpoint(path, tensors, meta)
        for pointer in POINTERS if best else ("last",):
            write_atomic(self.folder / pointer, [f"{path.name}\n".encode()])
        self._prune(step)
        return path

    def paths(self) -> list[Path]:
        """Return the checkpoint files in the order in which ``load_latest`` tries them."""
        paths = [path for _, path in sorted(self._steps().items(), reverse=True)]
        last = self.pointed("last")
        return [last, *(path for path in paths if path != last)] if last else paths

    def load_latest(self, device: torch.device | str = "cpu") -> Checkpoint | None:
        """Load the last whole checkpoint, and warn of each damaged one passed over; None where none was ever saved.

        Raises:
            CheckpointError: there are checkpoints, and every one is damaged.
        """
        problems = []
        for path in self.paths():
            try:
                checkpoint = load_checkpoint(path, device)
            except CheckpointError as error:
                problems.append(error.message)
                continue
            for problem in problems:
                self._warn(f"{problem}; {path.name} is used instead")
            return checkpoint
        if problems:
            raise CheckpointError(f"no checkpoint loads: {'; '.join(problems)}", "start the run anew")
        return None

    def pointed(self, pointer: str) -> Path | None:
        """Return the file that ``"last"`` or ``"best"`` names; None if the pointer is missing or malformed."""
        try:
            name = read_text(self.folder / pointer).strip()
        except OSError:
            return None
        return self.folder / name if _STEP_NAME.fullmatch(name) else None

    def _steps(self) -> dict[int, Path]:
        matches = ((_STEP_NAME.fullmatch(path.name), path) for path in self.folder.glob(f"step-*{SUFFIX}"))
        return {int(match[1]): path for match, path in matches if match}

    def _prune(self, step: int) -> None:
        """Delete checkpoints older than the newest ``keep``, except the best.

        Files of later steps stay: after a fall-back, training passes those steps again and overwrites them.
        """
        steps = self._steps()
        older = sorted((known for known in steps if known <= step), reverse=True)[max(self.keep, 2) :]
        best = self.pointed("best")
        for known in older:
            if steps[known] != best:
                try:
                    steps[known].unlink(missing_ok=True)
                except OSError as error:
                    self._warn(f"the old checkpoint {steps[known]} cannot be removed: {error}")
