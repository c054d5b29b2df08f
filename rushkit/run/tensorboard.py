"""The scalars of metrics.jsonl as an event file for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from rushkit.errors import UsageError
from rushkit.files import write_error
from rushkit.paths import direct

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# Seconds until a scalar is on the disk at the latest.
_FLUSH_SECONDS = 10
# Where a line stands, and of what kind it is: its place on the axis and its tag, not its figures.
_PLACE = ("step", "epoch", "kind")


class ScalarEvents:
    """An event file that says what a metrics file says, under the tags ``KIND/NAME`` (``step/loss``, ``epoch/loss``).

    It is written anew from the metrics file whenever a run goes on, so it has no gaps and no repeats either, whatever a
    kill left of the one before. The price: scalars from before a resume bear the clock time of the resume.

    Args:
        folder: Where the file goes; made when the first line comes.

    Raises:
        UsageError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        check_installed()
        self.folder = folder
        self._writer: SummaryWriter | None = None

    @property
    def begun(self) -> bool:
        """Whether an event file is open."""
        return self._writer is not None

    def begin(self, lines: Iterable[Mapping[str, JsonValue]]) -> None:
        """Start a new file, in place of what there was, with these lines of metrics.

        Raises:
            RushkitError: no room or no permission.
        """
        # It takes a second to import, and only runs that want it need it.
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        try:
            # TensorBoard would make its parents as well, and so bring back the folder of a run that is gone.
            self.folder.mkdir(exist_ok=True)
            for old in self.folder.glob("events.out.tfevents.*"):
                # Emptied and not removed: a TensorBoard that is reading it would never come to the new one.
                with open(old, "wb", opener=direct):
                    pass
            # purge_step makes it forget what the old file told it.
            self._writer = SummaryWriter(str(self.folder), purge_step=0, flush_secs=_FLUSH_SECONDS)
        except OSError as error:
            raise write_error(self.folder, error) from error
        for line in lines:
            self.add(line)
        self.flush()

    def add(self, line: Mapping[str, JsonValue]) -> None:
        """Add the numbers of one line of metrics; a line without a step has no place on the axis, and is left out.

        Raises:
            RushkitError: no room or no permission.
        """
        if self._writer is None or "step" not in line:
            return
        kind = f"{line['kind']}/" if "kind" in line else ""
        try:
            for name, value in line.items():
                if name not in _PLACE and isinstance(value, int | float):
                    self._writer.add_scalar(f"{kind}{name}", value, line["step"])
        except OSError as error:
            raise write_error(self.folder, error) from error

    def flush(self) -> None:
        """Write buffered scalars to the file."""
        if self._writer is not None:
            try:
                self._writer.flush()
            except OSError as error:
                raise write_error(self.folder, error) from error

    def close(self) -> None:
        """Close the file. Never raises: what could not be written, the next ``begin`` writes."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                writer.close()
            except OSError:
                return


def check_installed() -> None:
    """Raise UsageError if TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise UsageError("TensorBoard is not installed", "pip install 'rushkit[tensorboard]'")
