"""The scalars of metrics.jsonl as an event file for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rushkit.errors import UsageError
from rushkit.files import write_error
from rushkit.paths import direct
from rushkit.trackers import TrackedRun

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# The folder of a run that holds the event file.
FOLDER = "tensorboard"
# Seconds until a scalar is on the disk at the latest.
_FLUSH_SECONDS = 10


class TensorBoard:
    """An event file in the run's ``tensorboard/``, with the tags ``step/loss``, ``epoch/loss``, ... and a text ``run``.

    It is written anew whenever a run goes on, so it has no gaps and no repeats either, whatever a kill left of the one
    before. The price: scalars from before a resume bear the clock time of the resume.

    Raises:
        UsageError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise UsageError("TensorBoard is not installed", "pip install 'rushkit[tensorboard]'")
        self._writer: SummaryWriter | None = None

    def begin(self, run: TrackedRun) -> None:
        """Start a new file, in place of what there was. Raises RushkitError for no room or no permission."""
        # It takes a second to import, and only runs that want it need it.
        from torch.utils.tensorboard import SummaryWriter

        folder = run.subfolder(FOLDER)
        try:
            for old in folder.glob("events.out.tfevents.*"):
                # Emptied and not removed: a TensorBoard that is reading it would never come to the new one.
                with open(old, "wb", opener=direct):
                    pass
            # purge_step makes it forget what the old file told it.
            self._writer = SummaryWriter(str(folder), purge_step=0, flush_secs=_FLUSH_SECONDS)
        except OSError as error:
            raise write_error(folder, error) from error
        facts = "\n".join(f"{key}: {value}  " for key, value in run.facts().items())
        self._writer.add_text("run", facts, 0)

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add the scalars of a step."""
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write buffered scalars to the file."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()
